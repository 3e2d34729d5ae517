"""Losses on pairs of which one is preferred, as pure functions of tensors.

All of them see the same number, the margin: how much further the policy has moved from its reference on the preferred
words than on the others. Shape legend: B pairs. Log-probabilities are of whole sequences, those of the policy with
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PairLoss = Callable[[Tensor, float], Tensor]
"""From margins (B,) and beta to one loss per pair (B,), as if the first of every pair were preferred for certain."""


def margins(chosen_B: Tensor, rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor) -> Tensor:
    """m = (log pi(y_w) - log pi(y_l)) - (log pi_ref(y_w) - log pi_ref(y_l)), (B,), in nats.

    beta m is the difference of the implicit rewards beta log(pi / pi_ref) (arXiv 2305.18290, eq. 6).
    """
    return (chosen_B - rejected_B) - (reference_chosen_B - reference_rejected_B)


def dpo(margin_B: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta m), (B,) (arXiv 2305.18290, eq. 7).

    With the data's words against those of the last iterate, which is then the reference, it is SPIN's loss (arXiv
    2401.01335, eq. 4.7).
    """
    return -logsigmoid(beta * margin_B)


def ipo(margin_B: Tensor, beta: float) -> Tensor:
    """(m - 1 / (2 beta))^2, (B,): a regression to a finite margin, so that a certain label does not pull without end
    (arXiv 2310.12036, eq. 17, where beta is tau)."""
    return (margin_B - 1 / (2 * beta)).square()


def hinge(margin_B: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta m), (B,): no gradient once a pair is told apart by 1 / beta (SLiC, arXiv 2305.10425, on the
    implicit rewards, as in arXiv 2309.06657; SPIN's other loss)."""
    return torch.relu(1 - beta * margin_B)


LOSSES: dict[str, PairLoss] = {"dpo": dpo, "ipo": ipo, "hinge": hinge}


def pair_loss(name: str) -> PairLoss:
    """The loss of that name. Raises ``ValueError`` for another one."""
    if name not in LOSSES:
        close = get_close_matches(name, LOSSES, n=1)
        near = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"learner.loss={name!r} is unknown{near}: use {', '.join(LOSSES)}")
    return LOSSES[name]


def expected(loss: PairLoss, margin_B: Tensor, beta: float, chance_B: Tensor) -> Tensor:
    """p loss(m) + (1 - p) loss(-m), (B,), where p (B,) is the chance that the first of the pair is the better one.

    p = 1 - epsilon is label smoothing (conservative DPO); p from a judge's log-probabilities is a soft label. For
    ``dpo`` the minimum is at sigmoid(beta m) = p, for ``ipo`` at m = (p - 1/2) / beta; p = 1/2 pulls back to the
    reference.
    """
    return chance_B * loss(margin_B, beta) + (1 - chance_B) * loss(-margin_B, beta)


def smoothed(chance: float, epsilon: float) -> float:
    """The label when a share ``epsilon`` of all labels is taken to be the wrong way round."""
    return (1 - epsilon) * chance + epsilon * (1 - chance)


def preferred(first: float, second: float, clamp: tuple[float, float] | None = None) -> float:
    """p(first) = e^first / (e^first + e^second) of the log-probabilities of two replies, within ``clamp``.

    The label of an AI judge (arXiv 2212.08073, section 4.1). After a chain of thought the two are nearly 0 and 1, and
    the paper holds them to 0.4-0.6.
    """
    gap = first - second
    # Of the two forms of the logistic function the one that cannot overflow.
    chance = 1 / (1 + math.exp(-gap)) if gap >= 0 else math.exp(gap) / (1 + math.exp(gap))
    return chance if clamp is None else min(max(chance, clamp[0]), clamp[1])
