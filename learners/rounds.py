"""Iterations of a method that learns offline: some steps gather examples under the same weights, then several passes
learn them.

Iterated rejection sampling, self-rewarding and SPIN all have this form. Nothing is kept of the earlier weights: what a
round was sampled from is the model itself, until the round is learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TypeVar

from torch import Tensor

from learners.examples import Example, in_order, load_examples, said, save_examples
from learners.step import OptimizerStep, Taken
from selfplay.seeds import derive

N = TypeVar("N")

Shares = Callable[[Sequence[Example]], Sequence[float]]
"""From the examples of one optimizer step to the part of each in its loss."""


class Rounds:
    """``every`` updates make a round, which is then learned in ``epochs`` passes. The last update of a run, where
    ``steps`` says which one that is, ends a round that is shorter: what was sampled is learned.

    Every pass shuffles the examples by ``seed`` and deals them out to as few equal optimizer steps as hold at most
    ``batch_size`` each (None: one step). The schedule of the learning rate counts updates, not optimizer steps, as a
    run's length does. What was gathered is state. Raises ``ValueError`` for numbers below 1.
    """

    def __init__(
        self, step: OptimizerStep, *, every: int = 1, epochs: int = 1, batch_size: int | None = None, seed: int = 0
    ) -> None:
        for name, number in (("every", every), ("epochs", epochs), ("batch_size", batch_size)):
            if number is not None and number < 1:
                raise ValueError(f"learner.{name}={number} must be at least 1")
        self.step, self.every, self.epochs, self.batch_size, self.seed = step, every, epochs, batch_size, seed
        self.updates = self.number = 0
        self._gathered: list[Example] = []

    def gather(self, examples: Sequence[Example]) -> list[Example] | None:
        """The examples of the round, in an order of their own, once it is complete; until then None."""
        self.updates += 1
        self._gathered += examples
        if self.updates % self.every and self.updates != self.step.steps:
            return None
        gathered, self._gathered = in_order(self._gathered), []
        self.number += 1
        return gathered

    def learn(
        self,
        examples: Sequence[Example],
        loss: Callable[[Sequence[Example]], tuple[Tensor, N]],
        shares: Shares,
    ) -> tuple[dict[str, float], list[N]]:
        """Metrics of the round, and the notes of its last pass; ``loss`` as ``OptimizerStep.take`` wants it.

        ``loss`` and ``grad_norm`` are means over the last pass, ``optimizer_steps`` counts those of all passes that
        changed the weights.
        """
        taken: list[Taken[N]] = []
        last: list[Taken[N]] = []
        for epoch in range(self.epochs):
            last = [self._take(batch, loss, shares) for batch in self._batches(examples, epoch)]
            taken += last
        refused = sum(one.refused for one in taken)
        metrics = {"steps_skipped": float(refused == len(taken)), "optimizer_steps": float(len(taken) - refused)}
        if refused:
            metrics["steps_refused"] = float(refused)
        done = [one for one in last if not one.refused]
        if done:
            metrics |= {"loss": fmean(one.loss for one in done), "grad_norm": fmean(one.norm for one in done)}
        return metrics, [note for one in done for note in one.notes]

    def save(self, folder: Path) -> None:
        numbers = {"updates": self.updates, "number": self.number}
        (folder / "round.json").write_text(json.dumps(numbers) + "\n", encoding="ascii")
        save_examples(self._gathered, folder / "gathered.jsonl")

    def load(self, folder: Path) -> None:
        numbers = json.loads((folder / "round.json").read_text(encoding="ascii"))
        self.updates, self.number = int(numbers["updates"]), int(numbers["number"])
        self._gathered = load_examples(folder / "gathered.jsonl")

    def _take(
        self, batch: Sequence[Example], loss: Callable[[Sequence[Example]], tuple[Tensor, N]], shares: Shares
    ) -> Taken[N]:
        for example, share in zip(batch, shares(batch), strict=True):
            example.share = share
        self.step.taken = self.updates - 1  # the schedule is the run's: one step of it for every update
        return self.step.take(batch, said, loss)

    def _batches(self, examples: Sequence[Example], epoch: int) -> list[list[Example]]:
        if self.batch_size is None or self.batch_size >= len(examples):
            return [list(examples)]
        order = list(examples)
        Random(derive(self.seed, "round", self.number, "epoch", epoch)).shuffle(order)
        parts = -(-len(order) // self.batch_size)
        return [order[part::parts] for part in range(parts)]  # alike: the rest of a division would be a noisy step


NOTHING = {"steps_skipped": 1.0, "loss": 0.0, "grad_norm": 0.0}
"""The metrics of an update that learned nothing: no example was left, or the round is not complete."""
