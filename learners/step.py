"""One optimizer step over rows that need not fit into memory at once: what every learner shares.

A learner says what a batch of its rows loses; the step cuts the rows into batches, accumulates the gradient, clips it,
refuses what is not finite, and tells the engine that its weights have changed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from learners.budget import CAP, batches, kept_bytes, shared_batches, tokens_that_fit
from learners.keys import OptimizerKeys, check_keys
from learners.optimizer import check_schedule, load_optimizer, make_optimizer, rate, save_optimizer
from learners.passes import Passes, to_compile
from models.engine import Engine
from models.memory import free_memory, is_out_of_memory
from selfplay.types import Completion

log = logging.getLogger(__name__)

R = TypeVar("R")
N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Taken(Generic[N]):
    """What came of a step: its loss, the norm of its gradient before clipping, whether it was refused, and what the
    loss noted about every batch."""

    loss: float
    norm: float
    refused: bool
    notes: list[N]


class OptimizerStep:
    """Optimizer, batches and passes for one engine; ``OptimizerKeys`` tells what the keys mean.

    Raises ``ValueError`` for a frozen engine and for a key that cannot be followed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        lr: float = 1e-6,
        weight_decay: float = 0.0,
        optimizer: str = "adamw",
        schedule: str = "constant",
        warmup: int = 0,
        steps: int | None = None,
        max_grad_norm: float = 1.0,
        batch_tokens: int | str = "auto",
        attention: str = "auto",
        compile: bool | str = "auto",
        gradient_checkpointing: bool = False,
        share_prompts: bool | str = "auto",
    ) -> None:
        if batch_tokens != "auto" and not (isinstance(batch_tokens, int) and batch_tokens > 0):
            raise ValueError(f"learner.batch_tokens={batch_tokens!r} is unknown: use auto or a number of positions")
        check_schedule(schedule, warmup, steps)
        self.engine, self.lr, self.max_grad_norm = engine, lr, max_grad_norm
        self.schedule, self.warmup, self.steps, self.taken = schedule, warmup, steps, 0
        self.batch_tokens = None if batch_tokens == "auto" else int(batch_tokens)
        self.named = [(name, p) for name, p in engine.model.named_parameters() if p.requires_grad]
        if not self.named:
            raise ValueError(f"{engine.name} is frozen: the learner has nothing to update")
        parameters = [p for _, p in self.named]
        self.optimizer = make_optimizer(optimizer, parameters, lr=lr, weight_decay=weight_decay)
        compiled = to_compile(compile, engine, steps)
        self.passes = Passes(
            engine,
            attention=attention,
            checkpointing=gradient_checkpointing,
            compiled=compiled,
            share=share_prompts,
        )

    @classmethod
    def of(cls, learner: object, engine: Engine, keys: OptimizerKeys, *, several: int = 1) -> OptimizerStep:
        """The step of a learner that was given ``keys``. One that takes ``several`` optimizer steps in an update counts
        ``warmup`` and ``steps`` in updates all the same. Raises ``ValueError`` for a key that neither has."""
        check_keys(type(learner), keys)
        scaled: OptimizerKeys = {**keys, "warmup": several * keys.get("warmup", 0)}
        if (steps := keys.get("steps")) is not None:
            scaled["steps"] = several * steps
        return cls(engine, **scaled)

    def logprobs(self, completions: Sequence[Completion]) -> tuple[Tensor, Tensor]:
        """As ``Engine.logprobs``, by the passes that a step is made of."""
        return self.passes.logprobs(completions)

    def batches(self, rows: Sequence[R], said: Callable[[R], Sequence[Completion]]) -> list[list[R]]:
        """``rows`` in batches that fit, by the completions ``said`` that a row scores: long rows, and then those that
        share prompts, siblings next to each other."""
        widths = [_width(said(row)) for row in rows]
        if self.batch_tokens is None:
            self.batch_tokens = self._measured(said(rows[widths.index(max(widths))]))
        alone = [i for i, width in enumerate(widths) if not self.passes.shares(width)]
        beside = [i for i, width in enumerate(widths) if self.passes.shares(width)]
        made = batches([widths[i] * len(said(rows[i])) for i in alone], self.batch_tokens)
        shared = shared_batches([said(rows[i]) for i in beside], self.batch_tokens)
        return [[rows[alone[i]] for i in batch] for batch in made] + [[rows[beside[i]] for i in b] for b in shared]

    def take(
        self,
        rows: Sequence[R],
        said: Callable[[R], Sequence[Completion]],
        loss: Callable[[Sequence[R]], tuple[Tensor, N]],
    ) -> Taken[N]:
        """One optimizer step on the sum of ``loss`` over the batches of ``rows``, unless it is not finite.

        ``said`` names the completions that a row scores; ``loss`` returns a batch's scalar and a note about it, and
        may be called again for the same rows: where memory does not suffice, the step begins anew with half
        the budget.
        """
        self.engine.sleep()
        total, notes = self._accumulate(rows, said, loss)
        norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in self.named], self.max_grad_norm))
        refused = not (math.isfinite(total) and math.isfinite(norm))
        if refused:
            log.warning("the loss or its gradient is not finite (%s, %s): step refused, weights kept", total, norm)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * rate(self.taken, self.schedule, self.warmup, self.steps)
            self.optimizer.step()
            self.engine.work.optimize()
            self.taken += 1
            self.engine.touched()
        self.optimizer.zero_grad(set_to_none=True)
        return Taken(total, norm, refused, notes)

    def save(self, folder: Path) -> None:
        counts = {"taken": self.taken} | ({"batch_tokens": self.batch_tokens} if self.batch_tokens else {})
        save_optimizer(self.optimizer, self.named, folder, counts)

    def load(self, folder: Path) -> None:
        """Goes on as if it had never stopped, the measured budget included: other batches round differently."""
        counts = load_optimizer(self.optimizer, self.named, folder)
        self.taken = counts.get("taken", 0)
        if self.batch_tokens is None:
            self.batch_tokens = counts.get("batch_tokens")

    def _accumulate(
        self,
        rows: Sequence[R],
        said: Callable[[R], Sequence[Completion]],
        loss: Callable[[Sequence[R]], tuple[Tensor, N]],
    ) -> tuple[float, list[N]]:
        while True:
            total, notes = 0.0, []
            self.optimizer.zero_grad(set_to_none=True)
            made = self.batches(rows, said)
            try:
                for batch in made:
                    with self.passes.running(max(_width(said(row)) for row in batch)):
                        value, note = loss(batch)
                        value.backward()
                    total += value.item()
                    notes.append(note)
                return total, notes
            except RuntimeError as error:
                if not is_out_of_memory(error) or max(map(len, made)) == 1:
                    raise
            # A backward pass that broke off has left a part of its gradient: the whole step begins anew.
            self._halve()

    def _halve(self) -> None:
        assert self.batch_tokens is not None
        self.batch_tokens = max(1, self.batch_tokens // 2)
        log.warning("out of memory: from now on learner.batch_tokens=%d", self.batch_tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _measured(self, longest: Sequence[Completion]) -> int:
        """The budget that memory allows, from what a pass over the longest row keeps."""
        width = _width(longest)
        with self.passes.running(width):
            kept = kept_bytes(lambda: self.passes.logprobs(longest, plain=True))
        device = self.engine.device
        cap = CAP.get(device.type, CAP["cpu"])
        return tokens_that_fit(free_memory(device), kept / (width * len(longest)), cap)


def _width(said: Sequence[Completion]) -> int:
    """Positions of the longest of the rows."""
    return max(len(c.prompt_ids) + len(c.token_ids) for c in said)
