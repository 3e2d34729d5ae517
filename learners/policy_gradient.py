"""The policy gradient of Language Self-Play: one strictly on-policy step per batch of episodes.

L = sum over roles of alpha_role * mean over the role's turns of [ -(pi / sg(pi)) A + beta_role * KL ]
(arXiv 2509.07414, eq. 4-5 and algorithm 1, with the KL where ``kl`` puts it).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from learners.importance import Gap, capped, check_cap
from learners.losses import KL_PLACEMENTS, KlPlacement, importance, k3, kl_penalty, reinforce
from learners.passes import Passes
from learners.step import OptimizerStep
from models.engine import Engine
from selfplay.credit import EmaBaseline, advantages
from selfplay.types import Completion, Episode, Turn

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """One turn to learn from, and the weight of its term in the loss."""

    turn: Turn
    completion: Completion
    advantage: float
    weight: float
    beta: float
    reference: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Note:
    """What a batch says besides its loss: the KL estimate per role, summed, and how far the sampler was."""

    drift: dict[str, float]
    gap: Gap


class PolicyGradient:
    """Updates ``engine`` from episodes; turns without a completion are somebody else's and are left alone.

    ``kl`` is the placement of the divergence from ``reference`` and ``beta`` its weight, a number or one per role;
    ``alpha`` weighs roles (1 where none is named). ``credit`` is ``siblings`` (group means) or ``ema`` (SPIRAL's
    baseline per game and role); ``scale`` divides by the group's standard deviation. ``importance_cap`` bounds the
    weight of a token that another policy sampled: ``auto`` is 2 where the sampler is not exactly the model that
    learns, as when the game is ``pipelined``, else None, and no token is weighed. The other keys are
    ``OptimizerStep``'s. A step without a signal, or whose loss or gradient is not finite, changes nothing and is
    counted.
    """

    def __init__(
        self,
        engine: Engine,
        reference: Engine | None = None,
        *,
        lr: float = 1e-6,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        kl: KlPlacement = "k2_loss",
        beta: float | Mapping[str, float] = 0.04,
        alpha: Mapping[str, float] | None = None,
        credit: str = "siblings",
        scale: bool = False,
        ema_decay: float = 0.95,
        importance_cap: float | str | None = "auto",
        pipelined: bool = False,
        optimizer: str = "adamw",
        schedule: str = "constant",
        warmup: int = 0,
        steps: int | None = None,
        batch_tokens: int | str = "auto",
        attention: str = "auto",
        compile: bool | str = "auto",
        gradient_checkpointing: bool = False,
        share_prompts: bool | str = "auto",
    ) -> None:
        if kl not in KL_PLACEMENTS:
            raise ValueError(f"learner.kl={kl!r} is unknown: use {', '.join(KL_PLACEMENTS)}")
        if credit not in ("siblings", "ema"):
            raise ValueError(f"learner.credit={credit!r} is unknown: use siblings or ema")
        if kl == "k1_loss_literal":
            log.warning("learner.kl=k1_loss_literal has an expected gradient of zero: it regularises nothing")
        self.engine, self.reference, self.kl, self.alpha = engine, reference, kl, dict(alpha or {})
        self.beta, self.scale = beta, scale
        self._cap, self._pipelined = check_cap(importance_cap), pipelined
        self.baseline = EmaBaseline(ema_decay) if credit == "ema" else None
        self.step = OptimizerStep(
            engine,
            lr=lr,
            weight_decay=weight_decay,
            optimizer=optimizer,
            schedule=schedule,
            warmup=warmup,
            steps=steps,
            max_grad_norm=max_grad_norm,
            batch_tokens=batch_tokens,
            attention=attention,
            compile=compile,
            gradient_checkpointing=gradient_checkpointing,
            share_prompts=share_prompts,
        )
        self.named, self.optimizer = self.step.named, self.step.optimizer
        # The reference is scored by the same arithmetic, so that two equal models differ by nothing.
        self._reference_passes = Passes(reference, attention=attention) if reference is not None else None

    @property
    def importance_cap(self) -> float | None:
        """The bound of a token's weight; None where the sampler's log-probabilities are taken as they are."""
        return capped(self._cap, self.engine, self._pipelined)

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """One optimizer step on ``episodes``; metrics are keyed ``<name>/<role>``, and ``sampler/...`` for how far the
        sampler was from the model that learns."""
        rows = self._rows(episodes)
        metrics = _spread(rows)
        if any(row.beta for row in rows):
            self._add_reference(rows)
        if self.kl == "k1_in_reward":
            self._credit(rows, episodes)
        learn = [row for row in rows if row.advantage != 0 or self._loses_to_kl(row)]
        if not any(row.advantage for row in rows):
            return metrics | {"steps_skipped": 1.0, "loss": 0.0, "grad_norm": 0.0}
        taken = self.step.take(learn, _said, self._loss)
        if taken.refused:
            return metrics | {"steps_skipped": 1.0, "steps_refused": 1.0}
        metrics |= _drift(learn, [note.drift for note in taken.notes])
        metrics |= Gap.metrics([note.gap for note in taken.notes])
        return metrics | {"steps_skipped": 0.0, "loss": taken.loss, "grad_norm": taken.norm}

    def save(self, folder: Path) -> None:
        self.step.save(folder)
        if self.baseline is not None:
            self.baseline.save(folder)

    def load(self, folder: Path) -> None:
        self.step.load(folder)
        if self.baseline is not None:
            self.baseline.load(folder)

    # -- the rows of a step -----------------------------------------------------------------------------------------

    def _rows(self, episodes: Sequence[Episode]) -> list[_Row]:
        credit = self.baseline(episodes) if self.baseline else advantages(episodes, scale=self.scale)
        rows = [
            _Row(turn, turn.action.completion, advantage, 0.0, self._beta(turn.role))
            for turn, advantage in credit.items()
            if turn.action.completion is not None and turn.action.completion.token_ids
        ]
        for role, mates in _by_role(rows).items():
            for row in mates:
                row.weight = self.alpha.get(role, 1.0) / len(mates)
        return rows

    def _beta(self, role: str) -> float:
        if self.kl == "none" or self.reference is None:
            return 0.0
        return self.beta.get(role, 0.0) if isinstance(self.beta, Mapping) else self.beta

    def _loses_to_kl(self, row: _Row) -> bool:
        return row.beta != 0 and self.kl != "k1_in_reward"

    @torch.no_grad()
    def _add_reference(self, rows: list[_Row]) -> None:
        assert self._reference_passes is not None
        for batch in self.step.batches(rows, _said):
            width = max(len(row.completion.prompt_ids) + len(row.completion.token_ids) for row in batch)
            with self._reference_passes.running(width):
                logp_BT, _ = self._reference_passes.logprobs([row.completion for row in batch])
            for row, logp_T in zip(batch, logp_BT, strict=True):
                row.reference = logp_T[: len(row.completion.token_ids)]

    def _credit(self, rows: list[_Row], episodes: Sequence[Episode]) -> None:
        """The penalty inside the reward: -beta sum_t (log pi_old - log pi_ref), detached, before the baseline."""
        bonus: dict[Turn, float] = {}
        for row in rows:
            if row.reference is not None:
                behaviour = torch.tensor(row.completion.logprobs, device=row.reference.device)
                bonus[row.turn] = -row.beta * float((behaviour - row.reference).sum())
        if self.baseline is None:
            credit = advantages(episodes, scale=self.scale, bonus=bonus)
            for row in rows:
                row.advantage = credit[row.turn]
        else:
            for row in rows:
                row.advantage += bonus.get(row.turn, 0.0)

    # -- the loss of a batch ----------------------------------------------------------------------------------------

    def _loss(self, batch: Sequence[_Row]) -> tuple[Tensor, _Note]:
        logp_BT, mask_BT = self.step.logprobs([row.completion for row in batch])
        advantage_B = logp_BT.new_tensor([row.advantage for row in batch])
        weight_B = logp_BT.new_tensor([row.weight for row in batch])
        cap = self.importance_cap
        sampler_BT, sampled_BT = self._sampler(batch, logp_BT)
        rho_BT = importance(logp_BT, sampler_BT, cap) if cap else None
        loss_B = reinforce(logp_BT, advantage_B, rho_BT)
        drift: dict[str, float] = {}
        if batch[0].reference is not None:
            reference_BT = pad_sequence([row.reference for row in batch if row.reference is not None], batch_first=True)
            beta_B = logp_BT.new_tensor([row.beta for row in batch])
            loss_B = loss_B + beta_B * kl_penalty(logp_BT, reference_BT, self.kl, rho_BT)
            with torch.no_grad():
                divergence_B = (k3(logp_BT - reference_BT) * mask_BT).sum(-1).tolist()
            for row, divergence in zip(batch, divergence_B, strict=True):
                drift[row.turn.role] = drift.get(row.turn.role, 0.0) + divergence
        gap = Gap.measure(logp_BT[sampled_BT], sampler_BT[sampled_BT], cap)
        return (weight_B * loss_B).sum(), _Note(drift, gap)

    @staticmethod
    def _sampler(batch: Sequence[_Row], logp_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The sampler's log-probabilities and where there are any (B, T). Words that nobody sampled (``encode``) have
        none: there the policy stands in for its own sampler."""
        said = [row.completion for row in batch]
        told = [c.logprobs if len(c.logprobs) == len(c.token_ids) else () for c in said]
        width = logp_BT.shape[1]
        known_BT = torch.tensor([[t < len(row) for t in range(width)] for row in told], device=logp_BT.device)
        values = [value for row in told for value in row]
        return logp_BT.detach().masked_scatter(known_BT, logp_BT.new_tensor(values)), known_BT


def _said(row: _Row) -> tuple[Completion]:
    return (row.completion,)


def _drift(rows: Iterable[_Row], summed: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean KL estimate per token and role, where a role has one."""
    tokens = {role: sum(len(row.completion.token_ids) for row in mates) for role, mates in _by_role(rows).items()}
    found = {role for drift in summed for role in drift}
    return {f"kl/{role}": sum(d.get(role, 0.0) for d in summed) / tokens[role] for role in tokens if role in found}


def _by_role(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    roles: dict[str, list[_Row]] = {}
    for row in rows:
        roles.setdefault(row.turn.role, []).append(row)
    return roles


def _spread(rows: list[_Row]) -> dict[str, float]:
    """Per role: the spread of the advantages, and the share of groups in which all siblings earned the same."""
    metrics: dict[str, float] = {}
    for role, mates in _by_role(rows).items():
        metrics[f"advantage_std/{role}"] = pstdev([row.advantage for row in mates])
        groups: dict[int, bool] = {}
        for row in mates:
            groups[row.turn.group] = groups.get(row.turn.group, True) and row.advantage == 0
        metrics[f"frac_reward_zero_std/{role}"] = fmean(groups.values())
    return metrics
