"""Challenger shapes by name: what a proposal is worth, given how the answers to it were judged.

In YAML ``shape: {challenger: r_zero}``, or with parameters ``{challenger: {_target_: selfplay.shapes.RZero, version:
code}}``. A shape reads the verdicts and not only what its role was paid (``selfplay/proposal.py``); p is the mean score
of a proposal's leaves: its solve rate, or its agreement with the majority. Where a paper and its code differ both are
here, and the paper's is the default. A role without a shape earns the mean of its returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pvariance
from typing import Literal

from selfplay.compose import did_you_mean
from selfplay.credit import Leaves, Shape
from selfplay.proposal import Ends, Proposal, mean_of, rate_of, read, repetition, said
from selfplay.types import Episode, Turn
from selfplay.whose import seat_returns


@dataclass(frozen=True)
class NegValue(Proposal):
    """V = -mean score: the Challenger of LSP-Zero (arXiv 2509.07414, eq. 3)."""

    def worth(self, turn: Turn, ends: Ends) -> float:
        return -mean_of(ends, self.part)


@dataclass(frozen=True)
class NegValuePlusQuality(Proposal):
    """V = -mean score + mean ``quality``: the Challenger of LSP (arXiv 2509.07414, section 3).

    The first mean is of the score alone. With the quality in it, as the Solver earns both, the quality would cancel
    and the Challenger be LSP-Zero's again.
    """

    quality: str = "quality"

    def worth(self, turn: Turn, ends: Ends) -> float:
        return -mean_of(ends, self.part) + mean_of(ends, self.quality)


@dataclass(frozen=True)
class ZeroSum(Proposal):
    """V = -(the sum of what all others earn, seat by seat), mean over the leaves: their gain is this one's loss. Where
    the game is zero-sum already it changes nothing."""

    def worth(self, turn: Turn, ends: Ends) -> float:
        mine = (turn.seat, turn.role)
        return -fmean(math.fsum(paid for name, paid in seat_returns(end).items() if name not in mine) for end in ends)


@dataclass(frozen=True)
class Learnability(Proposal):
    """V = 4 p (1 - p): the variance of a coin, scaled to 1 where half of the answers are right."""

    malformed: float | None = 0.0
    unusable: float | None = 0.0

    def worth(self, turn: Turn, ends: Ends) -> float:
        p = rate_of(ends, self.part)
        return 4 * p * (1 - p)


@dataclass(frozen=True)
class Uncertainty(Proposal):
    """V = 1 - 2 |p - 1/2|: R-Zero's reward (arXiv 2508.05004) without the repetition penalty."""

    malformed: float | None = 0.0
    unusable: float | None = 0.0

    def worth(self, turn: Turn, ends: Ends) -> float:
        return 1 - 2 * abs(rate_of(ends, self.part) - 0.5)


@dataclass(frozen=True)
class AzrOneMinus(Proposal):
    """V = 1 - p, but 0 where all or none solve it: Absolute Zero's proposer (arXiv 2505.03335, section 3).

    ``version="code"`` has -0.5 in place of that 0, as the released reward manager does.
    """

    malformed: float | None = -1.0
    unusable: float | None = -0.5
    version: Literal["paper", "code"] = "paper"

    def __post_init__(self) -> None:
        _check("azr_one_minus", self.version, ("paper", "code"))

    def worth(self, turn: Turn, ends: Ends) -> float:
        p = rate_of(ends, self.part)
        if 0 < p < 1:
            return 1 - p
        return 0.0 if self.version == "paper" else -0.5


@dataclass(frozen=True)
class AzrSolver(Proposal):
    """V of an *answer*: 1 where it is right, ``wrong`` where it is not, ``malformed`` where its role forfeits
    (arXiv 2505.03335, section 3). Whether the question was sound is not the answer's fault and plays no part."""

    malformed: float | None = -1.0
    wrong: float = -0.5

    def worth(self, turn: Turn, ends: Ends) -> float:
        return fmean(1.0 if read(end, self.part) >= 1 else self.wrong for end in ends)

    def fault(self, turn: Turn, end: Episode) -> float | None:
        return super().fault(turn, end) if end.forfeit else None


@dataclass(frozen=True)
class RZero(Proposal):
    """R-Zero's Challenger (arXiv 2508.05004): uncertainty minus ``penalty`` times the share of the siblings' queries
    that lie in the query's cluster.

    ``paper``: max(0, 1 - 2 |p - 1/2| - penalty share), 0 for a fault. ``code``: min(p, 1 - p) - penalty share, neither
    doubled nor cut at 0, and -1 - penalty share for a fault. Another price of a fault can be given. The share is of the
    siblings: a query without any has share 1, so the Challenger must branch.
    """

    version: Literal["paper", "code"] = "paper"
    penalty: float = 1.0
    slot: str = "query"

    def __post_init__(self) -> None:
        _check("r_zero", self.version, ("paper", "code"))
        for name in ("malformed", "unusable"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, 0.0 if self.version == "paper" else -1.0)

    def __call__(self, turns: Sequence[Turn], leaves: Leaves) -> list[float]:
        shares = repetition(turns, leaves, self.slot)
        return [self._less(turn, leaves[turn], self.penalty * share) for turn, share in zip(turns, shares, strict=True)]

    def worth(self, turn: Turn, ends: Ends) -> float:
        p = rate_of(ends, self.part)
        return 1 - 2 * abs(p - 0.5) if self.version == "paper" else min(p, 1 - p)

    def _less(self, turn: Turn, ends: Ends, loss: float) -> float:
        if self.version == "paper":
            return self.pay(turn, ends, lambda sound: max(0.0, self.worth(turn, sound) - loss))
        return self.pay(turn, ends, partial(self.worth, turn)) - loss


