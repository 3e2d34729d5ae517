"""RMSNorm and the gate of SwiGLU by one kernel each, in place of the chains of operators that torch runs for them.

A module keeps its weights, its hooks and its name; its class becomes a subclass with another ``forward``. It is found
by its name, whatever the architecture, and taken only if a trial shows that ours computes the same, rounding included:
Gemma's, which multiplies by 1 + weight, is left alone. So is every call that the kernels were not made for.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.native import compiled, kernel

_CHUNK = 256
"""Rows whose share in the gradient of a norm's weight is one sum, as the kernel has it."""
_TRIED: dict[Hashable, bool] = {}


def adopt_fused(model: nn.Module) -> None:
    """Let the model's norms and gated layers use our kernels, where there are any and a trial shows that they may."""
    if compiled() is None:
        return
    for module in model.modules():
        fused = _counterpart(module)
        if fused is not None and _tried(module, fused):
            module.__class__ = fused


class _Fused(nn.Module):
    """What the subclasses share: they are made as they are needed, so pickle has to be told how."""

    recipe: tuple[Callable[..., type[nn.Module]], type[nn.Module], str]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, self.recipe, *super().__reduce_ex__(protocol)[2:]  # type: ignore[return-value]


class _FusedNorm(_Fused):
    """x / sqrt(mean(x^2) + epsilon) times a weight, over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        fits = type(x) is Tensor and x.is_contiguous() and x.shape[-1:] == weight.shape and weight.is_contiguous()
        run = kernel("rms_norm", x, weight) if fits and not torch.compiler.is_compiling() else None
        if run is None:
            return super().forward(x)  # type: ignore[no-any-return]
        epsilon = getattr(self, self.recipe[2])
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return _Norm.apply(x, weight, epsilon, run)  # type: ignore[no-any-return]
        out = torch.empty_like(x)
        run(x, weight, out, None, x.numel() // len(weight), len(weight), epsilon)
        return out


class _FusedMLP(_Fused):
    """down(silu(gate(x)) up(x)): the three layers stay modules, whatever they are."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(x)  # type: ignore[no-any-return]
        gate, up, act = self.gate_proj(x), self.up_proj(x), self.act_fn
        plain = type(gate) is type(up) is Tensor and gate.shape == up.shape and gate.numel() > 0
        ours = type(act).__name__ == self.recipe[2] and not act._forward_hooks and not act._forward_pre_hooks
        run = kernel("silu_times", gate, up) if plain and ours else None
        if run is None or not gate.is_contiguous() or not up.is_contiguous():
            return self.down_proj(act(gate) * up)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() and (gate.requires_grad or up.requires_grad):
            return self.down_proj(_Gate.apply(gate, up, run))  # type: ignore[no-any-return]
        out = torch.empty_like(gate)
        run(gate, up, out, gate.numel())
        return self.down_proj(out)  # type: ignore[no-any-return]


class _Norm(torch.autograd.Function):
    """RMSNorm that keeps its input and, of each row, the factor; torch's operators keep three tensors of x's size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, run: Callable[..., None]) -> Tensor:
        out, rows = torch.empty_like(x), x.numel() // len(weight)
        rstd_N = x.new_empty(rows, dtype=torch.float32)
        run(x, weight, out, rstd_N, rows, len(weight), epsilon)
        ctx.save_for_backward(x, weight, rstd_N)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        x, weight, rstd_N = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        rows, width = len(rstd_N), len(weight)
        dx = torch.empty_like(x) if wants_x else None
        sums = x.new_empty(-(-rows // _CHUNK), width, dtype=torch.float32) if wants_weight else None
        _gradients("rms_norm_gradients", x, weight)(upstream.contiguous(), x, weight, rstd_N, dx, sums, rows, width)
        return dx, None if sums is None else sums.sum(0).to(weight.dtype), None, None


class _Gate(torch.autograd.Function):
    """silu(gate) up, which keeps nothing but the two."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, run: Callable[..., None]) -> Tensor:
        out = torch.empty_like(gate)
        run(gate, up, out, gate.numel())
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        run = _gradients("silu_times_gradients", gate, up)
        run(upstream.contiguous(), gate, up, dgate, dup, gate.numel())
        return dgate, dup, None


def _gradients(name: str, *tensors: Tensor) -> Callable[..., None]:
    run = kernel(name, *tensors)
    if run is None:
        raise RuntimeError(f"{name}: there was a kernel for the values, and there is none for their gradients")
    return run


@cache
def _norm_class(kind: type[nn.Module], epsilon: str) -> type[nn.Module]:
    """``kind`` by our kernel; ``epsilon`` names the attribute that holds its own."""
    return _subclass(_FusedNorm, kind, (_norm_class, kind, epsilon))


