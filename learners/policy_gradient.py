"""The policy gradient of Language Self-Play and of the GRPO family.

L = sum over roles of alpha_role * aggregate over the role's tokens of [ -surrogate(ratio, A) + beta_role * KL -
entropy_role * H ]. As it stands it is LSP's (arXiv 2509.07414, eq. 4-5 and algorithm 1, with the KL where ``kl`` puts
it): one strictly on-policy step per batch of episodes, a ratio of 1, tokens summed, turns averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from learners.aggregation import check_aggregation, token_weights
from learners.entropy import with_entropies
from learners.imitation import Window, imitation_loss, make_imitation
from learners.importance import Gap, capped, check_cap, sampler_logprobs
from learners.keys import OptimizerKeys
from learners.losses import KlPlacement, check_kl, importance, k3, kl_penalty
from learners.overlong import Overlong, make_overlong
from learners.passes import Passes
from learners.rows import PerRole, Row, by_role, mean_of, minibatches, per_role, rows_of, spread
from learners.step import OptimizerStep
from learners.surrogates import Surrogate
from models.engine import Engine
from models.layout import drawn, drawn_mask
from selfplay.estimators import Estimator, make_estimator
from selfplay.seeds import derive
from selfplay.types import Completion, Episode, Stateful, Turn

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Note:
    """What a batch says besides its loss: per role, summed, the KL estimate and the shares that the clip acted on; and
    how far the sampler was; ``imitated`` is the share of somebody's words in the loss."""

    drift: dict[str, float]
    clipped: dict[str, float]
    gap: Gap | None
    imitated: float = 0.0


