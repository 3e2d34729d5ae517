"""The verifier's seat: named verifiers side by side, with gates, vetoes and rules that make one score of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from selfplay.types import Action, Case, Stateful, Verifier
from verifiers.combine import RULES, WEIGHED, combine
from verifiers.none import Nobody
from verifiers.part import Job, Part, VerifierFailed

__all__ = ["COMBINED", "Panel", "VerifierFailed", "guarded", "seat"]

COMBINED = "score"
"""The verdict's part where ``combine`` makes one score of all."""

FAILED, UNKNOWN = 0.0, float("nan")


class Panel:
    """``Panel(score=..., quality=...)`` plays ``{"score": 0.7, "quality": 0.57}`` for every case.

    - ``gate``: parts that are asked first, in order. A case that one of them scores below ``passes`` is 0 in every
      part of the verdict, and no later verifier is called on it.
    - ``veto``: parts asked beside the others: below ``passes`` the whole verdict is 0, whatever the others say.
    - ``combine``: ``sum``, ``mean``, ``min``, ``max`` or ``product`` of the remaining parts, as the one part
      ``score``; ``weights`` are for sum and mean. A panel that combines is a verifier itself and nests in another.

    Gates and vetoes are no parts of the verdict. nan, "cannot tell", stays nan through every rule, but a failed gate or
    a veto is 0 all the same. Each verifier's call ends within ``deadline`` seconds: what it is and how it is ended is
    in ``assemble``. Failures of any kind are nan and counted (``verifiers/<part>/<kind>``); after ``max_failed_steps``
    failed calls in a row ``VerifierFailed`` stops the run.
    """

    composite: ClassVar[bool] = True  # its arguments are verifiers: each is built, and isolated, by itself

    def __init__(
        self,
        *,
        deadline: float = 300.0,
        max_failed_steps: int = 5,
        gate: str | Sequence[str] | None = None,
        veto: str | Sequence[str] | None = None,
        passes: float = 0.5,
        combine: Literal["sum", "mean", "min", "max", "product"] | None = None,
        weights: Mapping[str, float] | None = None,
        **verifiers: Verifier,
    ) -> None:
        if not verifiers:
            raise ValueError("a panel needs at least one verifier, as verifier/parts=[sympy_solver@score]")
        if not deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, not {deadline}")
        if max_failed_steps < 1:
            raise ValueError(f"max_failed_steps must be at least 1, not {max_failed_steps}")
        if passes != passes:
            raise ValueError("passes must be a number: nothing is below nan, and nothing above")
        for name, verifier in verifiers.items():
            if isinstance(verifier, Panel):
                verifier.check_nests(name)
        self.verifiers = verifiers
        self.deadline, self.passes, self.rule = deadline, passes, combine
        self.gates, self.vetoes = (_names(key, named, verifiers) for key, named in (("gate", gate), ("veto", veto)))
        self.weights = {part: float(weight) for part, weight in (weights or {}).items()}
        self._weighed = [name for name in verifiers if name not in (*self.gates, *self.vetoes)]
        self._check_rule()
        self.parts = (COMBINED,) if combine else tuple(self._weighed)
        self._members = {name: Part(name, verifier, max_failed_steps) for name, verifier in verifiers.items()}

    def act(self, observations: Sequence[Case], seeds: Sequence[int]) -> list[Action]:
        return self.begin(observations)()

    def begin(self, observations: Sequence[Case]) -> Callable[[], list[Action]]:
        """Ask the gates, and start every verifier that can work beside what the caller does next; what is returned
        asks the others, waits, and gives one verdict for each case."""
        fates, undecided = self._pass_gates(observations)
        asked = [observations[i] for i in undecided]
        jobs: dict[str, Job] = {}
        for name, member in self._members.items():
            if name not in self.gates:
                member.skipped(len(observations) - len(asked))
                jobs[name] = member.start(asked, self.deadline)
        return partial(self._finish, fates, undecided, jobs)

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        """One score for each case, for a panel inside another."""
        self.check_nests()
        return [action.move[COMBINED] for action in self.begin(cases)()]

    def metrics(self) -> dict[str, float]:
        """Since the last call, of every part: see ``Part.metrics``."""
        metrics: dict[str, float] = {}
        for member in self._members.values():
            metrics |= member.metrics()
        return metrics

    def warnings(self) -> list[str]:
        """What whoever ends a run should read: a sentence for every part that was called and never gave a score."""
        found = [member.warning() for member in self._members.values()]
        nested = (verifier for verifier in self.verifiers.values() if isinstance(verifier, Panel))
        return [*filter(None, found), *(warning for panel in nested for warning in panel.warnings())]

    def close(self) -> None:
        """End the workers of those parts that have any."""
        for verifier in self.verifiers.values():
            end = getattr(verifier, "close", None)
            if end is not None:
                end()

    def save(self, folder: Path) -> None:
        """The state of the parts that have any, a folder each."""
        for name, verifier in self.verifiers.items():
            if isinstance(verifier, Stateful):
                (folder / name).mkdir()
                verifier.save(folder / name)

    def load(self, folder: Path) -> None:
        for name, verifier in self.verifiers.items():
            if isinstance(verifier, Stateful) and (folder / name).is_dir():
                verifier.load(folder / name)

    def check_nests(self, name: str = "") -> None:
        """Raise ``ValueError`` unless this panel gives one score, which another panel calls ``name``."""
        if self.rule is None:
            inside = f"the panel {name!r}" if name else "this panel"
            setting = f"{name}.combine=mean" if name else "combine=mean"
            raise ValueError(f"{inside} gives {', '.join(self.parts)}: to make one score of them set {setting}")

    def _pass_gates(self, cases: Sequence[Case]) -> tuple[dict[int, float], list[int]]:
        """The cases that a gate has decided, with their scores, and the others."""
        fates: dict[int, float] = {}
        undecided = list(range(len(cases)))
        for name in self.gates:
            self._members[name].skipped(len(fates))
            scores = self._members[name].start([cases[i] for i in undecided], self.deadline)()
            decided = zip(undecided, map(self._fate, scores), strict=True)
            fates |= {i: fate for i, fate in decided if fate is not None}
            undecided = [i for i in undecided if i not in fates]
        return fates, undecided

    def _fate(self, score: float) -> float | None:
        """What a gate or veto makes of a case; None where it lets it pass."""
        if score != score:
            return UNKNOWN
        return None if score >= self.passes else FAILED

    def _finish(self, fates: Mapping[int, float], undecided: Sequence[int], jobs: Mapping[str, Job]) -> list[Action]:
        columns = {name: job() for name, job in jobs.items()}
        moves = {i: dict.fromkeys(self.parts, fate) for i, fate in fates.items()}
        for row, i in enumerate(undecided):
            vetoed = [fate for name in self.vetoes if (fate := self._fate(columns[name][row])) is not None]
            scores = {name: columns[name][row] for name in self._weighed}
            if vetoed:
                moves[i] = dict.fromkeys(self.parts, FAILED if FAILED in vetoed else UNKNOWN)
            elif self.rule is not None:
                moves[i] = {COMBINED: combine(self.rule, scores, self.weights)}
            else:
                moves[i] = scores
        return [Action(moves[i]) for i in range(len(moves))]

    def _check_rule(self) -> None:
        named = [*self.gates, *self.vetoes]
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"{name!r} is named twice by gate and veto: a part is one or the other, once")
        if not self._weighed:
            raise ValueError("every part is a gate or a veto: no verifier is left to give a score")
        if self.rule is not None and self.rule not in RULES:
            raise ValueError(
                f"combine={self.rule!r} is unknown: use {', '.join(RULES)}, or leave it out for a verdict of parts"
            )
        if self.weights and self.rule not in WEIGHED:
            raise ValueError(
                "weights need combine=sum or combine=mean; the parts of a verdict are weighed by env.payoff"
            )
        for part, weight in self.weights.items():
            if part not in self._weighed:
                raise ValueError(f"weights names {part!r}; the parts that count are {', '.join(self._weighed)}")
            if not math.isfinite(weight):
                raise ValueError(f"weights.{part}={weight}: a weight is a finite number")
            if weight < 0 and self.rule == "mean":
                raise ValueError(f"weights.{part}={weight}: a mean takes no negative weight; combine=sum does")
        if self.rule == "mean" and not sum(self.weights.get(part, 1.0) for part in self._weighed):
            raise ValueError("the weights of the mean are all 0")


def _names(key: str, named: str | Sequence[str] | None, known: Mapping[str, Verifier]) -> tuple[str, ...]:
    names = (named,) if isinstance(named, str) else tuple(named or ())
    for name in names:
        if name not in known:
            raise ValueError(f"{key} names {name!r}, but the panel's parts are {', '.join(known)}")
    return names


def guarded(verifier: Verifier, deadline: float = 300.0) -> Panel:
    """A verifier that is called outside the game, with the same deadline and counts: a panel of one that nests."""
    return Panel(score=verifier, combine="sum", deadline=deadline)


def seat(verifier: Verifier | Panel | Nobody, deadline: float = 300.0) -> Panel | Nobody:
    """A panel, or nobody, as it is; a bare verifier as the part ``score``."""
    return verifier if isinstance(verifier, Panel | Nobody) else Panel(score=verifier, deadline=deadline)
