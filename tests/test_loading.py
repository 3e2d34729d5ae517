"""Loading: one live engine per model, and every way a folder can be wrong has its sentence."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.loading import LoadError, choose_device, choose_dtype, forget, load, reference, twin
from tests.helpers import STYLES, chat, make_engine, model_folder


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copied = tmp_path / "model"
    shutil.copytree(model_folder("llama"), copied)
    return copied


# -- once --------------------------------------------------------------------------------------------------------------


def test_equal_arguments_give_the_same_live_engine(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "models.loading"):
        engine = load(str(folder))
        assert load(path=str(folder)) is engine
        assert load(str(folder), dtype="auto", device="auto") is engine
        assert load(device="auto", path=str(folder), batch_tokens=engine.batch_tokens) is engine
    assert caplog.text.count("loaded ") == 1, "each real load is told"
    assert load(str(folder), batch_tokens=99) is not engine
    forget()
    assert load(str(folder)) is not engine


def test_a_resolved_configuration_finds_the_same_engine(folder: Path) -> None:
    """A run writes down what "auto" turned out to be and goes on building with it: the learner and the checkpoint
    must still hold one and the same model."""
    engine = load(str(folder), dtype="auto", device="auto")
    assert load(str(folder), dtype=engine.precision, device=str(engine.device)) is engine


def test_the_reference_is_the_model_as_first_seen(folder: Path) -> None:
    engine = load(str(folder), dtype="float32")
    frozen = reference(engine)
    assert frozen is reference(model=engine) and frozen is not engine
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.zero_()
    engine.touched()
    assert reference(engine) is frozen and any(p.abs().sum() > 0 for p in frozen.model.parameters())


def test_a_twin_is_one_and_learns_apart(folder: Path) -> None:
    engine = load(str(folder), device="cpu", dtype="float32")
    other = twin(engine)
    assert twin(engine) is other
    before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    assert all(torch.equal(before[name], tensor) for name, tensor in other.model.state_dict().items())
    with torch.no_grad():
        for parameter in other.model.parameters():
            assert parameter.requires_grad
            parameter.add_(1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.model.state_dict().items())
    forget()
    assert twin(engine) is not other


@pytest.mark.parametrize("style", STYLES)
def test_every_family_loads_and_speaks(style: str) -> None:
    engine = load(str(model_folder(style)), dtype="float32", attention="eager")
    (said,) = engine.generate([chat("Hi")], temperature=1.0, top_p=1.0, max_tokens=3, seeds=[1])
    (same,) = make_engine(style).generate([chat("Hi")], temperature=1.0, top_p=1.0, max_tokens=3, seeds=[1])
    assert said.token_ids == same.token_ids
    assert engine.precision == "float32" and next(engine.model.parameters()).dtype == torch.float32


def test_masters_are_float32_whatever_was_saved(folder: Path) -> None:
    engine = make_engine()
    engine.model.to(torch.bfloat16).save_pretrained(folder)
    assert {p.dtype for p in load(str(folder), dtype="bfloat16").model.parameters()} == {torch.float32}


# -- what is wrong with a folder ---------------------------------------------------------------------------------------


def refused(path: Path | str) -> str:
    with pytest.raises(LoadError) as caught:
        load(str(path), dtype="float32", device="cpu")
    sentence = str(caught.value)
    assert f"model.path={str(path)!r}" in sentence and "\n" not in sentence
    return sentence


def test_no_folder(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    assert "is not a folder" in refused(file)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json: it is not a save_pretrained folder" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such-model"}'])
def test_a_broken_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert "cannot load" in refused(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no weights (*.safetensors): was the save cut short?" in refused(folder)


def test_a_missing_shard(folder: Path) -> None:
    make_engine().model.save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    load(str(folder), dtype="float32")
    forget()
    shards[0].unlink()
    assert f"is half written: {shards[0].name} is missing" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    assert "model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_weights_cut_short(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "cannot load" in refused(folder)


def test_missing_tensors_are_not_made_up(folder: Path) -> None:
    """transformers fills what a file lacks with random numbers and warns; a run must not start from those."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    removed = next(name for name in tensors if "mlp" in name)
    del tensors[removed]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert removed in refused(folder)


def test_no_tokenizer_and_no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template: choose an instruction-tuned model"):
        load(str(folder), dtype="float32")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    assert "cannot load" in refused(folder)


def test_a_model_of_another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 48}), encoding="utf-8")
    assert "cannot load" in refused(folder)


# -- where and how -----------------------------------------------------------------------------------------------------


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(LoadError, match=r"model\.device='gpu' is not a device: try auto, cuda, mps or cpu"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(LoadError, match="torch finds no CUDA device here"):
            choose_device("cuda:1")


def test_dtypes() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("float32", cpu) == torch.float32 and choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert choose_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert choose_dtype("auto", cpu) == choose_dtype("auto", cpu), "raced once"
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    with pytest.raises(LoadError, match=r"model\.dtype='fp16' is unknown: use auto, float32 or bfloat16"):
        choose_dtype("fp16", cpu)
