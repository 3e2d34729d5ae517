"""A player of liar's dice that counts its own dice and the odds of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from agents.legal import LegalPlayer


@dataclass(frozen=True)
class CountingBidder(LegalPlayer):
    """Knows its own dice, and takes those of the others for thrown by chance, whatever was bid. It doubts a bid whose
    chance is below ``doubts``; else it makes, of all higher bids, the likeliest, the lowest of several. Raises
    ``ValueError``."""

    doubts: float = 0.3
    game = "liars_dice"

    def __post_init__(self) -> None:
        if not 0 <= self.doubts <= 1:
            raise ValueError(f"CountingBidder needs a chance from 0 to 1, not doubts={self.doubts}.")

    def chances(self, state: str, moves: int) -> Sequence[float]:
        own, total, faces, *rest = state.split(" ")
        bids = [tuple(map(int, bid.split("-"))) for bid in rest[0].split(",")] if rest else []
        every = [(count, face) for count in range(1, int(total) + 1) for face in range(1, int(faces) + 1)]
        higher = [bid for bid in every if not bids or bid > bids[-1]]
        if moves != len(higher) + bool(bids):
            raise ValueError(state)
        odds = [self.odds(own, int(total), int(faces), bid) for bid in higher]
        if bids:
            last = self.odds(own, int(total), int(faces), bids[-1])
            if last < self.doubts or not odds or max(odds) < 1 - last:  # a doubt is more likely to be right
                return [0.0] * len(higher) + [1.0]
        best = odds.index(max(odds))
        return [float(place == best) for place in range(moves)]

    @staticmethod
    def odds(own: str, total: int, faces: int, bid: Sequence[int]) -> float:
        """The chance that the bid is true, for who has the dice ``own``."""
        count, face = bid
        hidden, missing = total - len(own), max(0, count - own.count(str(face)))
        ways = (comb(hidden, n) * (faces - 1) ** (hidden - n) for n in range(missing, hidden + 1))
        return sum(ways) / faces**hidden
