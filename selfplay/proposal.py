"""How a shape reads a proposal: its leaves' verdicts, what is wrong with it itself, and how it repeats its siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from selfplay.clusters import cluster_shares
from selfplay.compose import did_you_mean
from selfplay.credit import Leaves
from selfplay.types import Episode, Turn

Ends = Sequence[Episode]
"""Leaves of one turn."""


@dataclass(frozen=True)
class Proposal:
    """A shape that pays each turn by its own leaves: ``worth`` of those at which nothing was wrong with it.

    A leaf's *score* is the verdict's part ``part``, and 0 where another role has forfeited: nothing usable was said. A
    proposal is ``malformed`` where its own role forfeits (a move that is not of the game's pattern), and ``unusable``
    where the verdict has a part ``valid`` below 1: these are what it then is worth, None for what the game pays.
    """

    part: str = "score"
    malformed: float | None = None
    unusable: float | None = None

    def __call__(self, turns: Sequence[Turn], leaves: Leaves) -> list[float]:
        return [self.pay(turn, leaves[turn], partial(self.worth, turn)) for turn in turns]

    def worth(self, turn: Turn, ends: Ends) -> float:
        """The value of a sound proposal with at least one leaf."""
        raise NotImplementedError

    def pay(self, turn: Turn, ends: Ends, worth: Callable[[Ends], float]) -> float:
        """``worth`` of the leaves, or what a fault costs. Faults at some leaves only, by a later move of the same role,
        weigh by their number."""
        faults = {end: self.fault(turn, end) for end in ends}
        costs = [fault for fault in faults.values() if fault is not None]
        sound = [end for end, fault in faults.items() if fault is None]
        if not costs:
            return worth(sound)
        return fmean([*costs, *([worth(sound)] * len(sound) if sound else [])])

    def fault(self, turn: Turn, end: Episode) -> float | None:
        """What a turn's seat gets for a fault of its own, None where there is none; who broke the rules spoke last."""
        if end.forfeit == turn.role and end.turns[-1].seat == turn.seat:
            fault = self.malformed
        elif end.verdict.get("valid", 1.0) < 1:
            fault = self.unusable
        else:
            return None
        return end.earned(turn) if fault is None else fault


def read(end: Episode, part: str) -> float:
    """A part of a leaf's verdict, 0 where a forfeit ended the game. Raises ``ValueError`` for an unknown part."""
    if end.forfeit:
        return 0.0
    if part not in end.verdict:
        known = ", ".join(end.verdict) or "nothing"
        raise ValueError(f"a shape reads {part!r} in the verdict{did_you_mean(part, end.verdict)}, which has {known}")
    return end.verdict[part]


def mean_of(ends: Ends, part: str) -> float:
    """The mean of a part over leaves, on whatever scale it has."""
    return fmean(read(end, part) for end in ends)


def rate_of(ends: Ends, part: str) -> float:
    """p, the mean of a part over leaves, whose values must lie in [0, 1]. Raises ``ValueError``."""
    for end in ends:
        if not 0 <= read(end, part) <= 1:
            raise ValueError(
                f"a shape reads {part!r} as a rate, and a verdict has {read(end, part):g} there: it needs a verifier "
                "whose scores lie between 0 and 1"
            )
    return mean_of(ends, part)


def said(turn: Turn, ends: Ends, slot: str) -> str:
    """What a proposal has put into ``slot``; its whole move where no game came to a verdict by another's fault, and ""
    where the proposal is malformed. Raises ``ValueError`` for an unknown slot."""
    if all(end.forfeit == turn.role for end in ends):
        return ""
    case = next((end.case for end in ends if end.case), None)
    if case is None:
        return str(turn.action.move)
    if slot not in case:
        raise ValueError(f"a shape reads the slot {slot!r}{did_you_mean(slot, case)}: the case has {', '.join(case)}")
    return case[slot]


def repetition(turns: Sequence[Turn], leaves: Leaves, slot: str) -> list[float]:
    """Per turn, the share of its siblings (itself among them) whose text in ``slot`` lies in its cluster."""
    return cluster_shares([said(turn, leaves[turn], slot) for turn in turns])
