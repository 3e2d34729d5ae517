"""The optimal player of Kuhn poker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.legal import LegalPlayer
from selfplay.exploitability import equilibrium


@dataclass(frozen=True)
class KuhnEquilibrium(LegalPlayer):
    """Plays an equilibrium in either seat: nobody earns more against it than the game is worth, 1/18 of a chip for the
    second player. ``alpha``, 0 to 1/3, is how often the first player bets the jack. Raises ``ValueError``."""

    alpha: float = 1 / 3
    game = "kuhn_poker"

    def __post_init__(self) -> None:
        equilibrium(self.alpha)

    def chances(self, state: str, moves: int) -> Sequence[float]:
        policy = equilibrium(self.alpha)[state]
        if moves != len(policy):
            raise ValueError(state)
        return [policy[move] for move in "pb"]
