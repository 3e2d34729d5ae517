"""The run folder: where it is, what it was started with, and where a resumed run goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from selfplay.checkpoint import Checkpoint, latest

CHANGEABLE = ("steps", "resume", "mode", "runtime.")
"""What a resumed run may be told anew; everything else comes from its own ``config.yaml``."""


class RunError(RuntimeError):
    """A run folder that cannot be used, in one sentence."""


@dataclass(frozen=True)
class Run:
    """A folder, its settings, and the checkpoint to go on from (None: from the beginning)."""

    folder: Path
    cfg: DictConfig
    checkpoint: Checkpoint | None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def first_step(self) -> int:
        """The step to play next; 0 is the evaluation before any learning."""
        return self.checkpoint.step + 1 if self.checkpoint and self.checkpoint.step else 0


def run_name() -> str:
    """What the folder of this run is called: the experiment, or the game and its verifier."""
    choices = HydraConfig.get().runtime.choices
    return str(choices.get("experiment") or f"{choices['env']}-{choices['verifier']}")


def open_run(cfg: DictConfig, name: str, overrides: Sequence[str]) -> Run:
    """A new folder ``runs/<name>/<time>-<seed>`` (or ``run_dir``; nothing is written yet), or the one to resume.

    ``overrides`` are the words of the command line. Raises ``RunError``.
    """
    if cfg.resume:
        return _resume(Path(cfg.resume), cfg, overrides)
    default = Path("runs") / name / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{cfg.seed}"
    folder = Path(cfg.run_dir) if cfg.run_dir else default
    if (folder / "config.yaml").exists():
        raise RunError(f"{folder} already holds a run: choose another run_dir, or go on with resume={folder}")
    return Run(folder, cfg, None)


def write_config(cfg: DictConfig, folder: Path) -> None:
    """``config.yaml`` in a folder that is made if need be, whole or not at all. Raises ``RunError``."""
    temp = folder / ".config.yaml.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temp.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")
        temp.replace(folder / "config.yaml")
    except OSError as error:
        raise RunError(f"cannot write the run folder {folder}: {error.strerror}") from error


def _resume(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> Run:
    if not (folder / "config.yaml").is_file():
        raise RunError(f"resume={folder}: no config.yaml there, so it is not a run folder")
    for word in overrides:
        key = word.lstrip("+~").split("=")[0]
        if not key.startswith(CHANGEABLE):
            raise RunError(f"a resumed run keeps its settings: {key} cannot change (only steps and runtime.* may)")
    saved = OmegaConf.load(folder / "config.yaml")
    assert isinstance(saved, DictConfig)
    words = {word.lstrip("+").split("=")[0] for word in overrides}
    if "steps" in words:
        saved.steps = cfg.steps
    for key in cfg.runtime:
        if f"runtime.{key}" in words:
            saved.runtime[key] = cfg.runtime[key]
    root = folder / "checkpoints"
    checkpoint = latest(root)
    if checkpoint is None and root.is_dir() and any(child.name.isdigit() for child in root.iterdir()):
        raise RunError(f"{root} holds no checkpoint that verifies, and its logs are not thrown away: see the warnings")
    if checkpoint is not None and checkpoint.step >= saved.steps:
        raise RunError(f"{folder} is at step {checkpoint.step} of {saved.steps} already: add steps=<more>")
    return Run(folder, saved, checkpoint)
