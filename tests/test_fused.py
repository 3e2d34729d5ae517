"""RMSNorm and SwiGLU by our kernels: the module's values and gradients, and its own forward wherever it should stay."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from models import fused, native
from models.fused import _Fused, adopt_fused
from models.linear import OneDNNLinear
from tests.architectures import build

pytestmark = pytest.mark.skipif(
    native.compiled() is None, reason="no C compiler for this machine, or told to use torch"
)

ULP = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
KINDS = pytest.mark.parametrize("kind", ["norm", "mlp"])


def config(width: int, act: str = "silu") -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width, intermediate_size=2 * width + 1, num_attention_heads=1, head_dim=8, hidden_act=act
    )


def module(kind: str, width: int = 33) -> nn.Module:
    torch.manual_seed(width)
    if kind == "norm":
        made: nn.Module = LlamaRMSNorm(width)
        nn.init.normal_(made.weight)
        return made
    return LlamaMLP(config(width))


def adopted(theirs: nn.Module) -> nn.Module:
    ours = copy.deepcopy(theirs)
    adopt_fused(ours)
    return ours


def passed(layer: nn.Module, x: Tensor) -> list[Tensor]:
    told = x.clone().requires_grad_()
    out = layer(told)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [told, *layer.parameters()], upstream)]


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Beside the largest: of a row of values, of a gradient's every element."""
    ours, theirs = ours.detach(), theirs.detach()
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    slack = tolerance * float(theirs.float().abs().amax()) if theirs.numel() else 0.0
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=tolerance, atol=slack)


@DTYPES
@KINDS
@pytest.mark.parametrize("shape", [(5, 33), (1, 33), (0, 33), (33,), (3, 1, 128), (2, 300, 16), (4, 3)])
def test_values_and_gradients(kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    theirs = module(kind, shape[-1]).to(dtype)
    ours, x = adopted(theirs), torch.randn(shape).to(dtype)
    assert isinstance(ours, _Fused)
    for one, other in zip(passed(ours, x), passed(theirs, x), strict=True):
        close(one, other, ULP[dtype] * (1 if dtype == torch.float32 else 3))  # a gradient is rounded on the way
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=ULP[dtype], atol=1e-6 if dtype == torch.float32 else 2**-9)


def test_nearly_all_values_of_a_norm_are_theirs_to_the_bit() -> None:
    theirs, x = module("norm", 128).bfloat16(), torch.randn(64, 128).bfloat16()
    with torch.no_grad():
        same = (adopted(theirs)(x) == theirs(x)).float().mean()
    assert same > 0.999


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30, -200.0, 0.0])
@KINDS
def test_unusual_numbers_come_out_as_theirs(kind: str, bad: float) -> None:
    theirs, x = module(kind), torch.randn(3, 33)
    x[1, 4], x[2] = bad, 0
    torch.testing.assert_close(adopted(theirs)(x), theirs(x), equal_nan=True)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral-sliding"])
def test_whole_models(name: str) -> None:
    """The norms of Qwen3's heads see four axes."""
    theirs, _ = build(name)
    ours = adopted(theirs)
    named = [type(m) for m in ours.modules() if type(m).__name__.endswith(("RMSNorm", "MLP"))]
    assert named and all(issubclass(kind, _Fused) for kind in named)
    ids = torch.randint(2, 90, (2, 9))
    one, other = (model(ids).logits for model in (ours, theirs))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    for logits in (one, other):
        logits.square().mean().backward()
    for (_, mine), (_, its) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if its.grad is not None:
            close(mine.grad, its.grad, 2e-3)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "gpt2"])
def test_other_formulas_are_left_alone(name: str) -> None:
    assert not any(isinstance(m, _Fused) for m in adopted(build(name)[0]).modules())


def test_a_name_proves_nothing() -> None:
    class WrongRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states) * 1.01

    class RoundedOnceRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return nn.functional.rms_norm(
                hidden_states.float(), self.weight.shape, self.weight.float(), self.variance_epsilon
            ).to(hidden_states.dtype)

    class DroppingMLP(LlamaMLP):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.1, self.training)

    others = nn.Sequential(
        WrongRMSNorm(8), RoundedOnceRMSNorm(8), Gemma2RMSNorm(8), DroppingMLP(config(8)), LlamaMLP(config(8, "gelu"))
    )
    kinds = [type(layer) for layer in others]
    adopt_fused(others)
    assert [type(layer) for layer in others] == kinds


