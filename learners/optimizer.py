"""Optimizers by name, the learning rate of a step, and an optimizer's state as safetensors: nothing is unpickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import Parameter
from torch.optim import Optimizer

Named = Sequence[tuple[str, Parameter]]
OPTIMIZERS = ("adamw", "adamw8bit", "adafactor", "sgd")
_NUMBERS = "numbers"
SCHEDULES = ("constant", "linear", "cosine")


def make_optimizer(name: str, parameters: Sequence[Parameter], *, lr: float, weight_decay: float) -> Optimizer:
    """``adamw`` (two float32 states per parameter), ``adamw8bit`` (two of a byte, bitsandbytes; arXiv 2110.02861),
    ``adafactor`` (a row and a column of states per matrix; arXiv 1804.04235) or ``sgd`` (none).

    Raises ``ValueError`` for another name, and where the library is missing.
    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    if name == "adafactor":
        return torch.optim.Adafactor(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise ValueError(
                "learner.optimizer=adamw8bit needs bitsandbytes (pip install bitsandbytes): install it, or use adamw"
            ) from error
        return AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)
    raise ValueError(f"learner.optimizer={name!r} is unknown{_nearest(name, OPTIMIZERS)}: use {', '.join(OPTIMIZERS)}")


def check_schedule(schedule: str, warmup: int, steps: int | None) -> None:
    """Raises ``ValueError`` for a schedule that cannot be followed."""
    if schedule not in SCHEDULES:
        near = _nearest(schedule, SCHEDULES)
        raise ValueError(f"learner.schedule={schedule!r} is unknown{near}: use {', '.join(SCHEDULES)}")
    if warmup < 0:
        raise ValueError(f"learner.warmup={warmup} is a number of steps: use 0 or more")
    if schedule != "constant" and (steps is None or steps <= warmup):
        raise ValueError(f"learner.schedule={schedule} needs learner.steps, more than warmup={warmup}, to end there")


def rate(taken: int, schedule: str, warmup: int, steps: int | None) -> float:
    """The share of ``lr`` for the step after ``taken`` steps: a linear warm-up to 1, then constant, or down to 0 at
    ``steps``, linearly or along half a cosine. A run that goes on beyond ``steps`` stays at 0."""
    if taken < warmup:
        return (taken + 1) / (warmup + 1)
    if schedule == "constant" or steps is None:
        return 1.0
    left = max(0.0, (steps - taken) / (steps - warmup))
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def save_optimizer(optimizer: Optimizer, named: Named, folder: Path, counts: Mapping[str, int] | None = None) -> None:
    """Write every state tensor as ``<parameter>/<name>``; the settings are the configuration's.

    Plain numbers in the state, and ``counts`` of the caller's, are written as text beside the tensors.
    """
    numbers = dict(counts or {})
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                # A tensor that several parameters share (a table of 8-bit values) is written for each of them.
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous().clone()
            elif isinstance(value, int):
                numbers[f"{name}/{key}"] = value
    # One entry: safetensors writes several in an order that changes, and equal runs make equal files.
    save_file(tensors, folder / "optimizer.safetensors", {_NUMBERS: json.dumps(numbers, sort_keys=True)})


def load_optimizer(optimizer: Optimizer, named: Named, folder: Path) -> dict[str, int]:
    """Read back what ``save_optimizer`` wrote for the same parameters, and return the counts; settings of the present
    run stay as they are."""
    states: dict[str, dict[str, torch.Tensor | int]] = {name: {} for name, _ in named}
    parameters, counts = dict(named), {}
    with safe_open(folder / "optimizer.safetensors", framework="pt") as file:
        for entry in file.keys():  # noqa: SIM118 - it is no dict
            name, _, key = entry.rpartition("/")
            if name in states:
                value = file.get_tensor(entry)
                states[name][key] = value if key == "step" else value.to(parameters[name].device)
        numbers: dict[str, int] = json.loads((file.metadata() or {}).get(_NUMBERS, "{}"))
        for entry, number in numbers.items():
            name, _, key = entry.rpartition("/")
            if not name:
                counts[key] = number
            elif name in states:
                states[name][key] = number
    for name, parameter in named:
        optimizer.state[parameter] = states[name]
    return counts


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
