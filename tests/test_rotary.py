"""Rotary embeddings by our kernel are the family's own, with their gradient, and in autocast's precision."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import native, rotary
from models.engine import Engine
from tests.architectures import build

BY_HALVES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3")
BY_NEIGHBOURS = ("cohere", "glm")

needs_kernels = pytest.mark.skipif(native.compiled() is None, reason="no C compiler, or no kernels for this processor")


def family(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    theirs = importlib.import_module(f"transformers.models.{name}.modeling_{name}").apply_rotary_pos_emb
    return getattr(theirs, "__wrapped__", theirs)


def states(dtype: torch.dtype, rows: int = 3, positions: int = 5, width: int = 12) -> tuple[Tensor, ...]:
    """Queries of four heads, keys of two, and angles as a rotary embedding gives them."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(rows, positions, heads, width, generator=generator).to(dtype) for heads in (4, 2))
    angle = torch.randn(rows, positions, width // 2, generator=generator)
    angles = torch.cat((angle, angle), -1)
    return q.transpose(1, 2), k.transpose(1, 2), angles.cos().to(dtype), angles.sin().to(dtype)


@needs_kernels
@pytest.mark.parametrize("name", BY_HALVES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-6)])
def test_what_turns_by_halves_is_computed_alike(name: str, dtype: torch.dtype, tolerance: float) -> None:
    given = states(dtype)
    found = rotary.rotated(*given)
    assert found is not None
    for ours, theirs in zip(found, family(name)(*given), strict=True):
        assert ours.dtype == dtype and torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize("name", BY_NEIGHBOURS)
def test_what_turns_neighbours_is_left_alone(name: str) -> None:
    assert not rotary._alike(family(name))


@needs_kernels
def test_gradients_are_the_familys() -> None:
    """Also where the two halves of the sines differ, which no model has but the formula allows."""
    q, k, cos, sin = states(torch.float32)
    sin = torch.randn(sin.shape, generator=torch.Generator().manual_seed(1))
    weights = [torch.randn(part.shape, generator=torch.Generator().manual_seed(2)) for part in (q, k)]
    gradients = []
    for apply in (rotary.rotated, family("llama")):
        leaves = [part.detach().clone(memory_format=torch.preserve_format).requires_grad_() for part in (q, k)]
        turned = apply(*leaves, cos, sin)
        assert turned is not None
        sum((part * weight).sum() for part, weight in zip(turned, weights, strict=True)).backward()  # type: ignore[union-attr]
        gradients.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)  # type: ignore[arg-type]


@needs_kernels
def test_one_row_of_angles_serves_all_rows() -> None:
    q, k, cos, sin = states(torch.float32)
    found, expected = rotary.rotated(q, k, cos[:1], sin[:1]), family("llama")(q, k, cos[:1], sin[:1])
    assert found is not None and all(map(torch.allclose, found, expected))


@needs_kernels
@pytest.mark.parametrize("how", ["partial", "odd", "heads first", "mixed"])
def test_other_shapes_are_left_to_the_family(how: str) -> None:
    q, k, cos, sin = states(torch.float32, width=12)
    given = {
        "partial": (q, k, cos[..., :8], sin[..., :8]),
        "odd": (q[..., :11], k[..., :11], cos[..., :11], sin[..., :11]),
        "heads first": (q.contiguous(), k.contiguous(), cos, sin),
        "mixed": (q.bfloat16(), k.bfloat16(), cos, sin),
    }[how]
    assert rotary.rotated(*given) is None


@needs_kernels
def test_results_do_not_depend_on_threads() -> None:
    before, given, found = torch.get_num_threads(), states(torch.bfloat16, 400), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(rotary.rotated(*given))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@needs_kernels
def test_a_family_is_adopted_once() -> None:
    module = importlib.import_module("transformers.models.llama.modeling_llama")
    engine = Engine(*build("llama"), name="llama")
    first = module.apply_rotary_pos_emb
    assert hasattr(first, "__wrapped__")
    Engine(*build("llama"), name="again")
    engine.snapshot()
    assert module.apply_rotary_pos_emb is first


def test_angles_follow_autocast() -> None:
    """In float32 nothing changes; under autocast every rotary embedding, adopted once, gives its precision."""
    model, tokenizer = build("gemma3")
    for _ in range(2):
        engine = Engine(model, tokenizer, name="gemma3", dtype=torch.bfloat16)
    found: list[torch.dtype] = []

    def note(_: Any, __: Any, angles: tuple[Tensor, Tensor]) -> None:
        found.extend(part.dtype for part in angles)

    turning = [module for module in model.modules() if rotary.is_rotary(module)]
    for module in turning:
        assert sum(hook is rotary._rounded for hook in module._forward_hooks.values()) == 1
        module.register_forward_hook(note)
    ids = torch.arange(5)[None]
    with torch.no_grad():
        model(input_ids=ids)
        assert found and set(found) == {torch.float32}
        found.clear()
        with engine.autocast():
            model(input_ids=ids)
    assert found and set(found) == {torch.bfloat16}
