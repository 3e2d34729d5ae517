"""Episodes as a learner shall see them: the same tree, in which some turns have lost what could be trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from selfplay.types import Action, Episode, Turn


@dataclass(eq=False, slots=True)
class Settled(Episode):
    """An episode whose ``returns`` are what its one turn is worth: it was decided, so no shape looks at it again."""


@dataclass(eq=False, slots=True)
class Silenced(Turn):
    """A turn that nobody may learn from, neither by its tokens, which it has lost, nor by its words, which a learner
    could encode anew: a data set's or a teacher's words have no tokens either, and are there to be learned."""


class Muted:
    """Turns that are ``Silenced``: nobody learns from them.

    A turn that many episodes share is muted once, so that the tree stays the tree it was; rewards, cases, verdicts and
    groups are untouched. One object serves all the episodes of an update.
    """

    def __init__(self) -> None:
        self._muted: dict[Turn, Turn] = {}

    def turn(self, turn: Turn) -> Turn:
        """The muted turn; one that says nothing in words, as a verdict, is what it is."""
        if turn.action.completion is None and not isinstance(turn.action.move, str):
            return turn
        if turn not in self._muted:
            silent = Action(turn.action.move)
            self._muted[turn] = Silenced(turn.role, turn.seat, turn.observation, silent, turn.group)
        return self._muted[turn]

    def episode(self, episode: Episode, learns: Callable[[Turn], bool]) -> Episode:
        """The episode with every turn muted that does not ``learn``; the very same one where that changes nothing."""
        turns = tuple(turn if learns(turn) else self.turn(turn) for turn in episode.turns)
        return episode if turns == episode.turns else replace(episode, turns=turns)


def only_roles(episodes: Iterable[Episode], roles: Iterable[str]) -> list[Episode]:
    """The episodes with the turns of all roles but ``roles`` muted."""
    named, muted = frozenset(roles), Muted()
    return [muted.episode(episode, lambda turn: turn.role in named) for episode in episodes]


def settled(episode: Episode, turn: Turn, value: float) -> Settled:
    """What is left of a turn's episodes when the turn is worth ``value`` and nobody else learns: this turn alone."""
    kept: dict[str, Any] = {field.name: getattr(episode, field.name) for field in fields(episode)}
    kept |= {"turns": (turn,), "returns": {**episode.returns, turn.role: value}, "verdict": {}, "forfeit": ""}
    kept |= {"seats": {**episode.seats, turn.seat: value}, "paid": ({turn.seat: value},)}
    return Settled(**kept)
