"""Players that go by what the game tells their seat besides the chat: its state, and the legal moves."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from selfplay.types import Action, Chat


class StateError(ValueError):
    """A game that does not tell what a player goes by, in one sentence."""


class LegalPlayer:
    """Draws one of the legal moves, with the ``chances`` that a subclass gives them in the seat's ``state``; row i by
    ``seeds[i]`` alone. ``game`` is what it plays. Raises ``StateError`` at any other game."""

    game = ""

    def chances(self, state: str, moves: int) -> Sequence[float]:
        """The chance of each of so many legal moves, in the order of the game. Raises ``ValueError`` for a state that
        is none of the game."""
        raise NotImplementedError

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        actions: list[Action] = []
        for seed, info in zip(seeds, infos, strict=True):
            legal = list(info.get("legal_actions") or ())
            if not legal or not isinstance(info.get("state"), str):
                raise self._elsewhere("a game that lists no legal moves or no state")
            actions.append(Action(self._drawn(legal, str(info["state"]), seed)))
        return actions

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """Nobody could tell from the chat alone."""
        if observations:
            raise self._elsewhere("one whose infos it is not shown")
        return []

    def _drawn(self, legal: Sequence[Any], state: str, seed: int) -> Any:
        try:
            chances = self.chances(state, len(legal))
        except (ValueError, KeyError, IndexError) as error:
            raise self._elsewhere(f"one with the state {state!r} and {len(legal)} legal moves") from error
        return random.Random(seed).choices(legal, chances)[0]

    def _elsewhere(self, where: str) -> StateError:
        return StateError(f"{type(self).__name__} plays {self.game}, and no other game: it sits in {where}")
