"""Losses and divergence estimators as pure functions of tensors.

Shape legend: B completions, T tokens. Every ``logp_BT`` is log pi(token_t | prefix) with gradient, 0 outside
``mask_BT``; advantages are constants.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KlPlacement = Literal["none", "k1_in_reward", "k2_loss", "k3_loss", "k1_loss_literal"]
KL_PLACEMENTS: tuple[KlPlacement, ...] = ("none", "k1_in_reward", "k2_loss", "k3_loss", "k1_loss_literal")


def reinforce(logp_BT: Tensor, advantage_B: Tensor) -> Tensor:
    """-(pi / sg(pi)) A per sequence, (B,): the Solver's and the Challenger's term of LSP (arXiv 2509.07414, eq. 4-5).

    The ratio is identically 1, so the value is -A and the gradient is -A sum_t grad log pi(token_t): REINFORCE on
    whole sequences, summed over tokens, without length normalisation and without clipping.
    """
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


def kl_penalty(logp_BT: Tensor, reference_BT: Tensor, placement: KlPlacement) -> Tensor:
    """What the placement adds to the loss per sequence, (B,), before beta; summed over tokens.

    ``none`` and ``k1_in_reward`` add nothing here (the latter's place is the reward). ``k1_loss_literal`` is LSP's
    eq. 4-5 as printed: its expected gradient is zero, because E[grad log pi] = 0; it adds noise and regularises
    nothing.
    """
    log_ratio_BT = logp_BT - reference_BT
    if placement == "k2_loss":
        return k2(log_ratio_BT).sum(-1)
    if placement == "k3_loss":
        return k3(log_ratio_BT).sum(-1)
    if placement == "k1_loss_literal":
        return k1(log_ratio_BT).sum(-1)
    return torch.zeros_like(log_ratio_BT[:, 0])
