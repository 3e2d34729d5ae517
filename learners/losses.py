"""Losses and divergence estimators as pure functions of tensors.

Shape legend: B completions, T tokens. Every ``logp_BT`` is log pi(token_t | prefix) with gradient, 0 outside
``mask_BT``; advantages are constants.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

KlPlacement = Literal["none", "k1_in_reward", "k2_loss", "k3_loss", "k1_loss_literal"]
KL_PLACEMENTS: tuple[KlPlacement, ...] = ("none", "k1_in_reward", "k2_loss", "k3_loss", "k1_loss_literal")


def importance(logp_BT: Tensor, sampler_BT: Tensor, cap: float) -> Tensor:
    """rho_t = min(pi(token_t) / mu(token_t), cap), (B, T), a constant: mu is the sampler, pi the policy that learns.

    Truncated importance sampling per token: the expectation over what mu sampled becomes one over pi, and the cap
    bounds its variance at the price of a bias (IMPALA, arXiv 1802.01561, section 4.1; as a weight of the token's
    log-probability: CISPO, arXiv 2506.13585).
    """
    return torch.exp((logp_BT - sampler_BT).detach().clamp(max=math.log(cap)))


def reinforce(logp_BT: Tensor, advantage_B: Tensor, importance_BT: Tensor | None = None) -> Tensor:
    """-(pi / sg(pi)) A per sequence, (B,): the Solver's and the Challenger's term of LSP (arXiv 2509.07414, eq. 4-5).

    The ratio is identically 1, so the value is -A and the gradient is -A sum_t grad log pi(token_t): REINFORCE on
    whole sequences, summed over tokens, without length normalisation and without clipping.

    With ``importance_BT`` it is -exp(sum_t rho_t (log pi_t - sg(log pi_t))) A: the value stays -A, and the gradient
    is -A sum_t rho_t grad log pi(token_t), every token weighed by its own ratio.
    """
    if importance_BT is not None:
        return -torch.exp((importance_BT * (logp_BT - logp_BT.detach())).sum(-1)) * advantage_B
    logp_B = logp_BT.sum(-1)
    return -torch.exp(logp_B - logp_B.detach()) * advantage_B


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


def kl_penalty(
    logp_BT: Tensor, reference_BT: Tensor, placement: KlPlacement, importance_BT: Tensor | None = None
) -> Tensor:
    """What the placement adds to the loss per sequence, (B,), before beta; summed over tokens.

    ``none`` and ``k1_in_reward`` add nothing here (the latter's place is the reward). ``k1_loss_literal`` is LSP's
    eq. 4-5 as printed: its expected gradient is zero, because E[grad log pi] = 0; it adds noise and regularises
    nothing. ``importance_BT`` weighs every token's estimate, as in ``reinforce``: all of them are averages over what
    the policy itself would say.
    """
    log_ratio_BT = logp_BT - reference_BT
    estimates = {"k2_loss": k2, "k3_loss": k3, "k1_loss_literal": k1}
    if placement not in estimates:
        return torch.zeros_like(log_ratio_BT[:, 0])
    estimate_BT = estimates[placement](log_ratio_BT)
    return (estimate_BT if importance_BT is None else importance_BT * estimate_BT).sum(-1)
