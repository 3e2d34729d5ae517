"""A scripted trader for the negotiation game: it takes whatever leaves it better off, and offers what would."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat


@dataclass(frozen=True, slots=True)
class Trader:
    """Accepts an offer that gains it at least ``least`` by its own values, if it can pay. Otherwise it offers up to
    ``most`` units of one of its goods for as few of another as would gain it ``least``, both drawn by the row's seed;
    where the legal moves are codes, any one of those that would gain it ``least``.

    It reads ``infos["state"]`` (stock, values and offer, as JSON) and nothing else.
    """

    least: float = 1.0
    most: int = 5

    def __post_init__(self) -> None:
        if not self.least > 0 or self.most < 1:
            raise ValueError(f"least={self.least} must be above 0 and most={self.most} at least 1.")

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """Where nobody says what it has: it refuses."""
        return [Action("[Deny]") for _ in observations]

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One message, or code, per row."""
        return [
            Action(self._choose(json.loads(info["state"]), info.get("legal_actions"), random.Random(seed)))
            for seed, info in zip(seeds, infos, strict=True)
        ]

    def _choose(self, state: Mapping[str, Any], legal: Sequence[str] | None, rng: random.Random) -> str:
        stock, values, offer = state["stock"], state["values"], state["offer"]
        if offer:
            gain = sum(values[good] * n for good, n in offer["gives"].items())
            gain -= sum(values[good] * n for good, n in offer["asks"].items())
            if gain >= self.least and all(stock[good] >= n for good, n in offer["asks"].items()):
                return "1" if legal else "[Accept]"
        if legal:
            sells = state["sells"]
            buys = next(good for good in stock if good != sells)
            gainful = [
                code
                for code in legal
                if len(code) == 2 and int(code[1]) * values[buys] - int(code[0]) * values[sells] >= self.least
            ]
            return rng.choice(gainful) if gainful else "0"
        sells = rng.choice([good for good, n in stock.items() if n] or list(stock))
        buys = rng.choice([good for good in stock if good != sells])
        number = rng.randint(1, max(1, min(self.most, stock[sells])))
        price = math.ceil((number * values[sells] + self.least) / values[buys])
        return f"[Offer: {number} {sells} -> {price} {buys}]" if stock[sells] else "[Deny]"