@cache
def _mlp_class(kind: type[nn.Module], act: str) -> type[nn.Module]:
    """``kind`` by our kernel as long as its activation is of the class ``act``."""
    return _subclass(_FusedMLP, kind, (_mlp_class, kind, act))


def _subclass(ours: type[nn.Module], kind: type[nn.Module], recipe: tuple[Any, ...]) -> type[nn.Module]:
    # It keeps its name: transformers goes by it, for instance where it initialises weights.
    return type(kind.__name__, (ours, kind), {"__module__": kind.__module__, "recipe": recipe})


def _blank(maker: Callable[..., type[nn.Module]], kind: type[nn.Module], detail: str) -> nn.Module:
    made = maker(kind, detail)
    return made.__new__(made)


def _counterpart(module: nn.Module) -> type[nn.Module] | None:
    """The class by our kernel for what looks like a norm or a gated layer."""
    kind = type(module)
    if isinstance(module, _Fused) or "forward" in vars(module) or module._buffers:
        return None
    if len(inspect.signature(kind.forward).parameters) != 2:  # some take a gate besides
        return None
    held = {name for name, held in module._parameters.items() if held is not None}
    if kind.__name__.endswith("RMSNorm") and not module._modules and held == {"weight"}:
        epsilon = next((n for n in ("variance_epsilon", "eps") if isinstance(getattr(module, n, None), float)), None)
        shape = module._parameters["weight"].shape
        return _norm_class(kind, epsilon) if epsilon and len(shape) == 1 and shape[0] else None
    if not held and set(module._modules) == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        act = type(module.act_fn).__name__
        return _mlp_class(kind, act) if act in ("SiLU", "SiLUActivation") else None
    return None


def _tried(module: nn.Module, fused: type[nn.Module]) -> bool:
    """``_agree``, asked once for all modules of a class with the same settings."""
    held = vars(module).items()
    plain = frozenset(
        (n, v) for n, v in held if isinstance(v, (bool, int, float, str)) and n[0] != "_" and n != "training"
    )
    if (fused, plain) not in _TRIED:
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # and no other device's
            _TRIED[fused, plain] = all(
                _agree(_small(module).to(dtype).train(training), fused)
                for dtype in (torch.float32, torch.bfloat16)
                for training in (True, False)
            )
    return _TRIED[fused, plain]


def _small(module: nn.Module) -> nn.Module:
    """A module of the same class and settings with random weights of its own, few where the class does not mind."""
    small = copy.copy(module)
    nn.Module.__init__(small)  # what the copy shares with the module: tensors, layers, hooks
    if module._parameters:
        small.weight = nn.Parameter(torch.randn(len(module._parameters["weight"]), device="cpu", dtype=torch.float32))
        return small
    for name, (inner, outer) in {"gate_proj": (24, 40), "up_proj": (24, 40), "down_proj": (40, 24)}.items():
        setattr(small, name, nn.Linear(inner, outer, device="cpu", dtype=torch.float32))
    small.act_fn = type(module.act_fn)()
    return small


def _agree(theirs: nn.Module, fused: type[nn.Module]) -> bool:
    """Whether ``fused`` gives what ``theirs`` does: in float32 values and gradients up to the order of sums, in
    bfloat16 nearly all values to the bit and none further off than one rounding."""
    ours = copy.deepcopy(theirs)
    ours.__class__ = fused
    dtype = next(theirs.parameters()).dtype
    width = len(theirs.weight) if "weight" in theirs._parameters else theirs.gate_proj.in_features
    sizes = torch.tensor([1e-3, 0.1, 1, 3, 10, 100.0])[:, None]  # the first of epsilon's order
    x, upstream = (sizes * torch.randn(2, 6, width)).to(dtype), torch.randn(2, 6, width).to(dtype)
    try:
        expected = _passed(theirs, x, upstream)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # it wants other layers than these: another formula
        return False
    made = _passed(ours, x, upstream)
    if any(one.dtype != other.dtype or one.shape != other.shape for one, other in zip(made, expected, strict=True)):
        return False
    if dtype == torch.float32:
        return all(_near(one, other, 2e-5) for one, other in zip(made, expected, strict=True))
    rare = (made[0] != expected[0]).float().mean() <= 0.02
    return bool(rare) and _near(made[0].float(), expected[0].float(), 2**-7)


def _passed(module: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """The result and the gradients of input and weights."""
    told = x.clone().requires_grad_()
    out = module(told)
    return [out.detach(), *torch.autograd.grad(out, [told, *module.parameters()], upstream)]


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Beside the largest of each row."""
    return bool(((one - other).abs() <= tolerance * other.abs().amax(-1, keepdim=True)).all())
