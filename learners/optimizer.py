"""The optimizer's state as safetensors: nothing of ours is ever unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import Parameter
from torch.optim import Optimizer

Named = Sequence[tuple[str, Parameter]]


def save_optimizer(optimizer: Optimizer, named: Named, folder: Path) -> None:
    """Write every state tensor as ``<parameter>/<name>``; the settings are the configuration's."""
    tensors = {
        f"{name}/{key}": value.detach().contiguous().cpu()
        for name, parameter in named
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }
    save_file(tensors, folder / "optimizer.safetensors")


def load_optimizer(optimizer: Optimizer, named: Named, folder: Path) -> None:
    """Read back what ``save_optimizer`` wrote for the same parameters; settings of the present run stay as they are."""
    tensors = load_file(folder / "optimizer.safetensors")
    for name, parameter in named:
        state = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.rpartition("/")[0] == name}
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
        }
