"""A frozen earlier self that a learner holds itself against, taken anew every so many steps and kept in checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from learners.passes import Passes
from learners.step import OptimizerStep
from models.engine import Engine
from selfplay.types import Completion


class Opponent:
    """A snapshot of ``live`` that is at most ``refresh`` updates old, scored as ``passes`` score the live one."""

    def __init__(self, live: Engine, refresh: int, passes: Passes) -> None:
        if refresh < 1:
            raise ValueError(f"learner.refresh={refresh} must be at least 1")
        self._live, self._refresh, self._passes = live, refresh, passes
        self.age = 0
        self._take(live.snapshot())

    def tick(self) -> None:
        """The live model has been updated."""
        self.age += 1
        if self.age >= self._refresh:
            self._take(self._live.snapshot())
            self.age = 0

    def save(self, folder: Path) -> None:
        """A ``save_pretrained`` folder, and the snapshot's age."""
        (folder / "opponent").mkdir()
        self.engine.save(folder / "opponent")
        (folder / "opponent.json").write_text(json.dumps({"age": self.age}) + "\n", encoding="ascii")

    def load(self, folder: Path) -> None:
        """The snapshot as it was, exactly. Its tensors take the place of those of a fresh one instead of being written
        into them: a snapshot may share what it did not change with the live model."""
        self.age = int(json.loads((folder / "opponent.json").read_text(encoding="ascii"))["age"])
        saved = AutoModelForCausalLM.from_pretrained(folder / "opponent", dtype=torch.float32, local_files_only=True)
        found = self._live.snapshot()
        weights = {name: tensor.to(found.device) for name, tensor in saved.state_dict().items()}
        found.model.load_state_dict(weights, assign=True)
        found.model.tie_weights()
        found.model.requires_grad_(False)
        self._take(found)

    def _take(self, engine: Engine) -> None:
        self.engine = engine
        self.passes = self._passes.alike(engine)


@torch.no_grad()
def scored(step: OptimizerStep, passes: Passes, said: Sequence[Completion]) -> list[Tensor]:
    """The log-probabilities (T,) of each completion by the model of ``passes``, in batches that ``step`` makes."""
    step.engine.sleep()  # the passes need the sampler's memory, and their budget is measured here
    found: dict[int, Tensor] = {}
    for batch in step.batches(range(len(said)), lambda i: (said[i],)):
        with passes.running(max(len(said[i].prompt_ids) + len(said[i].token_ids) for i in batch)):
            logp_BT, _ = passes.logprobs([said[i] for i in batch])
        found |= {i: logp_T[: len(said[i].token_ids)] for i, logp_T in zip(batch, logp_BT, strict=True)}
    return [found[i] for i in range(len(said))]
