"""How a learner's forward and backward passes run: attention, recomputation and compilation, around an engine's model.

The model is left as it was found after every pass, because in float32 the same model samples.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import fmean
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from models import native
from models.engine import Engine
from models.scoring import Rows, can_share, has_own_head, score, states
from models.sibling_attention import NAME as SIBLINGS
from selfplay.types import Completion

log = logging.getLogger(__name__)

R = TypeVar("R")

LONG_RUN = 300
"""Steps from which ``compile: auto`` compiles: it costs about a minute and saves a part of every update."""
_SHORT = 384
"""Positions below which plain products beat the fused kernel's bfloat16 backward pass on a CPU."""
_FUSED = ("sdpa", "sparring")
"""Attention that ``auto`` may replace: transformers' fused kernels, also in the engine's own dress."""
_MULTIPLE = (8, 32)
"""Rows and positions of compiled passes are rounded up to these, so that few shapes occur."""
_SHARED = 1_024
"""Positions of a row up to which ``auto`` shares prompts: all scores of a layer exist at once there."""


class Passes:
    """Scores completions with gradient, under ``running`` for as long as the gradient is needed.

    ``attention`` is ``auto``, ``model`` (as it was loaded) or a name that transformers knows; ``checkpointing`` keeps
    only the input of every layer and computes the rest again in the backward pass; ``compiled`` compiles the trunk.
    ``share`` is ``auto``, true or false: whether a prompt is read once for all of its completions in a pass.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        attention: str = "auto",
        checkpointing: bool = False,
        compiled: bool = False,
        share: bool | str = "auto",
    ) -> None:
        if share not in (True, False, "auto"):
            raise ValueError(f"learner.share_prompts={share!r} is unknown: use auto, true or false")
        if share is True and not can_share(engine.model):
            raise ValueError(
                f"learner.share_prompts=true, but {type(engine.model).__name__} cannot read siblings beside each other "
                "(sliding windows, recurrent layers, or attention of its own): use auto or false"
            )
        self.share = share
        self.engine, self.attention, self.checkpointing, self.compiled = engine, attention, checkpointing, compiled
        self._trunk: Callable[..., Any] | None = None
        layers = [m for m in engine.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if checkpointing and not layers:
            raise ValueError(
                f"learner.gradient_checkpointing=true, but {type(engine.model).__name__} has no layers that "
                "transformers can compute again: use false"
            )
        if checkpointing and compiled:
            raise ValueError("learner.compile=true and learner.gradient_checkpointing=true exclude each other")
        self._layers = layers if checkpointing else []

    def logprobs(self, completions: Sequence[Completion], *, plain: bool = False) -> tuple[Tensor, Tensor]:
        """As ``Engine.logprobs``: (B, T) with gradient, and the mask (B, T). ``plain``: whatever was asked, not
        compiled."""
        return self._run(score, completions, plain)

    def states(self, completions: Sequence[Completion]) -> tuple[Tensor, Rows]:
        """What predicts every completion token, for a loss over whole distributions, as ``models.scoring`` has it."""
        return self._run(states, completions, False)

    def alike(self, engine: Engine) -> Passes:
        """Passes of another model by the same arithmetic, so that two equal models differ by nothing."""
        shares = self.share is not True or can_share(engine.model)  # a teacher need not be built like the student
        return Passes(engine, attention=self.attention, share=self.share if shares else "auto")

    def _run(self, run: Callable[..., R], completions: Sequence[Completion], plain: bool) -> R:
        model, work = self.engine.model, self.engine.work
        said = fmean(len(c.token_ids) for c in completions)
        prompted = fmean(len(c.prompt_ids) for c in completions)
        again = prompted - sum(map(len, {c.prompt_ids for c in completions})) / len(completions)
        (work.train if torch.is_grad_enabled() else work.score)(len(completions), prompted + said, said, again)
        attention = model.config._attn_implementation
        shared = attention == SIBLINGS
        with self.engine.autocast():
            if self.compiled and not plain and has_own_head(model):
                if self._trunk is None:
                    self._trunk = torch.compile(model.base_model, dynamic=True)
                return run(model, completions, trunk=self._trunk, multiple=_MULTIPLE, shared=shared)
            return run(model, completions, packed=attention.startswith("flash"), shared=shared)

    def shares(self, width: int) -> bool:
        """Whether a pass over rows of at most ``width`` positions reads a prompt that they share once."""
        if self.share != "auto":
            return bool(self.share)
        model = self.engine.model
        usual = self.attention == "auto" and model.config._attn_implementation in (*_FUSED, SIBLINGS)
        return usual and self.engine.device.type == "cpu" and width <= _SHARED and can_share(model)

    @contextmanager
    def running(self, width: int) -> Generator[None]:
        """The model as a pass over rows of at most ``width`` positions wants it, forward and backward."""
        model = self.engine.model
        loaded = model.config._attn_implementation
        wanted = SIBLINGS if self.shares(width) else self._attention(loaded, width)
        if wanted != loaded:
            model.set_attn_implementation(wanted)
        for layer in self._layers:
            layer.gradient_checkpointing = layer.training = True
            layer._gradient_checkpointing_func = partial(_again, layer)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.gradient_checkpointing = layer.training = False
            if wanted != loaded:
                model.set_attn_implementation(loaded)

    def _attention(self, loaded: str, width: int) -> str:
        if self.attention == "model" or (self.attention == "auto" and loaded not in _FUSED):
            return loaded
        if self.attention != "auto":
            return self.attention
        slow = self.engine.device.type == "cpu" and self.engine.dtype == torch.bfloat16
        return "eager" if slow and width <= _SHORT else loaded


def to_compile(wanted: bool | str, engine: Engine, steps: int | None) -> bool:
    """What ``compile`` means for a run of ``steps`` steps: ``auto`` compiles long runs in bfloat16 on a CPU, unless it
    has kernels of ours: between the matrix products they do what compilation would, and no slower.

    In float32 the time is in the products, which compilation does not touch. Decided by the number of steps and
    not by a clock, so that a run that is repeated is the same run. Raises ``ValueError`` where it cannot be.
    """
    if wanted not in (True, False, "auto"):
        raise ValueError(f"learner.compile={wanted!r} is unknown: use auto, true or false")
    compiler = engine.device.type != "cpu" or any(map(shutil.which, ("g++", "clang++", "c++")))
    if wanted == "auto":
        low = engine.device.type == "cpu" and engine.dtype == torch.bfloat16
        return low and compiler and native.compiled() is None and steps is not None and steps >= LONG_RUN
    if wanted and not compiler:
        raise ValueError(
            "learner.compile=true needs a C++ compiler (g++ or clang++) on the PATH: install one, or false"
        )
    return bool(wanted)


def _again(layer: Module, call: Callable[..., Any], *args: Any) -> Any:
    """Run a layer without keeping its activations. A layer asks ``training`` whether to be computed again, and some
    also whether to drop out: inside, it is not training, so that the pass scores what was sampled."""

    def run(*inputs: Any) -> Any:
        layer.training = False
        try:
            return call(*inputs)
        finally:
            layer.training = True

    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)
