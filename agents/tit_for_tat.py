"""A player of the iterated prisoner's dilemma that plays back what it met (Axelrod, 1984)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.legal import LegalPlayer
from selfplay.types import Action, Chat


@dataclass(frozen=True)
class TitForTat(LegalPlayer):
    """Cooperates first, then does what the other did in the round before; after a defection it cooperates all the same
    with chance ``forgiveness``. Where it is to talk it says ``word``. Raises ``ValueError``."""

    forgiveness: float = 0.0
    word: str = "I do as you did to me."
    game = "prisoners_dilemma"

    def __post_init__(self) -> None:
        if not 0 <= self.forgiveness <= 1 or not self.word.strip():
            raise ValueError(
                f"TitForTat needs a chance as forgiveness and a word to say, not {self.forgiveness} and {self.word!r}."
            )

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        rows = zip(observations, seeds, infos, strict=True)
        return [
            super(TitForTat, self).choose([told], [seed], [info])[0] if info.get("legal_actions") else Action(self.word)
            for told, seed, info in rows
        ]

    def chances(self, state: str, moves: int) -> Sequence[float]:
        if moves != 2 or set(state) - set("cd,"):
            raise ValueError(state)
        kind = self.forgiveness if state.endswith("d") else 1.0
        return [kind, 1 - kind]
