"""The kernel of a decoding step against torch's attention: precisions, shapes, masks, prompts, threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.cache import CHUNK, GrowingLayer
from models.native_attention import Packed, attend, available
from models.prompts import Prompts

SCALE = 0.3
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}

pytestmark = pytest.mark.skipif(
    not available(torch.float32, torch.device("cpu")), reason="no C compiler, or no kernels for this processor"
)


def grown(states: Tensor) -> GrowingLayer:
    """A cache that keeps keys by feature, filled with (2, B, K, T, D) a column at a time."""
    layer = GrowingLayer("keys")
    layer.update(states[0, :, :, :1], states[1, :, :, :1])
    layer.batch_select_indices(torch.arange(states.shape[1]))
    for column in range(1, states.shape[3]):
        layer.update(states[0, :, :, column : column + 1], states[1, :, :, column : column + 1])
    return layer


def expected(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    out = F.scaled_dot_product_attention(
        query.float(), keys.float(), values.float(), mask, scale=SCALE, enable_gqa=True
    )
    return out.transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("width", [8, 20, 32, 80])
@pytest.mark.parametrize("masked", [False, True])
def test_a_row_attends_to_what_it_has_said(
    dtype: torch.dtype, heads: tuple[int, int], width: int, masked: bool
) -> None:
    """Over 1, 41 (a buffer longer than what is filled) and 160 columns (a whole block of 128 and more)."""
    generator = torch.Generator().manual_seed(0)
    for said in (1, CHUNK + 9, 160):
        states = torch.randn(2, 3, heads[1], said, width, generator=generator).to(dtype)
        query = torch.randn(3, heads[0], 1, width, generator=generator).to(dtype)
        mask = None
        if masked:
            mask = torch.rand(3, 1, 1, said, generator=generator) < 0.7
            mask[..., -1] = True
        layer = grown(states)
        found = attend(query, layer.keys, layer.values, mask, SCALE)
        assert found is not None and found.dtype == dtype
        wanted = expected(query, states[0], states[1], mask)
        assert torch.allclose(found.float(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
@pytest.mark.parametrize("columns", [1, 16, 37])
def test_siblings_attend_to_their_prompt_first(dtype: torch.dtype, heads: tuple[int, int], columns: int) -> None:
    """Three prompts of unequal length, five rows: the kernel, the products and torch's attention agree."""
    generator = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, 3, heads[1], columns, 16, generator=generator).to(dtype)
    own = torch.ones(3, columns, dtype=torch.bool)
    own[1, : columns // 2] = False
    prompt_B = torch.tensor([0, 2, 1, 1, 0])
    states = torch.randn(2, 5, heads[1], 11, 16, generator=generator).to(dtype)
    query = torch.randn(5, heads[0], 1, 16, generator=generator).to(dtype)
    layer = grown(states)
    found = attend(query, layer.keys, layer.values, None, SCALE, Packed.of(keys, values, own), prompt_B)
    assert found is not None
    whole = [torch.cat((before[prompt_B], said), 2) for before, said in zip((keys, values), states, strict=True)]
    mask = torch.cat((own[prompt_B], torch.ones(5, 11, dtype=torch.bool)), 1)[:, None, None]
    wanted = expected(query, *whole, mask)
    assert torch.allclose(found.float(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    prompts = Prompts([(keys, values)], own, prompt_B)
    assert torch.equal(prompts.attend(0, query, layer.keys, layer.values, None, SCALE), found)
    multiplied = prompts._multiplied(0, query, layer.keys, layer.values, None, SCALE)
    assert torch.allclose(multiplied.float(), wanted, atol=2 * TOLERANCE[dtype], rtol=2 * TOLERANCE[dtype])


def test_a_row_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(2, 8, 2, 70, 32, generator=generator).bfloat16()
    query = torch.randn(8, 4, 1, 32, generator=generator).bfloat16()
    together = grown(states)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = attend(query, together.keys, together.values, None, SCALE)
        torch.set_num_threads(1)
        one = attend(query, together.keys, together.values, None, SCALE)
    finally:
        torch.set_num_threads(before)
    assert one is not None and two is not None and torch.equal(one, two)
    for row in range(8):
        alone = grown(states[:, row : row + 1])
        found = attend(query[row : row + 1], alone.keys, alone.values, None, SCALE)
        assert found is not None and torch.equal(found[0], one[row])


def test_what_is_not_a_number_stays_that() -> None:
    states = torch.ones(2, 2, 1, 5, 16)
    states[0, 1, 0, 3, 2] = torch.nan
    layer = grown(states)
    found = attend(torch.ones(2, 1, 1, 16), layer.keys, layer.values, None, SCALE)
    assert found is not None and found[0].isfinite().all() and found[1].isnan().all()


def test_what_the_kernel_cannot_take_is_left_alone() -> None:
    """A cache by position, values of another width, an additive mask, another precision."""
    states = torch.randn(2, 2, 1, 5, 16)
    query, layer, plain = torch.randn(2, 1, 1, 16), grown(states), GrowingLayer()
    plain.update(states[0], states[1])
    plain.batch_select_indices(torch.arange(2))
    assert attend(query, plain.keys, plain.values, None, SCALE) is None
    assert attend(query, layer.keys, layer.values[..., :8], None, SCALE) is None
    assert attend(query, layer.keys, layer.values, torch.zeros(2, 1, 1, 5), SCALE) is None
    assert attend(query.double(), layer.keys, layer.values, None, SCALE) is None
