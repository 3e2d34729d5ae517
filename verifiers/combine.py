"""How several scores of one case become one: sum, mean, min, max or product, with weights where they mean something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Rule = Callable[[Sequence[float], Sequence[float]], float]


def _sum(scores: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(score * weight for score, weight in zip(scores, weights, strict=True))


def _mean(scores: Sequence[float], weights: Sequence[float]) -> float:
    return _sum(scores, weights) / math.fsum(weights)


RULES: dict[str, Rule] = {
    "sum": _sum,
    "mean": _mean,
    "min": lambda scores, weights: min(scores),
    "max": lambda scores, weights: max(scores),
    "product": lambda scores, weights: math.prod(scores),
}
WEIGHED = ("sum", "mean")
"""The rules that weights mean something to."""


def combine(rule: str, scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """One score by ``rule``; a part without a weight has 1. nan, "cannot tell", in any part is nan for the whole: a
    maximum or a mean over what happens to be known would pay for the verifiers that failed."""
    if any(score != score for score in scores.values()):
        return math.nan
    return RULES[rule](list(scores.values()), [weights.get(part, 1.0) for part in scores])
