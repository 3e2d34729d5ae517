"""Rotary position embeddings: in the precision of the products around them, and as one pass.

Under autocast a model's hidden states stay in float32, and with them the cosines and sines: each rotation then mixes
bfloat16 queries with float32 angles, for which torch has no fast loop; on a CPU that took a seventh of an update.
The sampler's copy, all bfloat16, rounds the angles as well, so that both now do the same. And transformers rotates by
seven operators for queries and as many for keys; where a kernel of ours computes the same, it does. Shape legend: B
rows, H heads, N positions, D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.native import Kernel, kernel

_NAME = "apply_rotary_pos_emb"
Rotated = tuple[Tensor, Tensor]


def adopt_rotary(model: nn.Module) -> None:
    """Let the model's rotary embeddings give what autocast, where it is on, would make of them, and let the function of
    its family that applies them use our kernel."""
    for module in model.modules():
        if is_rotary(module) and _rounded not in module._forward_hooks.values():
            module.register_forward_hook(_rounded)
        family = getattr(inspect.unwrap(type(module).forward), "__globals__", {})
        theirs = family.get(_NAME)
        if theirs is not None and not hasattr(theirs, "__wrapped__") and _alike(theirs):
            family[_NAME] = _quicker(theirs)


def is_rotary(module: nn.Module) -> bool:
    """Whether it makes the cosines and sines of positions, by the name that every family gives it."""
    return type(module).__name__.endswith("RotaryEmbedding")


def _rounded(_: nn.Module, __: Any, angles: Any) -> Any:
    """The cosines and sines; what is neither a pair nor computed under autocast stays as it is."""
    if not isinstance(angles, tuple) or not all(isinstance(part, Tensor) for part in angles):
        return None
    kind = angles[0].device.type
    if not torch.is_autocast_enabled(kind):
        return None
    return tuple(part.to(torch.get_autocast_dtype(kind)) for part in angles)


def _quicker(theirs: Callable[..., Rotated]) -> Callable[..., Rotated]:
    @wraps(theirs)
    def quicker(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: Any, **options: Any) -> Rotated:
        if more or options or torch.compiler.is_compiling():
            return theirs(q, k, cos, sin, *more, **options)
        return rotated(q, k, cos, sin) or theirs(q, k, cos, sin)

    return quicker


def rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Rotated | None:
    """Queries (B, H, N, D) and keys (B, K, N, D), positions before heads in memory as a projection gives them, turned
    by ``cos`` and ``sin`` (B or 1, N, D); None where the kernel cannot."""
    rows, _, positions, width = q.shape
    fits = cos.shape == sin.shape and cos.shape[1:] == (positions, width) and len(cos) in (1, rows) and width % 2 == 0
    if not fits or not all(states.transpose(1, 2).is_contiguous() for states in (q, k)):
        return None
    run = kernel("rotate", q, k, cos, sin)
    if run is None:
        return None
    cos, sin = cos.contiguous(), sin.contiguous()
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        return _Rotation.apply(q, cos, sin, run), _Rotation.apply(k, cos, sin, run)
    return _turned(q, cos, sin, run), _turned(k, cos, sin, run)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor, run: Kernel) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.run = run
        return _turned(states, cos, sin, run)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _turned(upstream, *ctx.saved_tensors, ctx.run, back=1), None, None, None


def _turned(states: Tensor, cos: Tensor, sin: Tensor, run: Kernel, back: int = 0) -> Tensor:
    by_position = states.transpose(1, 2).contiguous()
    rows, positions, heads, width = by_position.shape
    out = torch.empty_like(by_position)
    run(by_position, cos, sin, out, rows * positions, heads, width, len(cos) * positions, back)
    return out.transpose(1, 2)


@torch.no_grad()
def _alike(theirs: Callable[..., Rotated]) -> bool:
    """Whether a family's function does what the kernel does, up to rounding: some turn neighbours instead of halves."""
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 2**-6)):
        q, k = torch.randn(2, 2, 3, 4, 8, generator=generator).to(dtype).transpose(2, 3).unbind()
        cos, sin = torch.randn(2, 2, 3, 8, generator=generator).to(dtype).unbind()
        ours = rotated(q, k, cos, sin)
        if ours is None:
            return False
        try:
            found = theirs(q, k, cos, sin)
        except (TypeError, ValueError, RuntimeError, IndexError):  # it wants other arguments
            return False
        if not all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(ours, found, strict=True)):
            return False
    return True
