"""Learning from preferences, directly: DPO and its relatives on pairs of replies to one question.

L = mean over pairs of p l(m) + (1 - p) l(-m), with m the margin of ``learners.preferences``. What the pairs are, and
what they are held against, makes the method: the best against the worst sibling and the model before the round is
Self-Rewarding (arXiv 2401.10020); the data against the model before the round, SPIN (arXiv 2401.01335); a judge's
labels and the model at the start of the run, DPO on AI feedback (arXiv 2212.08073, 2305.18290).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Unpack

import torch
from torch import Tensor

from learners.examples import Example, in_order, load_examples, said, save_examples
from learners.keys import OptimizerKeys
from learners.pairs import SIBLING, Pairs
from learners.preferences import expected, margins, pair_loss, smoothed
from learners.rounds import NOTHING, Rounds
from learners.sft import sequence_shares
from learners.step import OptimizerStep
from models.engine import Engine
from models.layout import drawn
from selfplay.types import Episode, Verifier


@dataclass(frozen=True, slots=True)
class _Note:
    """Of every pair of a batch the implicit rewards beta log(pi / pi_ref), chosen and rejected."""

    chosen: list[float]
    rejected: list[float]


class DPO:
    """Moves ``engine`` towards the better one of two replies; ``Pairs`` tells what ``role``, ``winner``, ``part``,
    ``margin``, ``judge`` and ``encode`` mean.

    ``loss`` is ``dpo``, ``ipo`` or ``hinge``, of margins over ``reference``: a frozen engine, or None for the model as
    it was when the round was sampled, the last iterate. ``label_smoothing`` is the share of labels that are taken to be
    wrong, ``length_normalized`` takes means over tokens in the place of sums (as G-Zero does, arXiv 2605.09959), and
    ``imitate`` adds so many times the chosen words' cross-entropy per token, which keeps both of a pair from becoming
    unlikely (arXiv 2404.19733).

    ``every`` updates make a round of sampling (the last one may be shorter), learned in ``epochs`` passes by steps of
    at most ``batch_size`` pairs (None: all). ``mix_previous`` learns the pairs of the round before once more. The other
    keys are ``OptimizerKeys``.
    """

    def __init__(
        self,
        engine: Engine,
        reference: Engine | None = None,
        *,
        role: str = "solver",
        winner: str = SIBLING,
        part: str | None = None,
        margin: float = 0.0,
        judge: Verifier | None = None,
        encode: bool = False,
        loss: str = "dpo",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        length_normalized: bool = False,
        imitate: float = 0.0,
        every: int = 1,
        epochs: int = 1,
        batch_size: int | None = None,
        mix_previous: bool = False,
        seed: int = 0,
        **keys: Unpack[OptimizerKeys],
    ) -> None:
        if beta <= 0:
            raise ValueError(f"learner.beta={beta} must be above 0")
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"learner.label_smoothing={label_smoothing} must be at least 0 and below 0.5")
        if imitate < 0:
            raise ValueError(f"learner.imitate={imitate} must be at least 0")
        self.engine, self.reference = engine, reference
        self.loss, self.beta, self.label_smoothing = pair_loss(loss), beta, label_smoothing
        self.length_normalized, self.imitate, self.mix_previous = length_normalized, imitate, mix_previous
        self.pairs = Pairs(engine, role, winner=winner, part=part, margin=margin, judge=judge, encode=encode, seed=seed)
        self.step = OptimizerStep.of(self, engine, keys)
        self.named, self.optimizer = self.step.named, self.step.optimizer
        self.rounds = Rounds(self.step, every=every, epochs=epochs, batch_size=batch_size, seed=seed)
        # The last iterate is scored by the very passes that learn.
        self._against = self.step.passes.alike(reference) if reference is not None else self.step.passes
        self._previous: list[Example] = []

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Collect pairs; learn the round where this completes it.

        ``rewards/...`` are TRL's metrics, means over the last pass: ``accuracies`` is the share of pairs that the
        implicit reward tells apart rightly (a half where it is equal), then ``margins``, ``chosen`` and ``rejected``.
        ``pairs/...`` as in ``Pairs``, and how many were learned in the round.
        """
        found, metrics = self.pairs(episodes)
        gathered = self.rounds.gather(found)
        if gathered is None:
            return metrics | NOTHING
        lesson = in_order(gathered + self._previous)
        if self.mix_previous:
            self._previous = gathered
        if not lesson:
            return metrics | NOTHING
        self._add_reference(lesson)
        learned, notes = self.rounds.learn(lesson, self._loss, _shares)
        return metrics | {"pairs/learned": float(len(lesson))} | _rewards(notes) | learned

    def save(self, folder: Path) -> None:
        self.step.save(folder)
        self.rounds.save(folder)
        save_examples(self._previous, folder / "previous.jsonl")

    def load(self, folder: Path) -> None:
        self.step.load(folder)
        self.rounds.load(folder)
        self._previous = load_examples(folder / "previous.jsonl")

    @torch.no_grad()
    def _add_reference(self, pairs: Sequence[Example]) -> None:
        """Score every pair once, before anything is learned from it."""
        self.engine.sleep()  # the passes need the sampler's memory
        for batch in self.step.batches(pairs, said):
            both = [completion for pair in batch for completion in pair.said]
            with self._against.running(max(len(c.prompt_ids) + len(c.token_ids) for c in both)):
                logp_BT, _ = self._against.logprobs(both)
            scores = logp_BT.sum(-1).tolist()
            for pair, chosen, rejected in zip(batch, scores[::2], scores[1::2], strict=True):
                pair.reference = (chosen, rejected)

    def _loss(self, batch: Sequence[Example]) -> tuple[Tensor, _Note]:
        """The batch's part of the loss; rows of ``logp_BT`` are chosen and rejected in turn."""
        logp_BT, _ = self.step.logprobs([completion for pair in batch for completion in pair.said])
        logp_B = logp_BT.sum(-1)
        reference_B = logp_B.new_tensor([score for pair in batch for score in pair.reference])
        length_B = logp_B.new_tensor([float(drawn(c)) for pair in batch for c in pair.said])
        if self.length_normalized:
            policy_B, reference_B = logp_B / length_B, reference_B / length_B
        else:
            policy_B = logp_B
        margin_P = margins(policy_B[::2], policy_B[1::2], reference_B[::2], reference_B[1::2])
        chance_P = logp_B.new_tensor([smoothed(pair.weight, self.label_smoothing) for pair in batch])
        loss_P = expected(self.loss, margin_P, self.beta, chance_P)
        if self.imitate:
            loss_P = loss_P - self.imitate * (logp_B / length_B)[::2]
        share_P = logp_B.new_tensor([pair.share for pair in batch])
        moved = (self.beta * (policy_B - reference_B)).detach().tolist()
        return (share_P * loss_P).sum(), _Note(moved[::2], moved[1::2])


def _shares(batch: Sequence[Example]) -> list[float]:
    return sequence_shares(len(batch))


def _rewards(notes: Sequence[_Note]) -> dict[str, float]:
    pairs = [pair for note in notes for pair in zip(note.chosen, note.rejected, strict=True)]
    pairs = [pair for pair in pairs if math.isfinite(pair[0] + pair[1])]
    if not pairs:
        return {}
    return {
        "rewards/accuracies": fmean((chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in pairs),
        "rewards/margins": fmean(chosen - rejected for chosen, rejected in pairs),
        "rewards/chosen": fmean(chosen for chosen, _ in pairs),
        "rewards/rejected": fmean(rejected for _, rejected in pairs),
    }
