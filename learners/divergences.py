"""Divergences between two next-token distributions, as pure functions of tensors with gradient.

Shape legend: N tokens, V vocabulary. Both arguments are log-probabilities (N, V) in float32: the teacher T, a constant,
and the student S, with gradient. All results are in nats per token, (N,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NEVER = -1e30
"""log 0, finite: where both models rule a token out, the mixture's gradient must not be nan."""


def forward_kl(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    """KL(T || S) = sum_v T (log T - log S): the student has to cover whatever the teacher would say.

    Its gradient is that of the cross-entropy on the teacher's distribution: word-level distillation.
    """
    return _expected(teacher_NV, student_NV)


def reverse_kl(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    """KL(S || T) = sum_v S (log S - log T): the student has to stay where the teacher would go.

    Its gradient is the mean, over the student's own next token v, of (log S(v) - log T(v)) grad log S(v): what the
    policy gradient of on-policy distillation estimates from one sampled token.
    """
    return _expected(student_NV, teacher_NV)


def generalised_jsd(teacher_NV: Tensor, student_NV: Tensor, beta: float) -> Tensor:
    """beta KL(T || M) + (1 - beta) KL(S || M) with M = beta T + (1 - beta) S (GKD, arXiv 2306.13649, section 2).

    ``beta`` 0 is the forward and 1 the reverse KL itself, as the paper and its implementations have it. The formula
    does not go there: it tends to 0 at both ends, as beta KL(T || S) and (1 - beta) KL(S || T), so that its *gradient*
    points the way of those divergences while its size vanishes. Raises ``ValueError`` outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta} is no share: use 0 (forward KL) to 1 (reverse KL)")
    if beta == 0:
        return forward_kl(teacher_NV, student_NV)
    if beta == 1:
        return reverse_kl(teacher_NV, student_NV)
    teacher_NV, student_NV = teacher_NV.clamp(min=_NEVER), student_NV.clamp(min=_NEVER)
    mixture_NV = torch.logaddexp(teacher_NV + math.log(beta), student_NV + math.log1p(-beta))
    return beta * _expected(teacher_NV, mixture_NV) + (1 - beta) * _expected(student_NV, mixture_NV)


def _expected(from_NV: Tensor, to_NV: Tensor) -> Tensor:
    """KL(from || to), (N,); a token that ``from`` never says counts 0, whatever ``to`` says of it."""
    probability_NV = from_NV.exp()
    difference_NV = (from_NV - to_NV).masked_fill(probability_NV == 0, 0.0)
    return (probability_NV * difference_NV).sum(-1)
