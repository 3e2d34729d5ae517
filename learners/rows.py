"""The turns of a step as a policy-gradient learner sees them: which there are, what they weigh, and minibatches."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from torch import Tensor

from models.layout import drawn
from selfplay.types import Completion, Episode, Turn

PerRole = float | Mapping[str, float]
"""A number for all roles, or one per role: a role that is not named has 0."""


@dataclass(slots=True)
class Row:
    """One turn to learn from. ``weight`` is that of its tokens in the loss, ``beta`` of its divergence, ``entropy`` of
    its entropy; ``reference`` and ``old`` (T,) are the log-probabilities of the frozen model and of the policy before
    the first step on this batch, where they are needed."""

    turn: Turn
    completion: Completion
    advantage: float = 0.0
    weight: float = 0.0
    beta: float = 0.0
    entropy: float = 0.0
    reference: Tensor | None = None
    old: Tensor | None = None

    @property
    def sampled(self) -> bool:
        """Whether the sampler told a log-probability for every token: words that were encoded have none."""
        return len(self.completion.logprobs) == len(self.completion.token_ids)


def rows_of(episodes: Sequence[Episode], beta: PerRole, entropy: PerRole) -> list[Row]:
    """A row for every turn whose tokens were drawn, in an episode that is not void and pays its role; siblings next to
    each other."""
    groups: dict[int, dict[Turn, Completion]] = {}
    for episode in episodes:
        if not episode.void:
            for turn in episode.turns:
                said = turn.action.completion
                if turn.role in episode.returns and said is not None and drawn(said):
                    groups.setdefault(turn.group, {})[turn] = said
    rows = [Row(turn, said) for group in groups.values() for turn, said in group.items()]
    for role, mates in by_role(rows).items():
        for row in mates:
            row.beta, row.entropy = of_role(beta, role), of_role(entropy, role)
    return rows


def of_role(value: PerRole, role: str) -> float:
    """A role's own share of a setting."""
    return value.get(role, 0.0) if isinstance(value, Mapping) else value


def by_role(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each role, in their order."""
    roles: dict[str, list[Row]] = {}
    for row in rows:
        roles.setdefault(row.turn.role, []).append(row)
    return roles


def minibatches(rows: Sequence[Row], parts: int, seed: int) -> list[list[Row]]:
    """``rows`` in ``parts`` parts, each with an equal share of every role, drawn by ``seed``; one part is all of them
    as they stand.

    Who comes into which part does not hang on the order of the rows: they are shuffled from an order of their own.
    """
    if parts == 1:
        return [list(rows)]
    rng = random.Random(seed)
    made: list[list[Row]] = [[] for _ in range(parts)]
    for _, mates in sorted(by_role(rows).items()):
        mates.sort(
            key=lambda row: (row.completion.prompt_ids, row.completion.token_ids, row.completion.allowed, row.advantage)
        )
        rng.shuffle(mates)
        for part, members in enumerate(made):
            members += mates[part::parts]
    return [part for part in made if part]


def spread(rows: Iterable[Row]) -> dict[str, float]:
    """Per role: the spread of the advantages, and the share of groups in which all siblings earned the same."""
    metrics: dict[str, float] = {}
    for role, mates in by_role(rows).items():
        metrics[f"advantage_std/{role}"] = pstdev([row.advantage for row in mates])
        groups: dict[int, bool] = {}
        for row in mates:
            groups[row.turn.group] = groups.get(row.turn.group, True) and row.advantage == 0
        metrics[f"frac_reward_zero_std/{role}"] = fmean(groups.values())
    return metrics


def per_role(rows: Iterable[Row], name: str, summed: Sequence[Mapping[str, float]], tokens: bool) -> dict[str, float]:
    """``<name>/<role>``: what a step's batches summed per role, over the role's tokens or its turns; only for roles
    that some batch has told of."""
    found = {role for sums in summed for role in sums}
    counts = {
        role: sum(drawn(row.completion) if tokens else 1 for row in mates) for role, mates in by_role(rows).items()
    }
    return {f"{name}/{role}": sum(s.get(role, 0.0) for s in summed) / counts[role] for role in counts if role in found}


def mean_of(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the steps that have it."""
    names = dict.fromkeys(name for step in steps for name in step)
    return {name: fmean(step[name] for step in steps if name in step) for name in names}
