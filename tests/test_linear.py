"""Linear layers by oneDNN: the same values and gradients as torch's, and torch's own wherever they should stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models import linear
from models.linear import ENOUGH, OneDNNLinear, adopt_linear


def pair(inner: int, outer: int, bias: bool) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(inner, outer, bias=bias), nn.Linear(inner, outer, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    ours.__class__ = OneDNNLinear
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(128,), (4, 32), (2, 2, 32)])
def test_values_and_gradients(shape: tuple[int, ...], bias: bool) -> None:
    """128 rows x 128 x 256 are twice as many multiplications as it takes."""
    ours, theirs = pair(128, 256, bias)
    mine = torch.randn(*shape, 128, requires_grad=True)
    other = mine.detach().clone().requires_grad_()
    assert mine.numel() * 256 >= ENOUGH
    ours(mine).square().sum().backward()
    theirs(other).square().sum().backward()
    torch.testing.assert_close(ours(mine), theirs(other), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-3, rtol=1e-4)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, dict(theirs.named_parameters())[name].grad, atol=1e-3, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(ours(mine), theirs(other), atol=1e-5, rtol=1e-5)


def test_frozen_weights_have_no_gradient() -> None:
    ours, _ = pair(128, 256, True)
    ours.requires_grad_(False)
    told = torch.randn(128, 128, requires_grad=True)
    ours(told).sum().backward()
    assert ours.weight.grad is None and ours.bias.grad is None and told.grad is not None


@pytest.mark.parametrize("told", [torch.randn(2, 128), torch.randn(0, 128), torch.randn(128)])
def test_small_products_are_torchs_to_the_bit(told: torch.Tensor) -> None:
    ours, theirs = pair(128, 256, True)
    assert torch.equal(ours(told), theirs(told))


def test_lower_precision_is_torchs_to_the_bit() -> None:
    ours, theirs = pair(128, 256, False)
    told = torch.randn(128, 128)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(told), theirs(told))
    assert torch.equal(ours.bfloat16()(told.bfloat16()), theirs.bfloat16()(told.bfloat16()))


def test_a_copy_is_a_layer_of_its_own() -> None:
    ours, theirs = pair(128, 256, True)
    twin = copy.deepcopy(ours)
    with torch.no_grad():
        twin.weight.zero_()
    assert ours.weight.abs().sum() > 0 and list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("worth", [True, False])
def test_a_model_adopts_it_where_it_pays(worth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "pays", lambda: worth)
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Bilinear(4, 4, 4))
    adopt_linear(model)
    assert [type(layer) for layer in model] == [OneDNNLinear if worth else nn.Linear, nn.LayerNorm, nn.Bilinear]
