"""The verifier's seat: named verifiers side by side, whose scores together are the verdict."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from selfplay.types import Action, Case, Verifier

log = logging.getLogger(__name__)


class VerifierFailed(RuntimeError):
    """A verifier that failed step after step: going on would train on nothing."""


class Panel:
    """``Panel(score=..., quality=...)`` plays ``{"score": 0.7, "quality": 0.57}`` for every case.

    A verifier that raises, or gives a wrong number of scores, scores nothing: its part is nan for the whole call,
    ``verifiers/<part>/failed_calls`` counts it, and the first failure is logged with its traceback. A score that is
    no number is nan too and counted as ``bad_scores``. After ``max_failed_steps`` failed calls in a row the run stops
    with ``VerifierFailed``.
    """

    def __init__(self, *, max_failed_steps: int = 5, **verifiers: Verifier) -> None:
        if not verifiers:
            raise ValueError("a panel needs at least one verifier, as score: {_target_: ...}")
        for part, verifier in verifiers.items():
            if not callable(verifier):
                raise TypeError(f"verifier {part!r} is a {type(verifier).__name__}, which cannot be called on cases")
        self.verifiers = verifiers
        self.parts = tuple(verifiers)
        self.max_failed_steps = max_failed_steps
        self._failed_in_a_row: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._scores: dict[str, list[float]] = {part: [] for part in verifiers}

    def act(self, observations: Sequence[Case], seeds: Sequence[int]) -> list[Action]:
        columns = {part: self._call(part, observations) for part in self.parts}
        for part, scores in columns.items():
            self._scores[part] += scores
        rows = zip(*columns.values(), strict=True)
        return [Action(dict(zip(self.parts, row, strict=True))) for row in rows]

    def metrics(self) -> dict[str, float]:
        """Since the last call: mean and spread of every part, nans and failures, and what the verifiers count."""
        metrics: dict[str, float] = {}
        for part, scores in self._scores.items():
            known = [score for score in scores if score == score]
            if known:
                metrics[f"rewards/{part}/mean"] = fmean(known)
                metrics[f"rewards/{part}/std"] = pstdev(known)
            if scores:
                metrics[f"verifiers/{part}/nan_share"] = 1 - len(known) / len(scores)
            own = getattr(self.verifiers[part], "metrics", None)
            if own is not None:
                metrics |= {f"verifiers/{part}/{name}": float(value) for name, value in own().items()}
        metrics |= {f"verifiers/{name}": float(count) for name, count in self._counts.items()}
        self._scores = {part: [] for part in self.parts}
        self._counts.clear()
        return metrics

    def _call(self, part: str, cases: Sequence[Case]) -> list[float]:
        shown = [dict(case) for case in cases]  # a verifier that writes into its cases must not change the episode
        try:
            scores = list(self.verifiers[part](shown))
            if len(scores) != len(cases):
                raise ValueError(f"{len(scores)} scores for {len(cases)} cases")
        except Exception as error:  # whatever a user's code raises is its failure and never a score
            self._failed(part, error)
            return [float("nan")] * len(cases)
        self._failed_in_a_row[part] = 0
        return [self._number(part, score) for score in scores]

    def _failed(self, part: str, error: Exception) -> None:
        self._counts[f"{part}/failed_calls"] += 1
        self._failed_in_a_row[part] += 1
        if self._failed_in_a_row[part] == 1:
            log.error("verifier %r failed; its scores are nan", part, exc_info=error)
        if self._failed_in_a_row[part] >= self.max_failed_steps:
            raise VerifierFailed(
                f"verifier {part!r} failed {self.max_failed_steps} times in a row: {type(error).__name__}: {error}"
            ) from error

    def _number(self, part: str, score: object) -> float:
        """The score as a finite float; text, None and infinities are nan and counted."""
        try:
            value = float(score) if not isinstance(score, (str, bytes)) else float("nan")  # type: ignore[arg-type]
        except (TypeError, ValueError):
            value = float("inf")
        if isinstance(score, (str, bytes)) or value in (float("inf"), float("-inf")):
            self._counts[f"{part}/bad_scores"] += 1
            return float("nan")
        return value


def seat(verifier: Verifier | Panel) -> Panel:
    """A panel as it is; a bare verifier as the part ``score``."""
    return verifier if isinstance(verifier, Panel) else Panel(score=verifier)
