"""Adapters: what they add by hand, that only they learn, and that plain copies, checkpoints and references agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.lora import Lora, LoraError, add_lora, follow, has_lora, load_lora, merged, save_lora
from tests.helpers import make_engine

ROOT = Path(__file__).resolve().parent.parent
STYLES = ["llama", "qwen2", "mistral", "gemma3"]


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft", reason="model.lora wants peft, an extra")


def adapted(style: str = "llama", **settings: Any) -> PreTrainedModel:
    model = make_engine(style).model
    add_lora(model, Lora(**settings))
    return model


def stir(model: PreTrainedModel) -> None:
    """As training would: B leaves zero."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits


@pytest.mark.parametrize("style", STYLES)
def test_a_fresh_adapter_changes_nothing_and_only_it_learns(peft: Any, style: str) -> None:
    model = adapted(style, r=4)
    assert torch.equal(logits(model), logits(make_engine(style).model))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained) and not model.training
    assert not any("lm_head" in name or "embed" in name for name in trained)
    assert has_lora(model) and not has_lora(make_engine(style).model)


def test_what_an_adapter_adds(peft: Any) -> None:
    """W + (alpha / r) B A, here 8 / 2 = 4 times B A, on the layers that were named and no others."""
    model = adapted(r=2, alpha=8.0, target_modules=("q_proj",))
    stir(model)
    plain, before = merged(model), make_engine().model
    for name, weight in plain.state_dict().items():
        expected = before.state_dict()[name]
        if name.endswith("q_proj.weight"):
            layer = model.get_submodule(name.removesuffix(".weight"))
            expected = expected + 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight  # type: ignore
            assert not torch.equal(weight, before.state_dict()[name])
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("style", STYLES)
def test_a_plain_copy_says_the_same_and_follows(peft: Any, style: str, tmp_path: Path) -> None:
    model = adapted(style)
    copied = merged(model)
    assert copied.state_dict().keys() == make_engine(style).model.state_dict().keys() and not has_lora(copied)
    stir(model)
    assert not torch.allclose(logits(copied), logits(model), atol=1e-3), "a copy stays what it was"
    follow(copied, model)
    torch.testing.assert_close(logits(copied), logits(model), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(merged(model)), logits(copied))
    merged(model).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    saved = merged(model).state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())


def test_a_fresh_reference_takes_no_memory_and_stays(peft: Any) -> None:
    model = adapted()
    reference = merged(model, share=True)
    own = {p.data_ptr() for p in reference.parameters()} - {p.data_ptr() for p in model.parameters()}
    assert not own, "every weight is the model's own"
    before = logits(reference)
    stir(model)
    assert torch.equal(logits(reference), before) and not torch.equal(logits(model), before)
    later = merged(model, share=True)
    torch.testing.assert_close(logits(later), logits(model), atol=1e-4, rtol=1e-4)
    assert torch.equal(logits(reference), before), "a later one does not write into what is shared"


def test_saved_and_loaded_exactly(peft: Any, tmp_path: Path) -> None:
    model, other = adapted(seed=1), adapted(seed=2)
    stir(model)
    save_lora(model, tmp_path)
    assert not torch.equal(logits(model), logits(other))
    load_lora(other, tmp_path)
    assert torch.equal(logits(model), logits(other))
    with pytest.raises(LoraError, match=r"holds other adapters: model\.lora must be what it was when they were saved"):
        load_lora(adapted(r=2), tmp_path)
    with pytest.raises(LoraError, match=r"has no lora\.safetensors: it was made without model\.lora"):
        load_lora(model, tmp_path / "elsewhere")


def test_the_seed_draws_and_leaves_the_global_generator_alone(peft: Any) -> None:
    state = torch.get_rng_state()
    one, two, same = adapted(seed=1), adapted(seed=2), adapted(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    name = next(name for name, _ in one.named_parameters() if "lora_A" in name)
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), two.get_parameter(name))


def test_refusals(peft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lora.of({"r": 8, "target_modules": ["q_proj"]}) == Lora(8, target_modules=("q_proj",))
    for settings, told in [
        ({"rank": 8}, r"model\.lora\.rank is unknown: use r, alpha, target_modules, seed"),
        ({"r": 0}, r"model\.lora\.r=0 is a rank"),
        ({"dropout": 0.1}, r"model\.lora\.dropout is not offered"),
    ]:
        with pytest.raises(LoraError, match=told):
            Lora.of(settings)
    with pytest.raises(LoraError, match=r"model\.lora: Target modules"):
        adapted(target_modules=("no_such_layer",))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(LoraError, match=r"model\.lora needs peft \(pip install -c constraints.txt peft\)"):
        add_lora(make_engine().model, Lora())


def test_a_run_with_adapters(peft: Any, tmp_path: Path) -> None:
    """From the command line: three steps, and two steps that go on to three, end in the same bytes; what is saved is
    a plain model that has moved, and what samples is what learns."""

    def run(folder: Path, *words: str) -> None:
        said = subprocess.run(
            [sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert said.returncode == 0, said.stderr

    words = ["verifier=random", "branch.challenger=3", "branch.solver=3", "lr=0.01", "exam.path=null", "max_tokens=6"]
    words += [
        "model.lora={r: 4, alpha: 8}",
        "runtime.tensorboard=false",
        "runtime.threads=1",
        "runtime.checkpoint_every=2",
    ]
    run(tmp_path / "whole", *words, "steps=3", f"run_dir={tmp_path / 'whole'}")
    run(tmp_path / "parts", *words, "steps=2", f"run_dir={tmp_path / 'parts'}")
    run(tmp_path / "parts", f"resume={tmp_path / 'parts'}", "steps=3")
    ends = [tmp_path / name / "checkpoints" / "3" for name in ("whole", "parts")]
    one, other = ({f.name: f.read_bytes() for f in end.rglob("*.safetensors")} for end in ends)
    assert one == other and {"lora.safetensors", "model.safetensors", "optimizer.safetensors"} <= set(one)
    weights = [path.parent for path in ends[0].rglob("model.safetensors")]
    assert len(weights) == 1
    moved, tiny = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (weights[0], ROOT / "models" / "tiny"))
    assert set(moved) == set(tiny)
    changed = {name for name in moved if not torch.equal(moved[name], tiny[name])}
    assert changed and not any("norm" in name or "embed" in name for name in changed)
    steps = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert max(step.get("sampler/gap_max", 0.0) for step in steps) < 1e-4
