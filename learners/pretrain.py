"""Self-play pre-training: fragments that the model wrote and judged itself, as a small part of an ordinary corpus."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from learners.corpus import Corpus
from learners.examples import score_of, turns_of
from learners.keys import OptimizerKeys
from learners.mixture import annealed, beaten, harder_than_before, shares
from learners.opponent import Opponent, scored
from learners.step import OptimizerStep
from models.engine import Engine
from models.layout import drawn
from selfplay.types import Completion, Episode, Turn

log = logging.getLogger(__name__)

MOST = 0.3
"""The share of the loss above which self-generated text is warned of: a model fed on itself forgets what it was fed
before (arXiv 2305.17493, 2404.01413)."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A window of the corpus or a fragment, and what each of its tokens weighs, (T,)."""

    said: Completion
    weight: Tensor
    corpus: bool


@dataclass(frozen=True, slots=True)
class _Note:
    """Sums over a batch: -log p of the corpus' tokens, and of the fragments', weighed."""

    corpus: float
    fragments: float


class Pretrain:
    """L = (1 - mu) CE(corpus) + mu sum_i w_i CE(x_i) / sum_i w_i over the windows of a corpus and the fragments that
    ``role`` said in its own tokens; CE is a mean over tokens. No source for the recipe: our choice.

    w_i, in [0, 1], is the product of the verdict's parts in ``weights`` (None: all of them), so that a rule can veto
    what the model only agrees with itself about. ``contrast`` multiplies it by the share of its siblings that the
    fragment beats in likelihood per token under a frozen earlier self. ``mu`` goes to ``mu_final`` in a straight line
    over ``steps``; a step in which all weights are 0 learns the corpus alone.

    Every step reads ``corpus_batch`` windows of ``context`` tokens from ``corpus``, a text file or JSONL, of whose rows
    ``corpus_says`` makes a text (``Corpus``).
    With ``reweight`` lambda above 0 its loss is (1 - lambda) CE + lambda mean(w CE), where w is larger for tokens that
    the model knows worse than the earlier self (github.com/woodRock/self-play: lambda 0.5; its result is that of the
    plain loss). The earlier self is taken anew every ``refresh`` updates. The other keys are ``OptimizerKeys``.
    Raises ``ValueError`` for keys that cannot be followed.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: str | Path,
        *,
        corpus_says: str | None = None,
        role: str = "solver",
        weights: Sequence[str] | None = None,
        contrast: bool = False,
        mu: float = 0.3,
        mu_final: float = 0.0,
        context: int = 128,
        corpus_batch: int = 32,
        reweight: float = 0.0,
        refresh: int = 50,
        seed: int = 0,
        **keys: Unpack[OptimizerKeys],
    ) -> None:
        _check(mu, mu_final, reweight, corpus_batch)
        self.engine, self.role, self.weights, self.contrast = engine, role, weights, contrast
        self.mu, self.mu_final, self.reweight, self.corpus_batch = mu, mu_final, reweight, corpus_batch
        self.step = OptimizerStep.of(self, engine, keys)
        self.named, self.optimizer = self.step.named, self.step.optimizer
        self.corpus = Corpus(corpus, engine, says=corpus_says, context=context, seed=seed)
        self.opponent = Opponent(engine, refresh, self.step.passes) if contrast or reweight else None

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """One optimizer step, always: without fragments on the corpus alone. ``pretrain/corpus_loss`` and
        ``pretrain/fragment_loss`` are means per token, the latter weighed; ``pretrain/weight_mean`` is that of the
        fragments, ``pretrain/corpus_epochs`` how often the corpus was seen."""
        fragments = self._fragments(episodes)
        weights = self._weigh(fragments)
        mu = annealed(self.mu, self.mu_final, self.step.taken, self.step.steps)
        rows, tokens = self._rows([said for _, said, _ in fragments], weights, mu)
        metrics = {"pretrain/fragments": float(len(fragments)), "pretrain/corpus_epochs": self.corpus.epochs}
        if fragments:
            metrics["pretrain/weight_mean"] = sum(weights) / len(weights)
        taken = self.step.take(rows, _said, self._loss)
        if taken.refused:
            return metrics | {"steps_skipped": 1.0, "steps_refused": 1.0}
        if self.opponent is not None:
            self.opponent.tick()
        metrics |= {"pretrain/mu": mu if sum(weights) else 0.0}
        metrics["pretrain/corpus_loss"] = sum(note.corpus for note in taken.notes) / tokens
        if mu and sum(weights):
            metrics["pretrain/fragment_loss"] = sum(note.fragments for note in taken.notes) / mu
        return metrics | {"steps_skipped": 0.0, "loss": taken.loss, "grad_norm": taken.norm}

    def save(self, folder: Path) -> None:
        self.step.save(folder)
        self.corpus.save(folder)
        if self.opponent is not None:
            self.opponent.save(folder)

    def load(self, folder: Path) -> None:
        self.step.load(folder)
        self.corpus.load(folder)
        if self.opponent is not None:
            self.opponent.load(folder)

    # -- fragments and what they weigh -------------------------------------------------------------------------------

    def _fragments(self, episodes: Sequence[Episode]) -> list[tuple[Turn, Completion, float]]:
        """The role's turns with their tokens and the verdict's weight, in an order of their own."""
        turns = turns_of(episodes, self.role)
        found = [
            (turn, turn.action.completion, self._verdict(games))
            for turn, games in turns.items()
            if turn.action.completion is not None and turn.action.completion.token_ids
        ]
        if turns and not any(turn.action.completion is not None for turn in turns):
            raise ValueError(
                f"the turns of learner.role={self.role!r} have no tokens of the model's own: seat it with trained=true"
            )
        return sorted(found, key=lambda row: (row[1].prompt_ids, row[1].token_ids, row[2]))

    def _verdict(self, games: Sequence[Episode]) -> float:
        """0 where no verdict was given, by a forfeit or because nobody could tell."""
        parts = self.weights if self.weights is not None else next((tuple(g.verdict) for g in games if g.verdict), ())
        product = 1.0 if parts else 0.0
        for part in parts:
            score = score_of(games, part)
            if math.isnan(score):
                return 0.0
            if not 0 <= score <= 1:
                raise ValueError(
                    f"the verdict's {part!r} is {score}, and a fragment's weight lies between 0 and 1: name other "
                    "parts in learner.weights"
                )
            product *= score
        return product

    def _weigh(self, fragments: Sequence[tuple[Turn, Completion, float]]) -> list[float]:
        weights = [weight for _, _, weight in fragments]
        if not self.contrast or not fragments:
            return weights
        assert self.opponent is not None
        likely = [
            float(logp_T.mean()) for logp_T in scored(self.step, self.opponent.passes, [c for _, c, _ in fragments])
        ]
        groups: dict[int, list[int]] = {}
        for number, (turn, _, _) in enumerate(fragments):
            groups.setdefault(turn.group, []).append(number)
        for siblings in groups.values():
            for number, share in zip(siblings, beaten([likely[i] for i in siblings]), strict=True):
                weights[number] *= share
        return weights

    # -- the loss ----------------------------------------------------------------------------------------------------

    def _rows(self, said: Sequence[Completion], weights: Sequence[float], mu: float) -> tuple[list[_Row], int]:
        """All rows that weigh something, and the number of the corpus' tokens."""
        windows = self.corpus.draw(self.corpus_batch)
        tokens = sum(len(window.token_ids) for window in windows)
        each, share = shares(weights, [drawn(completion) for completion in said], tokens, mu)
        rows = [_Row(c, torch.full((len(c.token_ids),), w), False) for c, w in zip(said, each, strict=True) if w]
        hard = self._hard(windows)
        return [_Row(w, share * hard_T, True) for w, hard_T in zip(windows, hard, strict=True)] + rows, tokens

    def _hard(self, windows: Sequence[Completion]) -> Sequence[Tensor]:
        """What a token of each window weighs among the corpus' tokens, (T,): 1 on average."""
        lengths = [len(window.token_ids) for window in windows]
        if self.opponent is None or not self.reweight:
            return torch.ones(sum(lengths)).split(lengths)
        loss_N = -torch.cat(scored(self.step, self.step.passes, windows))
        weight_N = harder_than_before(loss_N, -torch.cat(scored(self.step, self.opponent.passes, windows)))
        return (1 - self.reweight + self.reweight * weight_N).split(lengths)

    def _loss(self, batch: Sequence[_Row]) -> tuple[Tensor, _Note]:
        logp_BT, _ = self.step.logprobs([row.said for row in batch])
        weight_BT = pad_sequence([row.weight.to(logp_BT) for row in batch], batch_first=True)
        corpus_B = torch.tensor([row.corpus for row in batch], device=logp_BT.device)
        loss_BT = -weight_BT * logp_BT
        with torch.no_grad():
            note = _Note(float(-logp_BT[corpus_B].sum()), float(loss_BT[~corpus_B].sum()))
        return loss_BT.sum(), note


def _said(row: _Row) -> tuple[Completion]:
    return (row.said,)


def _check(mu: float, mu_final: float, reweight: float, corpus_batch: int) -> None:
    for key, share in (("mu", mu), ("mu_final", mu_final)):
        if not 0 <= share < 1:
            raise ValueError(f"learner.{key}={share} must be at least 0 and below 1: the corpus is never replaced")
        if share > MOST:
            log.warning("learner.%s=%s: more than %s of the loss is the model's own text", key, share, MOST)
    if not 0 <= reweight <= 1:
        raise ValueError(f"learner.reweight={reweight} is no share: use 0 (the plain loss) to 1")
    if corpus_batch < 1:
        raise ValueError(f"learner.corpus_batch={corpus_batch} must be at least 1")
