"""A frozen copy of a model with an adapter of its own: a persona that was fine-tuned on the base that all share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.engine import Engine
from models.lora import LoraError, has_lora, merged

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What peft's ``save_pretrained`` writes."""
_PREFIX = "base_model.model."

_made: WeakKeyDictionary[Engine, dict[tuple[Path, bool], Engine]] = WeakKeyDictionary()


def adapted(model: Engine, adapter: str, *, share: bool = False) -> Engine:
    """A frozen copy of ``model``, as it is when this is first called, with the LoRA adapter of the folder ``adapter``
    merged in; equal arguments give the same engine.

    ``share`` leaves every weight that the adapter does not change in one tensor with ``model``'s: right where nobody
    trains it. A model that learns adapters itself shares them in any case, and lends its base without them. Only plain
    LoRA is taken (arXiv 2106.09685; rank-stabilised scales among it). Raises ``LoraError``.
    """
    if getattr(model, "model", None) is None:
        raise LoraError(f"personas: {model.name} has no weights here to put the adapter {adapter} on")
    folder = Path(adapter)
    engines = _made.setdefault(model, {})
    key = (folder.resolve(), share)
    if key not in engines:
        plain = with_adapter(model.model, folder, share=share)
        engine = Engine(plain, model.tokenizer, name=f"{model.name} + {folder.name}", frozen=True, **model._settings)
        engine.work = model.work
        engines[key] = engine
    return engines[key]


def with_adapter(model: PreTrainedModel, folder: Path, *, share: bool) -> PreTrainedModel:
    """A plain, frozen copy of ``model`` with a peft folder's adapter merged into the weights; ``model`` stays as it
    is. Raises ``LoraError``."""
    config, weights = _read(folder)
    from peft import inject_adapter_in_model

    if has_lora(model):
        shell = merged(model, share=True)
        del shell.peft_config  # what it was wrapped with before it was made plain
    else:
        memo: dict[int, Any] = {}
        if share:  # parameters of our own, that ask for no gradient, over the same numbers
            memo = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
        shell = copy.deepcopy(model, memo)
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws A from torch's own generator, and it is overwritten
            inject_adapter_in_model(config, shell)
    except ValueError as error:
        raise LoraError(f"the adapter {folder} fits no layer of the model: {str(error).splitlines()[0]}") from error
    places = {name.replace(".default.", "."): p for name, p in shell.named_parameters() if ".lora_" in name}
    if {n: t.shape for n, t in weights.items()} != {n: p.shape for n, p in places.items()}:
        other = min(weights.keys() ^ places.keys(), default="a shape")
        raise LoraError(f"the adapter {folder} was made for another model: they differ in {other}")
    with torch.no_grad():
        for name, parameter in places.items():
            parameter.copy_(weights[name])
    return merged(shell.requires_grad_(False), share=True)


def _read(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """The configuration of a peft folder, and its weights by the names of the layers."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise LoraError(f"the adapter {folder} has no {name}: it is not a folder that peft's save_pretrained wrote")
    try:
        from peft import LoraConfig, PeftConfig
    except ImportError as error:
        raise LoraError(
            "a persona's adapter needs peft (pip install -c constraints.txt peft): install it, or drop the adapter"
        ) from error
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_file(folder / WEIGHTS)
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise LoraError(f"the adapter {folder} cannot be read: {str(error).splitlines()[0]}") from error
    plain = isinstance(config, LoraConfig) and not (config.use_dora or config.modules_to_save or config.bias != "none")
    if not plain or not all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights):
        raise LoraError(f"the adapter {folder} is more than plain LoRA (DoRA, biases, whole modules or embeddings)")
    config.inference_mode = True
    return config, {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
