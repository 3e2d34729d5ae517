"""Credit: from a tree of episodes to one value per turn, and the one rule that makes advantages of values.

For a turn t with leaves E(t), V(t) is the mean of what t's seat earned over E(t), or what the role's *shape* makes of
these leaves; A(t) = V(t) - mean of V over t's siblings. A turn that many episodes share is counted once. For Language
Self-Play (arXiv 2509.07414) it gives eq. 3: the Solver's answers are centred within their query, the Challenger's
queries among each other, with V(q) = mean over the answers to q, and no standard deviation anywhere. Other rules on the
same values are in ``selfplay/estimators.py``, shapes in ``selfplay/shapes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Protocol

from selfplay.compose import did_you_mean
from selfplay.lessons import Settled
from selfplay.types import Episode, Turn


class CreditError(ValueError):
    """Credit that does not fit the game, in one sentence."""


Leaves = Mapping[Turn, Sequence[Episode]]
"""The episodes that went through a turn, without the void ones."""


Bonus = Mapping[Turn, float]
"""What a turn is paid besides its value, as a KL penalty inside the reward."""


class Shape(Protocol):
    """What turns of one role are worth, given how their episodes ended. Siblings come together, for a turn may be
    worth less where its siblings said the same."""

    def __call__(self, turns: Sequence[Turn], leaves: Leaves) -> Sequence[float]:
        """One value per turn, whatever the order of ``turns``; nan where it cannot be told: then nobody learns from
        the turn."""
        ...


Shapes = Mapping[str, Shape]
"""Role -> its shape; a role without one earns the mean of its returns."""


Earnings = Callable[[Episode], Mapping[Turn, float]]
"""What an episode is worth to every turn of a role that earns something."""


class Estimator(Protocol):
    """Whatever makes advantages. One that has state has ``save(folder)`` and ``load(folder)``, too (``Stateful``)."""

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        """The advantage of every turn that has one. Call it once for a batch: a baseline moves with every call."""
        ...


def leaves_of(episodes: Iterable[Episode]) -> dict[Turn, list[Episode]]:
    """Every turn of a role that earns something, with its episodes; a turn whose episodes are all void is left out."""
    leaves: dict[Turn, list[Episode]] = {}
    for episode in episodes:
        if not episode.void:
            for turn in episode.turns:
                if turn.role in episode.returns:
                    leaves.setdefault(turn, []).append(episode)
    return leaves


def earned(episode: Episode) -> dict[Turn, float]:
    """What the seats of the turns earned in the whole episode: the return, whichever turn it was."""
    return {turn: episode.earned(turn) for turn in episode.turns if turn.role in episode.returns}


def siblings(turns: Iterable[Turn]) -> list[list[Turn]]:
    """The turns by the fork that they answer from."""
    groups: dict[tuple[str, int], list[Turn]] = {}
    for turn in turns:
        groups.setdefault((turn.role, turn.group), []).append(turn)
    return list(groups.values())


def values(episodes: Sequence[Episode], shape: Shapes | None = None, earnings: Earnings = earned) -> dict[Turn, float]:
    """V(t) of every turn that has a leaf that is not void: the mean of the leaves' ``earnings``, or its shape's.

    No shape looks at a turn whose episode is ``Settled``, by a data gate: its return is its value already. Raises
    ``CreditError`` for a shape of an unknown role.
    """
    leaves = leaves_of(episodes)
    worth: dict[Turn, list[float]] = {turn: [] for turn in leaves}
    for episode in episodes:
        if not episode.void:
            for turn, value in earnings(episode).items():
                worth[turn].append(value)
    found = {turn: fmean(each) for turn, each in worth.items()}
    if shape:
        _check_roles(shape, episodes)
        shaped = (turn for turn, ends in leaves.items() if turn.role in shape and not isinstance(ends[0], Settled))
        for group in siblings(shaped):
            shaped_as = shape[group[0].role](group, leaves)
            if len(shaped_as) != len(group):
                raise CreditError(f"the shape of {group[0].role} gave {len(shaped_as)} values for {len(group)} turns")
            found.update(zip(group, shaped_as, strict=True))
    return {turn: value for turn, value in found.items() if value == value}


def advantages(
    episodes: Sequence[Episode],
    bonus: Bonus | None = None,
    *,
    shape: Shapes | None = None,
) -> dict[Turn, float]:
    """A(t) = V(t) - mean of V over t's siblings; a turn without siblings has 0, whatever it earned.

    ``bonus[t]`` is added to V(t) first (a KL penalty inside the reward).
    """
    worth = {turn: value + (bonus or {}).get(turn, 0.0) for turn, value in values(episodes, shape).items()}
    credit = dict.fromkeys(worth, 0.0)
    for group in siblings(worth):
        credit.update(zip(group, centred([worth[turn] for turn in group]), strict=True))
    return credit


def centred(earned: Sequence[float]) -> list[float]:
    """Each value minus the mean, and exactly 0 where all are equal: rounding in a mean must not look like a signal."""
    if max(earned) == min(earned):
        return [0.0] * len(earned)
    mean = fmean(earned)
    return [value - mean for value in earned]


def _check_roles(shape: Shapes, episodes: Sequence[Episode]) -> None:
    roles = sorted({role for episode in episodes for role in episode.returns})
    for role in shape:
        if roles and role not in roles:
            raise CreditError(
                f"shape names the role {role!r}{did_you_mean(role, roles)}: these earn: {', '.join(roles)}"
            )
