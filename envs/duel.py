"""Two answer the same question, and a judge says who does better, as a game: a win rate is its mean payoff."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from envs import shipped
from envs.game import VERIFIER_SEAT, LanguageGame


class Duel(LanguageGame):
    """A game whose verdict is a share of a win, and which pays the margin of it.

    A part that scores 1 for a win, 0 for a loss and 0.5 for a tie is worth ``2 * score - 1`` to the payoff: +1, -1 and
    0, so that a tie is worth nothing and the mean over duels is wins less losses. The verdict itself stays as it was.
    Everything else is ``LanguageGame``'s.
    """

    def step(self, action: Any) -> None:
        if self.agent_selection == VERIFIER_SEAT and isinstance(action, Mapping):
            action = {part: 2.0 * score - 1.0 for part, score in cast("Mapping[str, float]", action).items()}
        super().step(action)


raw_env = partial(shipped.raw, "duel")
env = partial(shipped.aec, "duel")
parallel_env = partial(shipped.parallel, "duel")
