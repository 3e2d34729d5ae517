"""What may be spent on a server: tokens and money, reserved before a request is sent and settled when it has ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

Tokens = tuple[int, int]
"""Tokens in and out."""

SPENT = "spent.json"


class Budget:
    """Bounds tokens and money over a whole run; None is no bound. ``prices`` are for a million tokens in and out.

    Used within one event loop at a time; ``open`` it in each. Raises ``ValueError`` for bounds that cannot be kept.
    """

    def __init__(self, tokens: int | None, money: float | None, prices: tuple[float, float]) -> None:
        if min(prices) < 0:
            raise ValueError("price_in and price_out must be at least 0")
        if money is not None and not max(prices) > 0:
            raise ValueError("budget_money cannot be kept without price_in or price_out")
        self.tokens, self.money, self.prices = tokens, money, prices
        self.spent: Tokens = (0, 0)  # with what is under way, as it was estimated
        self._under_way = 0
        self._ended = asyncio.Condition()

    def open(self) -> None:
        """For a new event loop. What was cancelled in an earlier one stays charged as estimated."""
        self._under_way = 0
        self._ended = asyncio.Condition()

    async def reserve(self, estimate: Tokens) -> bool:
        """Reserve, if need be once others have ended and cost less than was feared; False if there is no room even
        when nothing is under way."""
        async with self._ended:
            await self._ended.wait_for(lambda: self._affords(estimate) or not self._under_way)
        if not self._affords(estimate):
            return False
        self._under_way += 1
        self._add(estimate)
        return True

    async def settle(self, estimate: Tokens, cost: Tokens) -> None:
        """The reserved request has ended, and cost this much."""
        self._add((cost[0] - estimate[0], cost[1] - estimate[1]))
        self._under_way -= 1
        async with self._ended:
            self._ended.notify_all()

    def price(self, tokens: Tokens) -> float:
        return (tokens[0] * self.prices[0] + tokens[1] * self.prices[1]) / 1e6

    def save(self, folder: Path) -> None:
        """What was spent, so that a resumed run keeps to the same budget."""
        (folder / SPENT).write_text(json.dumps(self.spent), encoding="utf-8")

    def load(self, folder: Path) -> None:
        tokens_in, tokens_out = json.loads((folder / SPENT).read_text(encoding="utf-8"))
        self.spent = (int(tokens_in), int(tokens_out))

    def _add(self, tokens: Tokens) -> None:
        self.spent = (self.spent[0] + tokens[0], self.spent[1] + tokens[1])

    def _affords(self, estimate: Tokens) -> bool:
        total = (self.spent[0] + estimate[0], self.spent[1] + estimate[1])
        return (self.tokens is None or sum(total) <= self.tokens) and (
            self.money is None or self.price(total) <= self.money
        )
