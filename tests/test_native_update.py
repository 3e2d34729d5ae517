"""The kernels of the update against torch's operators: softmax among siblings, log-probabilities, both gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import native
from models.scoring import token_logprobs
from models.sibling_attention import attention
from models.sibling_weights import score_gradients, score_weights
from models.siblings import Siblings, beside
from selfplay.types import Completion

pytestmark = pytest.mark.skipif(native.compiled() is None, reason="no compiler, or told to do without")

ULP = {torch.float32: 1e-6, torch.bfloat16: 2**-7}
"""Relative: of bfloat16 one unit in the last place of the result."""
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
SHAPES = pytest.mark.parametrize(
    ("prompts", "shared", "many", "width", "each", "length"),
    [(2, 2, 3, 127, 1, 48), (1, 1, 1, 1, 1, 1), (2, 1, 2, 17, 3, 5), (1, 2, 1, 33, 2, 130), (2, 3, 1, 16, 4, 0)],
)
LOGITS = pytest.mark.parametrize(("rows", "columns"), [(5, 512), (3, 1), (7, 33), (1, 100), (0, 8)])


def by_torch(monkeypatch: pytest.MonkeyPatch, call: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    with monkeypatch.context() as patch:
        patch.setattr(native, "compiled", lambda: None)
        return call()


def close(ours: Tensor | None, theirs: Tensor | None, dtype: torch.dtype, slack: float = 1e-9) -> None:
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=ULP[dtype], atol=slack, equal_nan=True)


def scores(prompts: int, shared: int, many: int, width: int, each: int, length: int) -> tuple[Tensor | None, Tensor]:
    torch.manual_seed(width)
    shape = (prompts * shared, many, width * each)
    return torch.randn(*shape, length) * 4 if length else None, torch.randn(*shape, width) * 4


def copied(parts: tuple[Tensor | None, Tensor], dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    before, own = parts
    return None if before is None else before.to(dtype, copy=True), own.to(dtype, copy=True)


@DTYPES
@SHAPES
@pytest.mark.parametrize("padded", [False, True])
def test_weights_are_torchs(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    padded: bool,
    prompts: int,
    shared: int,
    many: int,
    width: int,
    each: int,
    length: int,
) -> None:
    made = scores(prompts, shared, many, width, each, length)
    hidden = None
    if padded and length:
        hidden = torch.zeros(prompts, length)
        hidden[0, length // 2 :] = -math.inf
    ours = score_weights(*copied(made, dtype), hidden)
    theirs = by_torch(monkeypatch, lambda: score_weights(*copied(made, dtype), hidden))
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, dtype)
    place = torch.arange(width * each)[:, None] // each
    assert not ours[1][..., torch.arange(width) > place].any()  # nobody sees what comes after
    if hidden is not None and ours[0] is not None:
        assert not ours[0][:shared, ..., length // 2 :].any()
    total = ours[1].float().sum(-1) + (0 if ours[0] is None else ours[0].float().sum(-1))
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=ULP[dtype])


@DTYPES
@SHAPES
def test_gradients_of_scores_are_torchs(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    prompts: int,
    shared: int,
    many: int,
    width: int,
    each: int,
    length: int,
) -> None:
    shape = (prompts, shared, many, width, each, length)
    weight = copied(score_weights(*scores(*shape), None), dtype)
    before, own = scores(*shape)
    upstream = copied((before, own.flip(-1)), dtype)
    up, out = (torch.randn(prompts * shared, many, width * each, 9).to(dtype) for _ in range(2))
    exact = [copied(parts, torch.float32) for parts in (weight, upstream)]  # no rounding on torch's way
    theirs = by_torch(monkeypatch, lambda: score_gradients(*exact, up.float(), out.float()))
    for one, other in zip(score_gradients(weight, upstream, up, out), theirs, strict=True):
        close(one, other, dtype, slack=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@DTYPES
def test_scores_that_are_no_numbers_come_out_as_torchs(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bad: float
) -> None:
    made = scores(1, 1, 1, 20, 1, 19)
    assert made[0] is not None
    made[0][0, 0, 3, 2] = made[1][0, 0, 7, 5] = bad
    made[0][0, 0, 9] = made[1][0, 0, 9] = bad
    ours = score_weights(*copied(made, dtype), None)
    theirs = by_torch(monkeypatch, lambda: score_weights(*copied(made, dtype), None))
    torch.testing.assert_close(ours[0], theirs[0], rtol=ULP[dtype], atol=1e-9, equal_nan=True)
    seen = torch.ones(20, 20, dtype=torch.bool).tril()
    torch.testing.assert_close(ours[1][0, 0][seen], theirs[1][0, 0][seen], rtol=ULP[dtype], atol=1e-9, equal_nan=True)


LENGTHS = {
    "alike": [(4, 9), (4, 9), (5, 8), (5, 8)],  # two prompts in one block, one of them padded
    "unlike": [(1, 1), (40, 33), (40, 17), (2, 1)],
    "one": [(3, 18)],
    "nothing said": [(7, 1), (5, 1)],
}


def family(lengths: list[tuple[int, int]]) -> Siblings:
    said = [Completion("", (p,) * p, tuple(range(t)), (), "stop") for p, t in lengths]
    return beside(said, torch.device("cpu"), 8)


def attended(kin: Siblings, dtype: torch.dtype, heads: int, shared: int) -> tuple[Tensor, ...]:
    torch.manual_seed(heads)
    count = len(kin.ids_N)
    query, key, value = (torch.randn(1, h, count, 8).to(dtype).requires_grad_() for h in (heads, shared, shared))
    out, _ = attention(torch.nn.Identity(), query, key, value, None, siblings=kin)
    return out.detach(), *torch.autograd.grad(out, (query, key, value), torch.randn(out.shape).to(dtype))


@DTYPES
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (3, 1)])
def test_attention_and_its_gradients_are_torchs(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, lengths: list[tuple[int, int]], heads: int, shared: int
) -> None:
    kin = family(lengths)
    ours = attended(kin, dtype, heads, shared)
    for one, other in zip(ours, by_torch(monkeypatch, lambda: attended(kin, dtype, heads, shared)), strict=True):
        assert one.dtype == other.dtype == dtype and one.shape == other.shape
        slack = 1e-5 if dtype == torch.float32 else 2**-6 * other.abs().max()  # its products round in bfloat16, too
        torch.testing.assert_close(one.float(), other.float(), rtol=ULP[dtype], atol=float(slack))


def scored(logits: Tensor, token: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    logp = token_logprobs(logits, token)
    return logp.detach(), *torch.autograd.grad(logp, logits, upstream)


@DTYPES
@LOGITS
def test_logprobs_are_torchs(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int, columns: int) -> None:
    torch.manual_seed(rows)
    logits, token = (torch.randn(rows, columns) * 5).to(dtype), torch.randint(columns, (rows,))
    case = (logits, token, torch.randn(rows))
    logp, gradient = scored(*case)
    theirs, expected = by_torch(monkeypatch, lambda: scored(*case))
    torch.testing.assert_close(logp, theirs, rtol=1e-6, atol=2e-6)  # of the logits, that are up to 20
    close(gradient, expected, dtype, slack=1e-6)


@DTYPES
def test_logits_that_are_no_numbers_come_out_as_torchs(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    logits = torch.randn(7, 40).to(dtype)
    logits[0], logits[1, 3], logits[2, 5], logits[3, :39] = -math.inf, math.nan, math.inf, -math.inf
    logits[4, 1], logits[4, 2], logits[5, 4] = math.inf, -math.nan, -math.inf
    case = (logits, torch.tensor([1, 2, 5, 39, 0, 4, 6]), torch.ones(7))
    for one, other in zip(scored(*case), by_torch(monkeypatch, lambda: scored(*case)), strict=True):
        torch.testing.assert_close(one, other, rtol=ULP[dtype], atol=1e-6, equal_nan=True)


def test_a_token_beyond_the_vocabulary_is_an_error() -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        token_logprobs(torch.randn(2, 8), torch.tensor([1, 8]))


@DTYPES
def test_the_number_of_threads_changes_no_byte(dtype: torch.dtype) -> None:
    kin, logits = family(LENGTHS["unlike"]), torch.randn(200, 333).to(dtype)
    case = (logits, torch.randint(333, (200,)), torch.randn(200))
    before, made = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            weight = score_weights(*copied(scores(2, 2, 3, 40, 2, 21), dtype), None)
            made.append((*weight, *scored(*case), *attended(kin, dtype, 4, 2)))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*made, strict=True):
        assert one is not None and other is not None and torch.equal(one, other)
