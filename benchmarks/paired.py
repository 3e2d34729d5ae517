"""Whether two scores differ, over seeds or within one: means, differences and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Two-sided 95 % quantiles by the number of seeds. Above ten the last one is taken: an interval a little too wide."""

Interval = tuple[float, float]
"""Both ends of what one run's exam leaves open: 95 %, a bootstrap over its questions (``selfplay.evaluate``)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean and half of its 95 % interval; None where there is nothing to take one from."""

    mean: float
    half: float | None

    @property
    def word(self) -> str:
        """``up`` or ``down`` where the interval leaves out 0, else ``no``; ``-`` without an interval."""
        if self.half is None:
            return "-"
        return "no" if abs(self.mean) <= self.half else "up" if self.mean > 0 else "down"

    def __str__(self) -> str:
        return f"{self.mean:+.3f}" + (f" +- {self.half:.3f}" if self.half is not None else "")


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of a mean over seeds, by Student's t; None for a single one."""
    if len(values) < 2:
        return None
    return STUDENT_T.get(len(values), STUDENT_T[10]) * stdev(values) / math.sqrt(len(values))


def difference(
    after: Sequence[float], before: Sequence[float], exams: tuple[Interval, Interval] | None = None
) -> Difference:
    """``after`` less ``before``, where equal places are the same seed.

    Over several seeds the differences are paired, by Student's t: what a seed has of its own, its start and its
    questions, falls out. For a single seed the intervals of the two ``exams`` are put together as those of independent
    measurements. Both sat the same questions, so that is wider than it need be; and it says nothing of other seeds.
    """
    gaps = [one - other for one, other in zip(after, before, strict=True)]
    if len(gaps) > 1 or exams is None:
        return Difference(fmean(gaps), half_width(gaps))
    return Difference(gaps[0], math.hypot(*((high - low) / 2 for low, high in exams)))