class PolicyGradient:
    """Updates ``engine`` from episodes; turns without a completion are somebody else's and are left alone.

    ``credit``, ``teams`` and ``shape`` name the advantages (``selfplay.estimators``). ``ratio``, ``clip``, ``eps_low``,
    ``eps_high``, ``dual_clip`` and ``cispo_cap`` are ``Surrogate``'s; ``aggregation`` and ``constant`` are
    ``token_weights``'s; ``alpha`` weighs roles (1 where none is named). ``kl`` is the placement of the divergence from
    ``reference`` and ``beta`` its weight, ``entropy`` the weight of the exact entropy: numbers, or one per role.
    ``overlong`` holds the arguments of ``Overlong``, ``sft`` those of ``Imitation``: words of others that every step
    learns beside.

    A batch is gone through ``epochs`` times, each time in as many ``minibatches``, drawn by ``seed``. With one of each
    the ratio is 1; with more it is to the policy before the first of these steps, by the log-probabilities that the
    sampler told, or, where the sampler is weighed or told none, by a pass of the policy itself. ``importance_cap``
    bounds the weight of a token that another policy sampled: ``auto`` is 2 where the sampler is not exactly the model
    that learns, as when the game is ``pipelined``, else None, and no token is weighed. The other keys are
    ``OptimizerKeys``, ``warmup`` and ``steps`` in batches of episodes.

    A step without a signal, or whose loss or gradient is not finite, changes nothing and is counted.
    """

    def __init__(
        self,
        engine: Engine,
        reference: Engine | None = None,
        *,
        credit: str | Estimator = "lsp_mean",
        teams: Mapping[str, Sequence[str]] | None = None,
        shape: Mapping[str, Any] | None = None,
        ratio: str = "sequence",
        clip: str = "none",
        eps_low: float = 0.2,
        eps_high: float = 0.2,
        dual_clip: float | None = None,
        cispo_cap: float = 5.0,
        aggregation: str = "seq_sum",
        constant: int | None = None,
        alpha: Mapping[str, float] | None = None,
        kl: KlPlacement = "k2_loss",
        beta: PerRole = 0.04,
        entropy: PerRole = 0.0,
        overlong: Mapping[str, Any] | Overlong | None = None,
        sft: Mapping[str, Any] | None = None,
        epochs: int = 1,
        minibatches: int = 1,
        seed: int = 0,
        importance_cap: float | str | None = "auto",
        pipelined: bool = False,
        **keys: Unpack[OptimizerKeys],
    ) -> None:
        check_kl(kl)
        check_aggregation(aggregation, constant, ratio)
        for key, count in (("epochs", epochs), ("minibatches", minibatches)):
            if count < 1:
                raise ValueError(f"learner.{key}={count} is a number of times: use 1 or more")
        self.engine, self.reference, self.alpha = engine, reference, dict(alpha or {})
        self.kl: KlPlacement = kl
        self.beta: PerRole = 0.0 if kl == "none" or reference is None else beta
        self.entropy, self.overlong = entropy, make_overlong(overlong)
        self.imitation = make_imitation(engine, sft, seed)
        self.credit = make_estimator(credit, shape, teams)
        self.surrogate = Surrogate(ratio, clip, eps_low, eps_high, dual_clip, cispo_cap)
        self.aggregation, self.constant = aggregation, constant
        self.epochs, self.parts, self.seed = epochs, minibatches, seed
        self._cap, self._pipelined = check_cap(importance_cap), pipelined
        self.step = OptimizerStep.of(self, engine, keys, several=epochs * minibatches)
        self.named, self.optimizer = self.step.named, self.step.optimizer
        self._reference_passes = self.step.passes.alike(reference) if reference is not None else None

    @property
    def importance_cap(self) -> float | None:
        """The bound of a token's weight; None where the sampler's log-probabilities are taken as they are."""
        return capped(self._cap, self.engine, self._pipelined)

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """All steps on ``episodes``. Metrics are keyed ``<name>/<role>``, and ``sampler/...`` for how far the sampler
        was from the model that learns; of several steps they are the mean."""
        rows = rows_of(episodes, self.beta, self.entropy)
        rows, metrics = self._credited(rows, episodes)
        if not any(row.advantage for row in rows):
            return metrics | {"steps_skipped": 1.0, "loss": 0.0, "grad_norm": 0.0}
        if self.epochs * self.parts > 1:
            self._add_old(rows)
        told: list[dict[str, float]] = []
        for epoch in range(self.epochs):
            for part in minibatches(rows, self.parts, derive(self.seed, "minibatches", self.step.taken, epoch)):
                self._weigh(part)
                learn = [row for row in part if row.advantage != 0 or self._loses_besides(row)]
                if not any(row.advantage for row in part):
                    continue
                beside = self.imitation.draw() if self.imitation else []
                taken = self.step.take([*learn, *beside], _said, self._loss)
                if taken.refused:
                    refused = {"steps_skipped": float(not told), "steps_refused": 1.0}
                    return metrics | mean_of(told) | refused
                of_step = per_role(learn, "kl", [note.drift for note in taken.notes], tokens=True)
                of_step |= per_role(learn, "clip_fraction", [note.clipped for note in taken.notes], tokens=False)
                if not told:  # a later step has moved away from what was sampled, and that is no gap
                    of_step |= Gap.metrics([note.gap for note in taken.notes if note.gap])
                if self.imitation:
                    of_step["sft_loss"] = sum(note.imitated for note in taken.notes) / self.imitation.weight
                told.append(of_step | {"loss": taken.loss, "grad_norm": taken.norm})
        return metrics | {"steps_skipped": 0.0} | mean_of(told)

    def save(self, folder: Path) -> None:
        self.step.save(folder)
        if self.imitation:
            self.imitation.corpus.save(folder)
        if isinstance(self.credit, Stateful):
            self.credit.save(folder)

    def load(self, folder: Path) -> None:
        self.step.load(folder)
        if self.imitation:
            self.imitation.corpus.load(folder)
        if isinstance(self.credit, Stateful):
            self.credit.load(folder)

    # -- the rows of a step -----------------------------------------------------------------------------------------

    def _credited(self, rows: list[Row], episodes: Sequence[Episode]) -> tuple[list[Row], dict[str, float]]:
        """The rows that have an advantage, with it, and what there is to tell of it."""
        in_reward = self.kl == "k1_in_reward" and any(row.beta for row in rows)
        if in_reward:
            self._add_reference(rows)
        bonus = self._bonus(rows) if in_reward or self.overlong is not None else None
        credit = self.credit(episodes, bonus)
        rows = [row for row in rows if row.turn in credit]
        for row in rows:
            row.advantage = credit[row.turn]
        if not in_reward and any(row.beta for row in rows):
            self._add_reference(rows)
        tell: Callable[[], dict[str, float]] | None = getattr(self.credit, "metrics", None)
        return rows, spread(rows) | (tell() if tell is not None else {})

    def _bonus(self, rows: Sequence[Row]) -> dict[Turn, float]:
        """What is paid besides the reward: the penalty -beta sum_t (log pi_old - log pi_ref), detached, and the one for
        an answer that is too long."""
        bonus: dict[Turn, float] = {}
        if any(row.reference is not None and not row.sampled for row in rows):
            self._add_old(rows)
        for row in rows:
            paid = 0.0
            if row.reference is not None:
                told = row.completion.logprobs
                behaviour = row.old if row.old is not None else torch.tensor(told, device=row.reference.device)
                paid -= row.beta * float((behaviour - row.reference).sum())
            if self.overlong is not None:
                paid += self.overlong(row.turn.role, len(row.completion.token_ids))
            bonus[row.turn] = paid
        return bonus

    def _weigh(self, rows: Sequence[Row]) -> None:
        for role, mates in by_role(rows).items():
            lengths = [drawn(row.completion) for row in mates]
            weights = token_weights(lengths, self.aggregation, self.constant, self.alpha.get(role, 1.0))
            for row, weight in zip(mates, weights, strict=True):
                row.weight = weight

    def _loses_besides(self, row: Row) -> bool:
        return row.entropy != 0 or (row.beta != 0 and self.kl != "k1_in_reward")

    def _add_reference(self, rows: Sequence[Row]) -> None:
        assert self._reference_passes is not None
        for row, logp_T in self._scored(self._reference_passes, rows):
            row.reference = logp_T

    def _add_old(self, rows: Sequence[Row]) -> None:
        """log pi_old: where the sampler is the policy, what it told; else what the policy itself says now."""
        if self.importance_cap is None and all(row.sampled for row in rows):
            for row in rows:
                row.old = torch.tensor(row.completion.logprobs, device=self.engine.device)
            return
        for row, logp_T in self._scored(self.step.passes, rows):
            row.old = logp_T

    @torch.no_grad()
    def _scored(self, passes: Passes, rows: Sequence[Row]) -> list[tuple[Row, Tensor]]:
        self.engine.sleep()  # the passes need the sampler's memory, and their budget is measured here
        scored: list[tuple[Row, Tensor]] = []
        for batch in self.step.batches(rows, _said):
            width = max(len(row.completion.prompt_ids) + len(row.completion.token_ids) for row in batch)
            with passes.running(width):
                logp_BT, _ = passes.logprobs([row.completion for row in batch])
            scored += [
                (row, logp_T[: len(row.completion.token_ids)]) for row, logp_T in zip(batch, logp_BT, strict=True)
            ]
        return scored

    # -- the loss of a batch ----------------------------------------------------------------------------------------

    def _loss(self, batch: Sequence[Row | Window]) -> tuple[Tensor, _Note]:
        rows = [row for row in batch if isinstance(row, Row)]
        windows = [row for row in batch if isinstance(row, Window)]
        if not windows:
            return self._policy_loss(rows)
        loss = imitation_loss(self.step.logprobs([window.completion for window in windows])[0], windows)
        imitated = float(loss.detach())
        if not rows:
            return loss, _Note({}, {}, None, imitated)
        own, note = self._policy_loss(rows)
        return loss + own, replace(note, imitated=imitated)

    def _policy_loss(self, batch: Sequence[Row]) -> tuple[Tensor, _Note]:
        said = [row.completion for row in batch]
        entropy_BT: Tensor | None = None
        if any(row.entropy for row in batch):
            logp_BT, mask_BT, entropy_BT = with_entropies(self.step.passes, said)
        else:
            logp_BT, mask_BT = self.step.logprobs(said)
        advantage_B = logp_BT.new_tensor([row.advantage for row in batch])
        weight_B = logp_BT.new_tensor([row.weight for row in batch])
        cap = self.importance_cap
        sampler_BT, sampled_BT = sampler_logprobs(said, logp_BT)
        mask_BT, sampled_BT = drawn_mask(said, mask_BT), drawn_mask(said, sampled_BT)
        old_BT = logp_BT.detach() if batch[0].old is None else _padded([row.old for row in batch])
        rho_BT = importance(old_BT, sampler_BT, cap) if cap else None
        loss_B, clipped_B = self.surrogate(logp_BT, old_BT, mask_BT, advantage_B, rho_BT)
        drift: dict[str, float] = {}
        if batch[0].reference is not None:
            reference_BT = _padded([row.reference for row in batch])
            beta_B = logp_BT.new_tensor([row.beta for row in batch])
            loss_B = loss_B + beta_B * kl_penalty(logp_BT, reference_BT, self.kl, rho_BT, old_BT=old_BT)
            with torch.no_grad():
                drift = _summed(batch, (k3(logp_BT - reference_BT) * mask_BT).sum(-1))
        if entropy_BT is not None:
            loss_B = loss_B - logp_BT.new_tensor([row.entropy for row in batch]) * entropy_BT.sum(-1)
        gap = Gap.measure(logp_BT[sampled_BT], sampler_BT[sampled_BT], cap)
        clipped = _summed(batch, clipped_B) if self.surrogate.clip != "none" else {}
        return (weight_B * loss_B).sum(), _Note(drift, clipped, gap)


def _said(row: Row | Window) -> tuple[Completion]:
    return (row.completion,)


def _padded(rows: Sequence[Tensor | None]) -> Tensor:
    return pad_sequence([row for row in rows if row is not None], batch_first=True)


def _summed(batch: Sequence[Row], value_B: Tensor) -> dict[str, float]:
    """A value per row, summed per role."""
    sums: dict[str, float] = {}
    for row, value in zip(batch, value_B.tolist(), strict=True):
        sums[row.turn.role] = sums.get(row.turn.role, 0.0) + value
    return sums
