"""What two who trade own, what it is worth to each, and the words of their offers: the market under a negotiation."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from envs.script import GameError

Goods = dict[str, int]
Action = Literal["talk", "accept", "deny", "illegal"] | tuple[Goods, Goods]
"""What a message does; an offer is what its speaker gives, and what it asks for."""

_ACTION = re.compile(r"\[\s*(accept|deny|offer)\b([^\[\]]*)\]", re.IGNORECASE)
_ITEM = re.compile(r"\s*(\d{1,4})\s+(\w+)\s*")
_CODE = re.compile(r"([1-9])([1-9])")


class Bargain:
    """One game's goods: ``has``, ``had`` (at the start) and ``values`` of either side, and the ``offer`` that stands.

    ``means`` are what a unit of each good is worth to either side on average; all is drawn from ``rng``.
    """

    def __init__(
        self,
        rng: random.Random,
        means: Sequence[Mapping[str, float]],
        stock: Sequence[int],
        spread: float,
        limits: Sequence[int],
    ) -> None:
        def value(mean: float) -> int:
            return min(limits[1], max(limits[0], round(mean * rng.uniform(1 - spread, 1 + spread))))

        self.values: list[Goods] = [{good: value(mean) for good, mean in side.items()} for side in means]
        self.had: list[Goods] = [{good: rng.randint(stock[0], stock[1]) for good in side} for side in means]
        self.has: list[Goods] = [dict(goods) for goods in self.had]
        self.offer: tuple[Goods, Goods] | None = None
        self._most = min(9, stock[1])

    def does(self, mover: int, action: Action) -> bool:
        """Do what side ``mover`` says; whether it may. Whatever it says, the offer of the other stands no longer."""
        standing, self.offer = self.offer, None
        if action == "accept" and standing is not None:
            gives, asks = standing
            mine, theirs = self.has[mover], self.has[1 - mover]
            if not (can_pay(mine, asks) and can_pay(theirs, gives)):
                return False
            for good in mine:
                moved = gives.get(good, 0) - asks.get(good, 0)
                mine[good], theirs[good] = mine[good] + moved, theirs[good] - moved
            return True
        if isinstance(action, tuple):
            self.offer = action
            return can_pay(self.has[mover], action[0])
        return action in ("talk", "deny")

    def gains(self) -> tuple[int, int]:
        """By how much the goods of each side are worth more to it than those that it began with."""
        first, second = (_worth(self.has[n], self.values[n]) - _worth(self.had[n], self.values[n]) for n in range(2))
        return first, second

    def codes(self, mover: int) -> tuple[str, ...]:
        """The legal moves of side ``mover`` in the language of codes: an offer for each pair of digits that it can pay,
        and that asks for no more than anybody is dealt; ``1`` where it can accept; and ``0``."""
        spare = min(9, self.has[mover][self.sells(mover)[0]])
        offers = [f"{give}{take}" for give in range(1, spare + 1) for take in range(1, self._most + 1)]
        accept = self.offer is not None and can_pay(self.has[mover], self.offer[1])
        return (*(["1"] if accept else []), "0", *offers)

    def sells(self, mover: int) -> tuple[str, str]:
        """Of two goods the one that side ``mover`` sells by its codes, and the one that it buys."""
        first, second = self.has[mover]
        return (second, first) if mover else (first, second)

    def state(self, mover: int) -> dict[str, Any]:
        """What side ``mover`` knows."""
        gives, asks = self.offer or ({}, {})
        offer = {"gives": gives, "asks": asks} if self.offer else None
        sells = {"sells": self.sells(mover)[0]} if len(self.has[mover]) == 2 else {}
        return {"stock": self.has[mover], "values": self.values[mover], "offer": offer, **sells}


def read_action(message: str, goods: Sequence[str]) -> Action:
    """What the last ``[Offer: 3 Sheep, 2 Ore -> 5 Brick]``, ``[Accept]`` or ``[Deny]`` of a message says, in whatever
    case, with or without the s of a plural; ``talk`` where there is none, ``illegal`` for an offer that is none."""
    found = _ACTION.findall(message)
    if not found:
        return "talk"
    verb, rest = found[-1]
    if verb.lower() != "offer":
        return "accept" if verb.lower() == "accept" else "deny"
    sides = rest.strip().removeprefix(":").split("->")
    if len(sides) != 2:
        return "illegal"
    gives, asks = (_read_goods(side, goods) for side in sides)
    return (gives, asks) if gives and asks else "illegal"


def read_code(move: str, sells: tuple[str, str]) -> Action:
    """``32`` offers 3 of the good that one sells for 2 of the other; ``1`` accepts and ``0`` does neither."""
    if offer := _CODE.fullmatch(move):
        return {sells[0]: int(offer[1])}, {sells[1]: int(offer[2])}
    return "accept" if move == "1" else "deny" if move == "0" else "illegal"


def listed(goods: Mapping[str, int]) -> str:
    """``3 Sheep, 2 Ore``."""
    return ", ".join(f"{number} {good}" for good, number in goods.items())


def can_pay(has: Mapping[str, int], price: Mapping[str, int]) -> bool:
    return all(has.get(good, 0) >= number for good, number in price.items())


def check_market(
    goods: Mapping[str, Any], stock: Sequence[int], spread: float, limits: Sequence[int]
) -> list[dict[str, float]]:
    """What a unit of each good is worth on average to either side. Raises ``GameError``."""
    if len(goods) < 2:
        raise GameError(f"goods names {len(goods)}: it takes two or more to trade, as {{Wood: 10, Ore: 40}}")
    for key, span, least in (("stock", stock, 0), ("limits", limits, 1)):
        if len(span) != 2 or not all(type(end) is int for end in span) or not least <= span[0] <= span[1]:
            raise GameError(f"{key}={list(span)} is no range of whole numbers from {least} on, as [5, 25]")
    if not 0 <= spread < 1:
        raise GameError(f"spread={spread} is a share, from 0 to less than 1")
    means: list[dict[str, float]] = [{}, {}]
    for good, worth in goods.items():
        if not re.fullmatch(r"[A-Za-z]\w*", good):
            raise GameError(f"goods names {good!r}, which is not one word")
        pair = list(cast("Sequence[Any]", worth)) if isinstance(worth, list | tuple) else [worth, worth]
        if len(pair) != 2 or not all(isinstance(mean, int | float) and mean > 0 for mean in pair):
            raise GameError(f"goods.{good}={worth} is neither a worth above 0 nor a pair, one for each seat")
        means[0][good], means[1][good] = pair
    return means


def _worth(goods: Mapping[str, int], values: Mapping[str, int]) -> int:
    return sum(number * values[good] for good, number in goods.items())


def _read_goods(text: str, known: Sequence[str]) -> Goods | None:
    names = {spelt: good for good in known for spelt in (good.casefold() + "s", good.casefold())}
    found: Goods = {}
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        good = names.get(match[2].casefold()) if match else None
        if match is None or good is None or not int(match[1]):
            return None
        found[good] = found.get(good, 0) + int(match[1])
    return found
