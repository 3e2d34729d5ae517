"""The keys that every learner passes on to its optimizer step, and the sentence about one that it does not have."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TypedDict

from selfplay.compose import did_you_mean


class OptimizerKeys(TypedDict, total=False):
    """What a learner takes besides its own keys, as ``**keys: Unpack[OptimizerKeys]``. The defaults are those of
    ``OptimizerStep``, which reads them all."""

    lr: float
    """The learning rate that the schedule starts from."""
    weight_decay: float
    """Decoupled, times the learning rate."""
    max_grad_norm: float
    """The gradient is scaled down to this norm."""
    optimizer: str
    """``adamw``, ``adamw8bit``, ``adafactor`` or ``sgd``."""
    schedule: str
    """``constant``, or ``linear`` or ``cosine``, down to 0 at ``steps``."""
    warmup: int
    """Updates in which the learning rate rises."""
    steps: int | None
    """Updates of the run, where that is known: ``schedule``, ``compile`` and rounds go by it."""
    batch_tokens: int | str
    """Positions of one forward and backward pass; ``auto``: what free memory allows."""
    attention: str
    """Of training passes: ``auto``, ``model`` (as it was loaded), or a name that transformers knows."""
    compile: bool | str
    """``auto`` compiles long runs in bfloat16 on a CPU."""
    gradient_checkpointing: bool
    """Keep one activation per layer and compute the others again."""
    share_prompts: bool | str
    """Read a prompt once for all its completions in a pass; ``auto``: on a CPU, short rows."""


def check_keys(learner: type, given: Mapping[str, object]) -> None:
    """Raises ``ValueError`` for a key that ``learner`` has not, with the nearest one that it has."""
    own = inspect.signature(learner).parameters.values()
    known = [one.name for one in own if one.kind is not one.VAR_KEYWORD] + list(OptimizerKeys.__annotations__)
    for key in given:
        if key not in known:
            near = did_you_mean(key, known) or f": it has {', '.join(known)}"
            raise ValueError(f"learner.{key} is no key of {learner.__name__}{near}")