def test_the_trial_draws_no_number_of_a_run() -> None:
    fused._TRIED.clear()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    adopt_fused(nn.Sequential(LlamaRMSNorm(8)))
    assert torch.equal(torch.rand(4), expected) and fused._TRIED


@DTYPES
@KINDS
def test_the_number_of_threads_changes_no_byte(kind: str, dtype: torch.dtype) -> None:
    """More than torch's 32,768 elements, from which the kernels share the work."""
    if kind == "norm":
        ours, x = adopted(module(kind, 64).to(dtype)), torch.randn(1030, 64).to(dtype)
        call = lambda: passed(ours, x)  # noqa: E731
    else:  # the products around it are torch's own affair
        parts = [torch.randn(1030, 64).to(dtype).requires_grad_() for _ in range(2)]
        run = native.kernel("silu_times", *parts)
        call = lambda: list(torch.autograd.grad(fused._Gate.apply(*parts, run), parts, parts[0].detach()))  # noqa: E731
    before, made = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(call())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_frozen_weights_and_inputs_have_no_gradient() -> None:
    ours = adopted(module("norm"))
    told = torch.randn(4, 33, requires_grad=True)
    ours(told.detach()).sum().backward()
    assert ours.weight.grad is not None and told.grad is None
    expected, ours.weight.grad = ours.weight.grad, None
    ours.requires_grad_(False)(told).sum().backward()
    assert ours.weight.grad is None and told.grad is not None and expected.abs().sum() > 0


@KINDS
def test_left_to_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While torch compiles, without a kernel, in another precision, in mixed precision, for what is not contiguous."""
    theirs = module(kind)
    ours, x = adopted(theirs), torch.randn(6, 33)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert torch.equal(ours(x), theirs(x))
    with monkeypatch.context() as patch:
        patch.setattr(native, "compiled", lambda: None)
        assert torch.equal(ours(x), theirs(x))
    apart = torch.randn(33, 6).T
    close(ours(apart), theirs(apart), 1e-5)
    assert torch.equal(ours.double()(x.double()), theirs.double()(x.double()))
    ours, theirs = ours.float(), theirs.float()
    if kind == "norm":
        assert torch.equal(ours(x.bfloat16()), theirs(x.bfloat16()))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == theirs(x).dtype
        close(ours(x), theirs(x), ULP[torch.bfloat16] if kind == "mlp" else 1e-5)


@KINDS
def test_a_copy_is_a_module_of_its_own(kind: str) -> None:
    ours = adopted(module(kind))
    twin = copy.deepcopy(ours)
    assert type(twin) is type(ours) and list(twin.state_dict()) == list(ours.state_dict())
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(ours.parameters()).abs().sum() > 0
    torch.save(ours, io.BytesIO())  # which asks where to find a class again
    before = type(ours)
    adopt_fused(ours)
    assert type(ours) is before and type(ours).__name__ == type(module(kind)).__name__


@KINDS
def test_hooks_and_checkpoints(kind: str) -> None:
    ours, x = adopted(module(kind)), torch.randn(4, 33)
    expected, seen = passed(ours, x), []
    ours.register_forward_hook(lambda *_: seen.append("module"))
    if kind == "mlp":
        ours.act_fn.register_forward_hook(lambda *_: seen.append("activation"))
    told = x.clone().requires_grad_()
    for reentrant in (True, False):
        out = checkpoint(ours, told, use_reentrant=reentrant)
        out.sum().backward()
    assert torch.allclose(out, expected[0], atol=1e-6) and "module" in seen
    assert kind == "norm" or "activation" in seen


def test_layers_of_other_classes_inside(tmp_path: Path) -> None:
    """oneDNN's products and adapters; what is saved is what was saved before."""
    peft = pytest.importorskip("peft")
    theirs, _ = build("llama")
    ours = adopted(theirs)
    ours.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert list(again.state_dict()) == list(theirs.state_dict())
    for layer in ours.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = OneDNNLinear
    lora = peft.LoraConfig(target_modules=["gate_proj", "up_proj", "down_proj"], init_lora_weights=False, r=2)
    torch.manual_seed(0)
    ours = peft.get_peft_model(ours, lora)
    torch.manual_seed(0)
    other = peft.get_peft_model(theirs, lora)
    ids = torch.randint(2, 90, (1, 7))
    for model in (ours, other):
        model(ids).logits.square().mean().backward()
    pairs = [(a.grad, b.grad) for a, b in zip(ours.parameters(), other.parameters(), strict=True) if b.requires_grad]
    assert pairs
    for mine, its in pairs:
        close(mine, its, 2e-3)
