"""How far the sampler was from the model that learns, and when its words are weighed for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engine import Engine
from selfplay.types import Completion

CAP = 2.0
"""The bound that ``auto`` takes where one is needed."""


@dataclass(frozen=True, slots=True)
class Gap:
    """|log pi - log mu| over the tokens of a batch, and their importance weights; sums and the largest."""

    tokens: int
    total: float
    largest: float
    weight: float
    capped: int

    @classmethod
    @torch.no_grad()
    def measure(cls, logp_N: Tensor, sampler_N: Tensor, cap: float | None) -> Gap:
        """Of N tokens; without a cap no weight is bounded."""
        if not len(logp_N):
            return cls(0, 0.0, 0.0, 0.0, 0)
        difference_N = (logp_N - sampler_N).double()
        apart_N, ratio_N = difference_N.abs(), difference_N.exp()
        bounded_N = ratio_N.clamp(max=cap or math.inf)
        return cls(
            len(logp_N),
            float(apart_N.sum()),
            float(apart_N.max()),
            float(bounded_N.sum()),
            int((ratio_N > (cap or math.inf)).sum()),
        )

    @staticmethod
    def metrics(batches: Sequence[Gap]) -> dict[str, float]:
        """Of a whole step: ``gap_mean`` and ``gap_max`` in nats per token, ``importance_mean``, the mean weight after
        the cap (1 where the sampler is the policy), and ``capped_share`` of all tokens."""
        tokens = sum(gap.tokens for gap in batches)
        if not tokens:
            return {}
        return {
            "sampler/gap_mean": sum(gap.total for gap in batches) / tokens,
            "sampler/gap_max": max(gap.largest for gap in batches),
            "sampler/importance_mean": sum(gap.weight for gap in batches) / tokens,
            "sampler/capped_share": sum(gap.capped for gap in batches) / tokens,
        }


def check_cap(cap: float | str | None) -> float | str | None:
    """``importance_cap`` as it may stand in a configuration. Raises ``ValueError``."""
    if cap is None or cap == "auto" or (isinstance(cap, (int, float)) and cap >= 1):
        return cap
    raise ValueError(f"learner.importance_cap={cap!r} is unknown: use auto, null, or a bound of 1 or more")


def capped(cap: float | str | None, engine: Engine, pipelined: bool = False) -> float | None:
    """The bound that ``cap`` means for ``engine``, which says whether its sampler is ``exact_sampler``; ``pipelined``
    turns were sampled by older weights."""
    if cap != "auto":
        return None if cap is None else float(cap)
    return None if engine.exact_sampler and not pipelined else CAP


def sampler_logprobs(said: Sequence[Completion], logp_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The sampler's log-probabilities and where there are any (B, T). Words that nobody sampled (``encode``) have
    none: there ``logp_BT``, the policy, stands in for its own sampler."""
    told = [c.logprobs if len(c.logprobs) == len(c.token_ids) else () for c in said]
    width = logp_BT.shape[1]
    known_BT = torch.tensor([[t < len(row) for t in range(width)] for row in told], device=logp_BT.device)
    values = [value for row in told for value in row]
    return logp_BT.detach().masked_scatter(known_BT, logp_BT.new_tensor(values)), known_BT
