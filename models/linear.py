"""Linear layers by oneDNN, where torch's own choice for float32 leaves half of a core unused.

torch hands products in float32 to MKL, which uses AVX-512 on Intel's processors alone; oneDNN uses it everywhere. On
an AMD core with AVX-512 a product takes half the time, forward and backward.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ENOUGH = 1 << 21
"""Multiplications from which oneDNN's is the faster product: below, its own overhead outweighs them."""
_CPU = Path("/proc/cpuinfo")


class OneDNNLinear(nn.Linear):
    """``nn.Linear`` whose products in float32 are oneDNN's; all else, autocast and compiled graphs too, is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        plain = input.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        large = input.numel() * self.out_features >= ENOUGH and input.dim() > 1
        if not plain or not large or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        if torch.is_grad_enabled():
            return _Product.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]
        return _product(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """x W^T + b with the gradients g W, g^T x and the sum of g over the rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = upstream.flatten(0, -2)
        return (
            _product(upstream, weight.t()) if wants_x else None,
            _product(rows.t(), x.flatten(0, -2).t()) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T without gradient, as a large layer computes it in this dtype on this machine: what to measure it by."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and pays():
        return _product(x, weight)
    return nn.functional.linear(x, weight)


def adopt_linear(model: nn.Module) -> None:
    """Let the model's linear layers be ``OneDNNLinear``, where it pays. Their weights stay what they are, and so does
    what is saved and copied of them."""
    if pays():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDNNLinear


@cache
def pays() -> bool:
    """Whether this processor has AVX-512 and is not Intel's."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    return _CPU.exists() and "AuthenticAMD" in _CPU.read_text(encoding="utf-8", errors="replace")


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
