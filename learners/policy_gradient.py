"""The policy gradient of Language Self-Play: one strictly on-policy step per batch of episodes.

L = sum over roles of alpha_role * mean over the role's turns of [ -(pi / sg(pi)) A + beta_role * KL ]
(arXiv 2509.07414, eq. 4-5 and algorithm 1, with the KL where ``kl`` puts it).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch

from learners.losses import KL_PLACEMENTS, KlPlacement, k3, kl_penalty, reinforce
from learners.optimizer import load_optimizer, save_optimizer
from models.decode import batches
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


class PolicyGradient:
    """Updates ``engine`` from episodes; turns without a completion are somebody else's and are left alone.

    ``kl`` is the placement of the divergence from ``reference`` and ``beta`` its weight, a number or one per role;
    ``alpha`` weighs roles (1 where none is named). ``credit`` is ``siblings`` (group means) or ``ema`` (SPIRAL's
    baseline per game and role); ``scale`` divides by the group's standard deviation. A step without a signal, or
    whose loss or gradient is not finite, changes nothing and is counted.
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
        batch_tokens: int = 16_384,
    ) -> None:
        if kl not in KL_PLACEMENTS:
            raise ValueError(f"learner.kl={kl!r} is unknown: use {', '.join(KL_PLACEMENTS)}")
        if credit not in ("siblings", "ema"):
            raise ValueError(f"learner.credit={credit!r} is unknown: use siblings or ema")
        if kl == "k1_loss_literal":
            log.warning("learner.kl=k1_loss_literal has an expected gradient of zero: it regularises nothing")
        self.engine, self.reference, self.kl, self.alpha = engine, reference, kl, dict(alpha or {})
        self.beta, self.scale, self.batch_tokens, self.max_grad_norm = beta, scale, batch_tokens, max_grad_norm
        self.baseline = EmaBaseline(ema_decay) if credit == "ema" else None
        self.named = [(name, p) for name, p in engine.model.named_parameters() if p.requires_grad]
        if not self.named:
            raise ValueError(f"{engine.name} is frozen: the learner has nothing to update")
        self.optimizer = torch.optim.AdamW([p for _, p in self.named], lr=lr, weight_decay=weight_decay, fused=True)

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """One optimizer step on ``episodes``; metrics are keyed ``<name>/<role>``."""
        rows = self._rows(episodes)
        metrics = _spread(rows)
        if any(row.beta for row in rows):
            self._add_reference(rows)
        if self.kl == "k1_in_reward":
            self._credit(rows, episodes)
        learn = [row for row in rows if row.advantage != 0 or self._loses_to_kl(row)]
        if not any(row.advantage for row in rows):
            return metrics | {"steps_skipped": 1.0, "loss": 0.0, "grad_norm": 0.0}
        self.optimizer.zero_grad(set_to_none=True)
        loss, drift = self._backward(learn)
        norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in self.named], self.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            log.warning("the loss or its gradient is not finite (%s, %s): step refused, weights kept", loss, norm)
            return metrics | {"steps_skipped": 1.0, "steps_refused": 1.0}
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.engine.touched()
        return metrics | drift | {"steps_skipped": 0.0, "loss": loss, "grad_norm": norm}

    def save(self, folder: Path) -> None:
        save_optimizer(self.optimizer, self.named, folder)
        if self.baseline is not None:
            self.baseline.save(folder)

    def load(self, folder: Path) -> None:
        load_optimizer(self.optimizer, self.named, folder)
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
        assert self.reference is not None
        for batch in self._batches(rows):
            logp_BT, _ = self.reference.logprobs([row.completion for row in batch])
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

    # -- the step -----------------------------------------------------------------------------------------------------

    def _backward(self, rows: list[_Row]) -> tuple[float, dict[str, float]]:
        """Accumulate the gradient; the loss, and the mean KL estimate per token and role."""
        total, drift = 0.0, {role: [0.0, 0.0] for role in _by_role(rows)}
        for batch in self._batches(rows):
            logp_BT, mask_BT = self.engine.logprobs([row.completion for row in batch])
            advantage_B = logp_BT.new_tensor([row.advantage for row in batch])
            weight_B = logp_BT.new_tensor([row.weight for row in batch])
            loss_B = reinforce(logp_BT, advantage_B)
            if batch[0].reference is not None:
                reference_BT = torch.nn.utils.rnn.pad_sequence(
                    [row.reference for row in batch if row.reference is not None], batch_first=True
                )
                beta_B = logp_BT.new_tensor([row.beta for row in batch])
                loss_B = loss_B + beta_B * kl_penalty(logp_BT, reference_BT, self.kl)
                with torch.no_grad():
                    divergence_B = (k3(logp_BT - reference_BT) * mask_BT).sum(-1).tolist()
                for row, divergence in zip(batch, divergence_B, strict=True):
                    drift[row.turn.role][0] += divergence
                    drift[row.turn.role][1] += len(row.completion.token_ids)
            loss = (weight_B * loss_B).sum()
            loss.backward()
            total += loss.item()
        return total, {f"kl/{role}": summed / tokens for role, (summed, tokens) in drift.items() if tokens}

    def _batches(self, rows: list[_Row]) -> Iterable[list[_Row]]:
        lengths = [len(row.completion.prompt_ids) + len(row.completion.token_ids) for row in rows]
        return ([rows[i] for i in batch] for batch in batches(lengths, 0, self.batch_tokens))


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
