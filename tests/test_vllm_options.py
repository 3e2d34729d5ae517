"""What can be checked of vLLM's engine without vLLM: its keys, and the comparison of weights as a GPU lays them out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from models.vllm_options import VllmError, VllmOptions
from models.vllm_proof import compare
from models.vllm_sampler import VllmSampler

ROOT = Path(__file__).resolve().parent.parent


def test_the_configuration_says_what_the_options_say() -> None:
    written = yaml.safe_load((ROOT / "conf/model/vllm.yaml").read_text(encoding="utf-8"))["model"]["vllm"]
    assert VllmOptions.of(written) == VllmOptions() == VllmOptions.of(None)
    assert set(written) == set(VllmOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"max_model_length": 9}, r"model\.vllm\.max_model_length is unknown \(did you mean max_model_len\?\): max_"),
        ({"gpu_memory_utilization": 40}, r"model\.vllm\.gpu_memory_utilization=40 must be above 0 and below 1"),
        ({"kv_cache_gib": 0}, r"model\.vllm\.kv_cache_gib=0 must be above 0"),
        ({"tolerance": float("nan")}, r"model\.vllm\.tolerance=nan must be above 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(keys: dict[str, float], told: str) -> None:
    with pytest.raises(VllmError, match=told):
        VllmOptions.of(keys)


def test_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(VllmError, match=r"vLLM cannot be imported .*: `pip install vllm` for a GPU, or see docs/vllm"):
        VllmSampler("anywhere", VllmOptions(), dtype=torch.float32, device=torch.device("cpu"))


class Layer(nn.Module):
    """One attention block's projection, fused as vLLM fuses it: 2 queries, 1 key, 1 value of two numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv_proj = nn.Linear(3, 8)
        self.norm = nn.LayerNorm(3, bias=False)


class Served(nn.Module):
    """A model as vLLM holds it: fused, and with rows of padding under the vocabulary's ten."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}  # noqa: RUF012 (vLLM's own attribute)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 3)
        self.layer = Layer()
        self.scale = nn.Parameter(torch.ones(1))


@torch.no_grad()
def test_fused_tensors_are_compared_part_by_part() -> None:
    """Ten rows of three, eight of three with their biases and a norm of three are compared: 65 numbers; the scale,
    of which the trainer knows nothing, is the 66th."""
    served = Served()
    whole, bias = served.layer.qkv_proj.weight, served.layer.qkv_proj.bias
    masters = {
        "embed.weight": served.embed.weight[:10].clone(),
        "layer.norm.weight": served.layer.norm.weight.clone(),
        **{f"layer.{n}_proj.weight": whole[a:b].clone() for n, a, b in (("q", 0, 4), ("k", 4, 6), ("v", 6, 8))},
        **{f"layer.{n}_proj.bias": bias[a:b].clone() for n, a, b in (("q", 0, 4), ("k", 4, 6), ("v", 6, 8))},
    }
    found = compare(served, masters, torch.float32, seed=0)
    assert found.differs == {} and found.unknown == ("scale",) and found.share == pytest.approx(65 / 66)

    masters["layer.k_proj.weight"][1, 2] += 0.25
    masters["layer.v_proj.bias"][0] = float("nan")
    found = compare(served, masters, torch.float32, seed=0)
    assert found.differs.keys() == {"layer.qkv_proj.weight", "layer.qkv_proj.bias"}
    assert found.differs["layer.qkv_proj.weight"] == pytest.approx(0.25)

    masters["embed.weight"] = torch.zeros(17, 3)  # more rows than are served
    assert compare(served, masters, torch.float32, seed=0).differs["embed.weight"] == float("inf")


@torch.no_grad()
def test_masters_are_rounded_before_they_are_compared() -> None:
    """vLLM in bfloat16 holds the rounded masters; a master that moves past half a step of rounding is a difference."""
    served = nn.ModuleDict({"norm": nn.LayerNorm(3, bias=False)}).to(torch.bfloat16)
    masters = {"norm.weight": torch.tensor([1.0, 1.001, 0.999])}
    served["norm"].weight.copy_(masters["norm.weight"])
    assert compare(served, masters, torch.bfloat16, seed=0).differs == {}
    masters["norm.weight"][1] = 1.005  # one step of bfloat16 above 1 is 1/128
    assert compare(served, masters, torch.bfloat16, seed=0).differs == {"norm.weight": pytest.approx(1 / 128)}
