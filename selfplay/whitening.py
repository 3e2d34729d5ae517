"""Advantages by whitening: mean 0 and variance 1 over the sampled *tokens* of a batch or of a cell of it.

A turn of many tokens counts as often as it has tokens, as in REINFORCE++ (arXiv 2501.03262) and verl. Turns without
tokens, as those of a data set, have no part in it and no advantage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from selfplay.credit import centred, siblings
from selfplay.peers import Compared
from selfplay.types import Case, Episode, Turn

VARIANCE_EPSILON = 1e-8
"""Added to the variance, as verl does."""


def whitened(values: Sequence[float], tokens: Sequence[int]) -> list[float]:
    """(value - mean) / sqrt(variance + 1e-8), where each value stands for as many tokens as it has; the variance with
    Bessel's correction. Exactly 0 where all values are equal."""
    if max(values) == min(values):
        return [0.0] * len(values)
    total = sum(tokens)
    mean = math.fsum(value * count for value, count in zip(values, tokens, strict=True)) / total
    square = math.fsum(count * (value - mean) ** 2 for value, count in zip(values, tokens, strict=True))
    spread = math.sqrt(square / (total - 1) + VARIANCE_EPSILON)
    return [(value - mean) / spread for value in values]


def length(turn: Turn) -> int:
    """The number of tokens that the turn's player sampled."""
    return len(turn.action.completion.token_ids) if turn.action.completion else 0


class ReinforcePP(Compared):
    """REINFORCE++ (arXiv 2501.03262): the value, whitened over all tokens of the batch, whatever their role.

    Where roles earn on different scales, as in self-play, the mean over them says little: see ``TrrPP``.
    """

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        spoken = [turn for turn in turns if length(turn)]
        return [spoken] if spoken else []

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        paid = [value + extra for value, extra in zip(worth, bonus, strict=True)]
        return whitened(paid, [length(turn) for turn in peers])


class ReinforcePPBaseline(ReinforcePP):
    """REINFORCE++ with a group baseline (verl's ``reinforce_plus_plus_baseline``): the value minus its siblings' mean,
    then whitened over the batch's tokens. A turn without siblings stays out of the whitening and has 0, where verl
    gives it its raw reward."""

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        together: list[Turn] = []
        for group in siblings(turn for turn in turns if length(turn)):
            if len(group) == 1:
                yield group
            else:
                together += group
        if together:
            yield together

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        paid = {turn: value + extra for turn, value, extra in zip(peers, worth, bonus, strict=True)}
        gains: dict[Turn, float] = {}
        for group in siblings(peers):
            gains.update(zip(group, centred([paid[turn] for turn in group]), strict=True))
        return whitened([gains[turn] for turn in peers], [length(turn) for turn in peers])


class TrrPP(ReinforcePP):
    """Task-relative REINFORCE++ (Absolute Zero, arXiv 2505.03335): whitened within each cell of task and role, for
    roles and tasks earn on different scales.

    The task is the case's slot ``task``, else the game's name. A game that ended by a forfeit has no case: its turns
    take the task of their siblings, or of the nearest turn before them that has one. A turn with episodes of several
    tasks, because it came before the choice, counts under the game's name.
    """

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        task_of = _tasks(episodes)
        cells: dict[tuple[str, str], list[Turn]] = {}
        for turn in turns:
            if length(turn):
                cells.setdefault((task_of[turn], turn.role), []).append(turn)
        return list(cells.values())


def _tasks(episodes: Sequence[Episode]) -> dict[Turn, str]:
    """The task of every turn."""
    own: dict[Turn, set[str]] = {}
    for episode in episodes:
        for turn in episode.turns:
            own.setdefault(turn, set()).update(_named(episode.case))
    for group in siblings(own):
        shared = set[str]().union(*(own[turn] for turn in group))
        for turn in group:
            own[turn] = own[turn] or shared
    tasks: dict[Turn, str] = {}
    for episode in episodes:
        task = episode.game
        for turn in episode.turns:
            if own[turn]:
                task = min(own[turn]) if len(own[turn]) == 1 else episode.game
            tasks[turn] = task
    return tasks


def _named(case: Case) -> set[str]:
    return {case["task"]} if case.get("task") else set()
