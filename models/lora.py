"""Low-rank adapters on a frozen model (LoRA, arXiv 2106.09685): W x + (alpha / r) B A x, and only A and B learn.

The layers are peft's, put into the model in place, so that it stays the transformers model that it was. Whoever needs
it as a plain one (a sampler, a reference, a checkpoint) takes ``merged``: the same architecture with B A added to W.
peft's dropout is not offered: it acts in training mode only, and a policy gradient must score what was sampled with
the very model that sampled it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

FILE = "lora.safetensors"
"""Not peft's name: transformers would take a checkpoint that holds an ``adapter_config.json`` for an adapter."""


class LoraError(ValueError):
    """Adapters that cannot be made or read, in one sentence."""


@dataclass(frozen=True, slots=True)
class Lora:
    """``r`` is the rank, ``alpha`` / ``r`` the scale; ``target_modules`` names the linear layers that are adapted
    (None: all but the head); ``seed`` draws A. B starts at zero, so that a fresh adapter changes nothing."""

    r: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] | None = None
    seed: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Lora:
        """From a configuration's ``model.lora``. Raises ``LoraError``."""
        known = tuple(cls.__dataclass_fields__)
        for key in settings:
            if key == "dropout":
                raise LoraError(
                    "model.lora.dropout is not offered: a policy gradient scores with the model that sampled"
                )
            if key not in known:
                raise LoraError(f"model.lora.{key} is unknown: use {', '.join(known)}")
        made = cls(**dict(settings))
        if made.r < 1:
            raise LoraError(f"model.lora.r={made.r} is a rank: use 1 or more")
        names = made.target_modules
        return cls(made.r, made.alpha, tuple(names) if isinstance(names, Sequence) else None, made.seed)


def add_lora(model: PreTrainedModel, lora: Lora) -> None:
    """Put adapters into ``model`` in place and freeze everything else. Raises ``LoraError`` where peft is missing or
    no layer has such a name."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise LoraError(
            "model.lora needs peft (pip install -c constraints.txt peft): install it, or lora=null"
        ) from error
    targets = list(lora.target_modules) if lora.target_modules else "all-linear"
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=targets)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's own generator
        torch.manual_seed(lora.seed)
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            raise LoraError(f"model.lora: {str(error).splitlines()[0]}") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_adapter(name))
    model.eval()


def has_lora(model: nn.Module) -> bool:
    return any(True for _ in _adapted(model))


def merged(model: PreTrainedModel, *, share: bool = False) -> PreTrainedModel:
    """A plain, frozen copy of ``model`` with its adapters merged into the weights.

    ``share`` leaves every weight that no adapter changes where it is, in one tensor with ``model``'s: right for a copy
    whose weights nobody writes. A fresh adapter changes nothing, so that a reference then takes no memory.
    """
    memo: dict[int, Any] = {}
    if share:
        memo |= {id(p): p for p in model.parameters() if not p.requires_grad}
    plain = copy.deepcopy(model, memo)
    for name, layer in list(_adapted(plain)):
        base = layer.get_base_layer()
        delta = _delta(layer)
        if bool(delta.any()):
            base.weight = nn.Parameter(base.weight.detach() + delta, requires_grad=False)
        parent, _, last = name.rpartition(".")
        setattr(plain.get_submodule(parent), last, base)
    return plain.requires_grad_(False).eval()


@torch.no_grad()
def follow(plain: PreTrainedModel, model: PreTrainedModel) -> None:
    """Bring ``plain``, a copy that ``merged`` made without sharing, up to date with ``model``'s adapters."""
    for name, layer in _adapted(model):
        target = plain.get_submodule(name).weight
        assert isinstance(target, Tensor)
        target.copy_(layer.get_base_layer().weight + _delta(layer))


def save_lora(model: PreTrainedModel, folder: Path) -> None:
    """Write A and B exactly; the frozen weights are those that were loaded."""
    save_file({name: p.detach().cpu().contiguous() for name, p in _adapters(model).items()}, folder / FILE)


@torch.no_grad()
def load_lora(model: PreTrainedModel, folder: Path) -> None:
    """Read back what ``save_lora`` wrote for adapters of the same shape. Raises ``LoraError``."""
    if not (folder / FILE).is_file():
        raise LoraError(f"the checkpoint {folder} has no {FILE}: it was made without model.lora")
    saved, present = load_file(folder / FILE), _adapters(model)
    if {n: t.shape for n, t in saved.items()} != {n: p.shape for n, p in present.items()}:
        raise LoraError(f"{folder / FILE} holds other adapters: model.lora must be what it was when they were saved")
    for name, parameter in present.items():
        parameter.copy_(saved[name])


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _adapters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if _is_adapter(name)}


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that carry an adapter, with their names."""
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))


def _delta(layer: Any) -> Tensor:
    """(alpha / r) B A, (out, in), in the layout of the layer's own weight."""
    return layer.get_delta_weight("default").detach()
