"""Losses and divergence estimators as pure functions of tensors.

Shape legend: B completions, T tokens. Every ``logp_BT`` is log pi(token_t | prefix) with gradient, 0 outside
``mask_BT``; advantages are constants. What clips a ratio is in ``surrogates``, what a token weighs in ``aggregation``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)

KlPlacement = Literal["none", "k1_in_reward", "k2_loss", "k3_loss", "k3_times_ratio", "k1_loss_literal"]
KL_PLACEMENTS: tuple[KlPlacement, ...] = (
    "none",
    "k1_in_reward",
    "k2_loss",
    "k3_loss",
    "k3_times_ratio",
    "k1_loss_literal",
)
_WRONG_IN_REWARD = {f"{estimate}{place}": estimate for estimate in ("k2", "k3") for place in ("_reward", "_in_reward")}


def check_kl(placement: str) -> None:
    """Raises ``ValueError`` for a placement that is unknown or wrong; warns of one that regularises nothing."""
    if placement in _WRONG_IN_REWARD:
        raise ValueError(
            f"learner.kl={placement} is refused: {_WRONG_IN_REWARD[placement]} in the reward does not have the "
            "divergence's gradient, not even its sign (k3: arXiv 2512.21852); use k1_in_reward"
        )
    if placement not in KL_PLACEMENTS:
        close = get_close_matches(placement, KL_PLACEMENTS, n=1)
        near = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"learner.kl={placement!r} is unknown{near}: use {', '.join(KL_PLACEMENTS)}")
    if placement == "k1_loss_literal":
        log.warning("learner.kl=k1_loss_literal has an expected gradient of zero: it regularises nothing")


def importance(logp_BT: Tensor, sampler_BT: Tensor, cap: float) -> Tensor:
    """rho_t = min(pi(token_t) / mu(token_t), cap), (B, T), a constant: mu is the sampler, pi the policy that learns.

    Truncated importance sampling per token: the expectation over what mu sampled becomes one over pi, and the cap
    bounds its variance at the price of a bias (IMPALA, arXiv 1802.01561, section 4.1; as a weight of the token's
    log-probability: CISPO, arXiv 2506.13585).
    """
    return torch.exp((logp_BT - sampler_BT).detach().clamp(max=math.log(cap)))


def k1(log_ratio: Tensor) -> Tensor:
    """delta = log pi - log pi_ref: the unbiased estimate of KL(pi || pi_ref) for samples of pi."""
    return log_ratio


def k2(log_ratio: Tensor) -> Tensor:
    """delta^2 / 2: as a loss, on-policy, its gradient is that of KL(pi || pi_ref)."""
    return log_ratio.square() / 2


def k3(log_ratio: Tensor) -> Tensor:
    """exp(-delta) + delta - 1: the unbiased, non-negative estimate; as a loss its gradient is that of the *forward*
    KL(pi_ref || pi) (GRPO, arXiv 2402.03300)."""
    return torch.exp(-log_ratio) + log_ratio - 1


_IN_LOSS: dict[str, Callable[[Tensor], Tensor]] = {
    "k2_loss": k2,
    "k3_loss": k3,
    "k3_times_ratio": k3,
    "k1_loss_literal": k1,
}


def kl_penalty(
    logp_BT: Tensor,
    reference_BT: Tensor,
    placement: KlPlacement,
    importance_BT: Tensor | None = None,
    *,
    old_BT: Tensor | None = None,
) -> Tensor:
    """What the placement adds to the loss per sequence, (B,), before beta; summed over tokens.

    ``none`` and ``k1_in_reward`` add nothing here (the latter's place is the reward). ``k3_times_ratio`` is
    (pi / pi_old) k3 with the ratio in the graph, which turns k3's gradient into that of KL(pi || pi_ref), at the level
    of tokens (arXiv 2512.02556); ``old_BT`` are the constants log pi_old, the policy's own where they are not given.
    ``k1_loss_literal`` is LSP's eq. 4-5 as printed: its expected gradient is zero, because E[grad log pi] = 0; it adds
    noise and regularises nothing. ``importance_BT`` weighs every token's estimate, as in ``surrogates``: all of
    them are averages over what the policy itself would say.
    """
    log_ratio_BT = logp_BT - reference_BT
    if placement not in _IN_LOSS:
        return torch.zeros_like(log_ratio_BT[:, 0])
    estimate_BT = _IN_LOSS[placement](log_ratio_BT)
    if placement == "k3_times_ratio":
        estimate_BT = estimate_BT * torch.exp(logp_BT - (logp_BT.detach() if old_BT is None else old_BT))
    return (estimate_BT if importance_BT is None else importance_BT * estimate_BT).sum(-1)