@dataclass(frozen=True)
class SqlmBand(Proposal):
    """V = 1 where 0 < p < 1, else 0: the proposer of Self-Questioning Language Models (arXiv 2508.03682).

    Of answers that are compared with their majority at least one agrees with it, so there it says: not unanimous. Four
    answers that all differ earn 1 there, too; a verifier that has no verdict on a tied vote leaves nothing to pay.
    """

    malformed: float | None = 0.0
    unusable: float | None = 0.0

    def worth(self, turn: Turn, ends: Ends) -> float:
        return float(0 < rate_of(ends, self.part) < 1)


@dataclass(frozen=True)
class SpiceGauss(Proposal):
    """V = exp(-(Var - 1/4)^2 / (2 ``width``)) with the *population* variance of the scores: 1 where half of the answers
    are right, and still 0.044 where all or none are (SPICE, arXiv 2510.24684). The sample variance of 8 answers has its
    peak elsewhere."""

    malformed: float | None = -0.1
    unusable: float | None = -0.1
    width: float = 0.01

    def worth(self, turn: Turn, ends: Ends) -> float:
        rate_of(ends, self.part)
        return math.exp(-((pvariance([read(end, self.part) for end in ends]) - 0.25) ** 2) / (2 * self.width))


@dataclass(frozen=True)
class MaeSum(Proposal):
    """V = (quality + difficulty + format) / 3: the Proposer of Multi-Agent Evolve (arXiv 2510.23595).

    Quality is the verdict's part ``quality``; difficulty is 1 - p (``current``) or 1 where p < ``bar`` (``clean``, the
    older repository), and is dropped where the quality is below ``bar``; format is the part ``format``, or 1 where none
    is named, for what the game could read had the format.
    """

    malformed: float | None = 0.0
    unusable: float | None = 0.0
    quality: str = "quality"
    format: str | None = None
    bar: float = 0.7
    version: Literal["current", "clean"] = "current"

    def __post_init__(self) -> None:
        _check("mae_sum", self.version, ("current", "clean"))

    def worth(self, turn: Turn, ends: Ends) -> float:
        p, quality = rate_of(ends, self.part), rate_of(ends, self.quality)
        difficulty = 1 - p if self.version == "current" else float(p < self.bar)
        form = 1.0 if self.format is None else rate_of(ends, self.format)
        return (quality + (difficulty if quality >= self.bar else 0.0) + form) / 3


@dataclass(frozen=True)
class HintDelta(Proposal):
    """V = delta - ``price`` per 100 characters of the hint beyond ``free`` - the query's cluster share: G-Zero's
    Challenger (arXiv 2605.09959); -1 - share for a fault.

    The verdict's part ``part`` is delta = mean over tokens of log pi(answer | query) - log pi(answer | query, hint) for
    the Solver's own unaided answer: positive where the hint moves it away from that. It counts as at least ``floor``.
    """

    part: str = "delta"
    malformed: float | None = -1.0
    unusable: float | None = -1.0
    floor: float = -5.0
    price: float = 0.03
    free: int = 200
    slot: str = "query"
    hint: str = "hint"

    def __call__(self, turns: Sequence[Turn], leaves: Leaves) -> list[float]:
        shares = repetition(turns, leaves, self.slot)
        return [value - share for value, share in zip(super().__call__(turns, leaves), shares, strict=True)]

    def worth(self, turn: Turn, ends: Ends) -> float:
        excess = max(0, len(said(turn, ends, self.hint)) - self.free)
        return max(self.floor, mean_of(ends, self.part)) - self.price * excess / 100


SHAPES: dict[str, Callable[[], Shape]] = {
    "neg_value": NegValue,
    "neg_value_plus_quality": NegValuePlusQuality,
    "zero_sum": ZeroSum,
    "learnability": Learnability,
    "uncertainty": Uncertainty,
    "azr_one_minus": AzrOneMinus,
    "azr_one_minus_code": partial(AzrOneMinus, version="code"),
    "azr_solver": AzrSolver,
    "r_zero": RZero,
    "r_zero_code": partial(RZero, version="code"),
    "sqlm_band": SqlmBand,
    "spice_gauss": SpiceGauss,
    "mae_sum": MaeSum,
    "mae_sum_clean": partial(MaeSum, version="clean"),
    "hint_delta": HintDelta,
}
"""The shapes by name, as their papers have them."""


def make_shapes(shape: Mapping[str, str | Shape | None] | None) -> dict[str, Shape]:
    """Role -> shape, from names in ``SHAPES`` or ready-made shapes; None is no shape. Raises ``ValueError``."""
    if shape is not None and not isinstance(shape, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"shape={shape!r} must say whose it is, as shape={{challenger: r_zero}}")
    return {role: _make(role, kind) for role, kind in (shape or {}).items() if kind is not None}


def _make(role: str, kind: str | Shape) -> Shape:
    if isinstance(kind, str):
        if kind not in SHAPES:
            raise ValueError(f"shape.{role}={kind!r} is unknown{did_you_mean(kind, SHAPES)}: use {', '.join(SHAPES)}")
        return SHAPES[kind]()
    if not callable(kind):
        raise ValueError(f"shape.{role}={kind!r} is neither a name nor a shape: use {', '.join(SHAPES)}")
    return kind


def _check(name: str, version: str, known: Sequence[str]) -> None:
    if version not in known:
        raise ValueError(f"{name} has no version {version!r}{did_you_mean(version, known)}: use {' or '.join(known)}")
