"""Proposals: the turns that set the others a task, each with everything that grew from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from selfplay.compose import did_you_mean
from selfplay.types import VERIFIER, Episode, Turn


class GateError(ValueError):
    """A gate that cannot work with what it is given, in one sentence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn that proposes, with all the leaves that grew from it. ``text`` is what it proposes."""

    turn: Turn
    leaves: tuple[Episode, ...]
    text: str

    @property
    def forfeit(self) -> bool:
        """Whether the proposer itself broke the rules by it."""
        return all(leaf.forfeit == self.turn.role and leaf.turns[-1] is self.turn for leaf in self.leaves)

    @property
    def judged(self) -> list[Episode]:
        """The leaves that have a verdict."""
        return [leaf for leaf in self.leaves if leaf.turns[-1].role == VERIFIER]

    def part(self, leaf: Episode, name: str) -> float:
        """A part of a judged leaf's verdict. Raises ``GateError`` where the verdict has no such part."""
        if name not in leaf.verdict:
            known = ", ".join(leaf.verdict)
            raise GateError(f"gate: the verdict has no part {name!r}{did_you_mean(name, leaf.verdict)}: {known}")
        return leaf.verdict[name]

    def scores(self, name: str) -> list[float]:
        """What is known of a part of the verdict, leaf by leaf. An answer that broke the rules counts as 0; what no
        verifier could tell is left out."""
        judged = self.judged
        known = [self.part(leaf, name) for leaf in judged if not math.isnan(self.part(leaf, name))]
        return known + [0.0] * (len(self.leaves) - len(judged))


def proposing_turn(episode: Episode, role: str | None) -> Turn | None:
    """The first turn of ``role``, or of whoever speaks first; None where nobody came to propose."""
    if role is None:
        return episode.turns[0] if episode.turns else None
    return next((turn for turn in episode.turns if turn.role == role), None)


def candidates(episodes: Sequence[Episode], role: str | None, slot: str) -> list[Candidate]:
    """The proposals of ``episodes``, in the order of the tree. Raises ``GateError`` for a role that never speaks and
    for a slot that no case has."""
    leaves: dict[Turn, list[Episode]] = {}
    for episode in episodes:
        turn = proposing_turn(episode, role)
        if turn is not None:
            leaves.setdefault(turn, []).append(episode)
    if role is not None and episodes and not leaves and not _ended_before(role, episodes):
        known = list(dict.fromkeys(turn.role for episode in episodes for turn in episode.turns))
        raise GateError(f"gate.role={role!r} never speaks{did_you_mean(role, known)}: {', '.join(known)}")
    return [Candidate(turn, tuple(grown), _text(turn, grown, slot)) for turn, grown in leaves.items()]


def _ended_before(role: str, episodes: Sequence[Episode]) -> bool:
    """Whether a role of the game may have had no chance to speak."""
    return any(episode.forfeit and role in episode.returns for episode in episodes)


def _text(turn: Turn, leaves: Sequence[Episode], slot: str) -> str:
    """What a case holds in the slot; where no leaf came to a case, what was said."""
    case = next((leaf.case for leaf in leaves if leaf.case), None)
    if case is None:
        return str(turn.action.move)
    if slot not in case:
        raise GateError(f"gate.slot={slot!r} is no slot{did_you_mean(slot, case)}: {', '.join(sorted(case))}")
    return case[slot]
