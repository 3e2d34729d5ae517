"""Softmax weights of attention among siblings, and the gradient of their scores: all that is not a matrix product.

A row's weights are one distribution in two tensors: over its prompt, ``before`` (B, M, R, P), and over its own text,
``own`` (B, M, R, T), where it sees no column beyond its own place; a prompt has no ``before``. On a CPU each direction
is one pass in place (``models/kernels/siblings.h``); torch's operators do the same elsewhere.

Shape legend: U prompts, B = U K of them with one key head each, M texts that follow a prompt, T tokens, R = T Q rows,
the Q of a token after one another, P tokens of the prompt, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.native import kernel


def score_weights(before: Tensor | None, own: Tensor, hidden_UP: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Softmax of the scores, in their precision and with float32 in between; what was given is overwritten.
    ``hidden_UP`` is added to ``before``."""
    batch, many, rows, width = own.shape
    length = 0 if before is None else before.shape[-1]
    run = kernel("sibling_weights", *(part for part in (own, before) if part is not None))
    if run is None:
        return _weights(before, own, hidden_UP)
    shared = batch if hidden_UP is None else batch // len(hidden_UP)
    scratch = own.new_empty(torch.get_num_threads(), 16, length + width + 30, dtype=torch.float32)
    run(before, own, hidden_UP, scratch, batch, shared, many, width, rows // max(1, width), length)
    return before, own


def score_gradients(
    weight: tuple[Tensor | None, Tensor], upstream: tuple[Tensor | None, Tensor], up: Tensor, out: Tensor
) -> tuple[Tensor | None, Tensor]:
    """dS = W (dW - rowsum(dO O)), as in FlashAttention-2 (arXiv 2307.08691): ``weight`` as ``score_weights`` gave it,
    ``upstream`` its gradient, which is overwritten, ``up`` and ``out`` (B, M, R, D) the output's and the output."""
    (before, own), (first, rest) = weight, upstream
    batch, many, rows, width = own.shape
    length = 0 if before is None else before.shape[-1]
    run = kernel("sibling_gradients", own, rest, up, out, *(part for part in (before, first) if part is not None))
    if run is None:
        return _gradients(weight, upstream, up, out)
    run(before, own, first, rest, up, out, batch, many, width, rows // max(1, width), length, up.shape[-1])
    return upstream


def _weights(before: Tensor | None, own: Tensor, hidden_UP: Tensor | None) -> tuple[Tensor | None, Tensor]:
    batch, _, rows, width = own.shape
    own.add_(_causal(width, rows // max(1, width), own))
    if before is None:
        return None, own.softmax(-1, dtype=torch.float32).to(own.dtype)
    if hidden_UP is not None:
        before.add_(hidden_UP.to(before.dtype).repeat_interleave(batch // len(hidden_UP), 0)[:, None, None])
    weight = torch.cat([before, own], -1).softmax(-1, dtype=torch.float32)
    length = before.shape[-1]
    return weight[..., :length].to(own.dtype).contiguous(), weight[..., length:].to(own.dtype).contiguous()


def _gradients(
    weight: tuple[Tensor | None, Tensor], upstream: tuple[Tensor | None, Tensor], up: Tensor, out: Tensor
) -> tuple[Tensor | None, Tensor]:
    delta = (up * out).sum(-1, keepdim=True)
    for part, gradient in zip(weight, upstream, strict=True):
        if part is not None and gradient is not None:
            gradient.sub_(delta).mul_(part)
    return upstream


def _causal(length: int, each: int, like: Tensor) -> Tensor:
    """0 where one of ``length`` queries, ``each`` times over, may look, else -inf: (length x each, length)."""
    mask = torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)
    return mask.repeat_interleave(each, 0)
