"""How far a verifier agrees with a better one: rank correlation, confusion and gap, with intervals over questions.

All functions are pure. The *judged* scores are those in doubt, the *gold* scores are held for true; nan is "cannot
tell". Answers to one question are not independent, so an interval is a bootstrap that draws whole groups (all answers
to a question), and an error is robust to groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfplay.seeds import derive

RESAMPLES = 1_000
CONFIDENCE = 0.95
CELLS = 1 << 16
"""Cases times resamples that are weighed at once: enough to fill a vector unit, small enough for a cache."""

ALARM, RECENT, LEAST = 3.0, 3, 0.05
"""The alarm of ``widening``: standard errors, looks that are averaged, and the smallest widening that matters."""

Watched = dict[str, tuple[float, float]]
"""What is watched for growth -> its value and standard error."""

Vector = NDArray[np.float64]  # (N,) or (B,): N cases, B resamples
Array = NDArray[np.float64]  # (B, N)
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its 95 % interval; nan where it is not defined (no interval from a single question)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many answers each verifier accepts, a score of at least the threshold, with gold's word for the truth."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """One verifier against another. ``estimates`` holds

    - ``rank``: Spearman's rho, ties at their middle rank;
    - ``auc``: how often the judged score puts an answer that gold calls 1 above one that it calls 0; only where gold
      says nothing else;
    - ``agreement``: the share of answers that both accept or both reject, and ``kappa``, Cohen's, what of it is not
      chance;
    - ``false_positive_share``: of the answers that gold rejects, the share that is accepted;
      ``false_negative_share``: of those that gold accepts, the share that is rejected;
    - ``gap``: the mean of judged less gold, in the units of the scores, not clipped.
    """

    cases: int  # both could tell
    groups: int
    judged_unknown: float  # share of all cases
    gold_unknown: float  # share of the cases that judged could tell: paid, and nobody can say for what
    confusion: Confusion
    estimates: dict[str, Estimate]


STATISTICS = ("rank", "auc", "agreement", "kappa", "false_positive_share", "false_negative_share", "gap")


def compare(
    judged: Sequence[float], gold: Sequence[float], groups: Sequence[object], threshold: float = 0.5, seed: int = 0
) -> Agreement:
    """The agreement of two columns of scores, (N,) each, with the question of every case in ``groups``, (N,).

    >>> compare([0.9, 0.8, 0.2, 0.7], [1, 1, 0, 0], "aabb").confusion
    Confusion(true_positive=2, false_positive=1, false_negative=0, true_negative=1)
    """
    x, y = np.asarray(judged, dtype=float), np.asarray(gold, dtype=float)
    if not len(x) == len(y) == len(groups):
        raise ValueError(
            f"{len(x)} judged scores, {len(y)} of gold and {len(groups)} groups are not columns of a table"
        )
    told = ~np.isnan(x)
    known = told & ~np.isnan(y)
    numbers: dict[object, int] = {}
    members = np.array([numbers.setdefault(group, len(numbers)) for group in _kept(groups, known)], dtype=np.intp)
    columns = Columns(x[known], y[known], threshold)
    return Agreement(
        cases=int(known.sum()),
        groups=len(numbers),
        judged_unknown=float(np.isnan(x).mean()) if len(x) else math.nan,
        gold_unknown=float(np.isnan(y[told]).mean()) if told.any() else math.nan,
        confusion=columns.confusion(),
        estimates=bootstrap(columns.statistics, members, len(numbers), seed),
    )


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rho with ties at their middle rank; nan where a side is constant.

    Ranks 1 2.5 2.5 4 against 1 2 3 4: covariance 4.5, variances 4.5 and 5, so rho = 4.5 / sqrt(22.5).

    >>> round(spearman([1, 2, 2, 3], [1, 2, 3, 4]), 4)
    0.9487
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return float(Columns(a, b, 0.5).statistics(np.ones((1, len(a))))["rank"][0])


def bootstrap(
    statistics: Callable[[Array], dict[str, Vector]], members: Indices, groups: int, seed: int
) -> dict[str, Estimate]:
    """Every statistic with its percentile interval: ``groups`` groups are drawn with replacement, and a case counts as
    often as its group was drawn. A resample without an answer (no wrong one was drawn) is left out; where that
    happens to more than one in ten there is no interval."""
    whole = statistics(np.ones((1, len(members))))
    rng = np.random.default_rng(derive(seed, "agreement"))
    draws: list[dict[str, Vector]] = []
    rows = max(8, min(RESAMPLES, CELLS // max(1, len(members))))
    for start in range(0, RESAMPLES if groups > 1 else 0, rows):
        drawn = [rng.integers(groups, size=groups) for _ in range(min(rows, RESAMPLES - start))]
        times = np.stack([np.bincount(draw, minlength=groups) for draw in drawn]).astype(float)
        draws.append(statistics(np.take(times, members, axis=1)))
    none = np.empty(0)
    return {
        name: _estimate(float(value[0]), np.concatenate([draw[name] for draw in draws] or [none]))
        for name, value in whole.items()
    }


def mean_error(values: Sequence[float], groups: Sequence[object]) -> tuple[float, float]:
    """The mean and its standard error, robust to groups; nan values are left out.

    With deviations d from the mean, sums s_g = sum of d over group g and G groups among n cases, the error is
    sqrt(G / (G - 1) * sum of s_g^2) / n; nan for a single group.

    >>> mean_error([1.0, 1.0, 0.0, 0.0], "aabb")    # s = 1 and -1: sqrt(2 * 2) / 4
    (0.5, 0.5)
    """
    x = np.asarray(values, dtype=float)
    known = ~np.isnan(x)
    sums: dict[object, float] = {}
    if not known.any():
        return math.nan, math.nan
    mean = float(x[known].mean())
    for group, deviation in zip(_kept(groups, known), x[known] - mean, strict=True):
        sums[group] = sums.get(group, 0.0) + float(deviation)
    if len(sums) < 2:
        return mean, math.nan
    spread = math.fsum(total * total for total in sums.values())
    return mean, math.sqrt(len(sums) / (len(sums) - 1) * spread) / int(known.sum())


def watch(judged: Sequence[float], gold: Sequence[float], groups: Sequence[object]) -> Watched:
    """What is watched for growth, with errors: the gap, and the share that gold cannot tell of what judged could."""
    gaps = [a - b for a, b in zip(judged, gold, strict=True)]
    blind = [math.nan if a != a else float(b != b) for a, b in zip(judged, gold, strict=True)]
    return {"gap": mean_error(gaps, groups), "blind": mean_error(blind, groups)}


def widening(looks: Sequence[tuple[float, float]]) -> bool:
    """The alarm: has a gap grown, away from zero, since the first look, by more than chance?

    ``looks`` are (gap, standard error) in the order of steps. The mean of the last ``RECENT`` looks (fewer at the
    start) must lie further out than the first by ``ALARM`` joint standard errors and by ``LEAST``. Either sign counts:
    a Solver earns by a verifier that is too kind, its Challenger by one that is too strict. Looks whose gap or error
    is nan do not count.

    False alarms: without drift, with normal errors of 0.03 around a gap of 0.2, one look in 650 raises it and one run
    in 50 of a hundred looks (simulated); around a gap of 0 next to none. Few questions at a look make the error itself
    uncertain, and more of them.
    """
    known = [(gap, error) for gap, error in looks if not math.isnan(gap + error)]
    if len(known) < 2:
        return False
    (first, first_error), recent = known[0], known[1:][-RECENT:]
    now = math.fsum(gap for gap, _ in recent) / len(recent)
    variance = first_error**2 + math.fsum(error**2 for _, error in recent) / len(recent) ** 2
    outward = abs(now) - max(0.0, math.copysign(first, first * now))
    return outward > max(ALARM * math.sqrt(variance), LEAST)


class Columns:
    """Two columns without nan, (N,), sorted out once; ``statistics`` weighs them anew for each of B resamples."""

    def __init__(self, x: Vector, y: Vector, threshold: float) -> None:
        self._x, self._y = _levels(x), _levels(y)
        accepts, truth = x >= threshold, y >= threshold
        kinds = (accepts & truth, accepts & ~truth, ~accepts & truth, ~accepts & ~truth)
        self._kinds = np.stack(kinds, axis=1).astype(float)  # (N, 4)
        self._gaps = x - y
        self._right = (y == 1.0).astype(float)
        self._binary = bool(np.isin(y, (0.0, 1.0)).all())

    def confusion(self) -> Confusion:
        return Confusion(*(int(count) for count in self._kinds.sum(axis=0)))

    def statistics(self, weights: Array) -> dict[str, Vector]:
        """All of ``STATISTICS``, (B,), where case i stands in resample b ``weights[b, i]`` times, (B, N)."""
        total = weights.sum(axis=1)
        ranks = _midranks(*self._x, weights)
        tp, fp, fn, tn = (weights @ self._kinds).T
        agree = _ratio(tp + tn, total)
        chance = _ratio((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn), total**2)
        return {
            "rank": _pearson(ranks, _midranks(*self._y, weights), weights),
            "auc": self._auc(ranks, weights) if self._binary else np.full(len(total), math.nan),
            "agreement": agree,
            "kappa": _ratio(agree - chance, 1 - chance),
            "false_positive_share": _ratio(fp, fp + tn),
            "false_negative_share": _ratio(fn, fn + tp),
            "gap": _ratio(weights @ self._gaps, total),
        }

    def _auc(self, ranks: Array, weights: Array) -> Vector:
        """The Mann-Whitney form: (rank sum of the right answers - P (P + 1) / 2) / (P N)."""
        right = weights * self._right
        positives = right.sum(axis=1)
        negatives = weights.sum(axis=1) - positives
        return _ratio((right * ranks).sum(axis=1) - positives * (positives + 1) / 2, positives * negatives)


def _levels(values: Vector) -> tuple[Indices, int]:
    """The place of every value among the distinct ones, in order, and how many those are."""
    distinct, places = np.unique(values, return_inverse=True)
    return places, len(distinct)


def _midranks(places: Indices, levels: int, weights: Array) -> Array:
    """The rank of every case, 1 the lowest and ties at the middle, in each resample, (B, N)."""
    rows = np.arange(len(weights))[:, None] * levels
    counts = np.bincount((rows + places).ravel(), weights.ravel(), len(weights) * levels).reshape(len(weights), levels)
    return np.take(np.cumsum(counts, axis=1) - counts + (counts + 1) / 2, places, axis=1)  # x[:, i] is not contiguous


def _pearson(x: Array, y: Array, weights: Array) -> Vector:
    total = weights.sum(axis=1)
    dx, dy = (a - _ratio((a * weights).sum(axis=1), total)[:, None] for a in (x, y))
    vx, vy, both = ((weights * a * b).sum(axis=1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    # Ranks are halves of whole numbers: a smaller variance is a rounding error of a constant column.
    varied = np.minimum(vx, vy) > 1e-9 * total
    return np.clip(_ratio(both, np.where(varied, np.sqrt(vx * vy), 0.0)), -1.0, 1.0)


def _ratio(part: Vector, whole: Vector) -> Vector:
    """nan where there is nothing to share."""
    return np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)


def _kept(groups: Sequence[object], known: Any) -> list[object]:
    return [group for group, keep in zip(groups, known, strict=True) if keep]


def _estimate(value: float, draws: Vector) -> Estimate:
    found = np.sort(draws[~np.isnan(draws)])
    if math.isnan(value) or not len(draws) or len(found) < 0.9 * len(draws):
        return Estimate(value, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    return Estimate(value, float(found[round(tail * len(found))]), float(found[round((1 - tail) * len(found)) - 1]))
