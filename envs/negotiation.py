"""Bargaining over goods that are worth more to one than the other (SimpleNegotiation of SPIRAL, arXiv 2506.24119)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.bargain import Bargain, check_market, listed, read_action, read_code
from envs.game import LanguageGame
from envs.script import GameError, Line


class Negotiation(LanguageGame):
    """Two seats, ``rounds`` messages each. The seed draws how much of each good a seat has (``stock``, from and to) and
    what one is worth to it (the mean in ``goods``, give or take the share ``spread``, within ``limits``); neither is
    told the other's. In ``goods`` a mean may be a pair: that of the first seat and that of the second.

    A message is talk, and does what its last ``[Offer: 2 Wood -> 1 Ore]``, ``[Accept]`` or ``[Deny]`` says. An offer
    stands for one message of the other: whoever does not accept it has refused it. Whoever offers what they do not
    have, accepts where nothing is offered or where either cannot pay, or writes an offer that cannot be read, forfeits.
    At the end the seat whose goods have gained more, each by its own values, gets 1, and the other -1; equal gains 0.

    ``coded`` is the game for models of few words: two goods, of which the first seat sells the first and the second
    seat the second; the legal moves are ``32`` (3 of mine for 2 of yours), ``1`` (accept) and ``0`` (neither).

    Lines may be told ``stock``, ``values``, ``offer`` (that of the other) and ``left`` (messages of that seat to come,
    this one included); ``infos[seat]["state"]`` is the same as JSON. Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("stock", "values", "offer", "left")

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        goods: Mapping[str, float | Sequence[float]],
        *,
        stock: Sequence[int] = (5, 25),
        spread: float = 0.2,
        limits: Sequence[int] = (5, 40),
        rounds: int = 5,
        coded: bool = False,
        name: str = "negotiation_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            turns, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if len(self.script) != 2 or len(self.roles) != 2:
            raise GameError("a negotiation has two turns, of two roles")
        if type(rounds) is not int or rounds < 1:
            raise GameError(f"rounds={rounds}: a negotiation has a whole number of rounds, at least one")
        if coded and len(goods) != 2:
            raise GameError(f"coded=true is for two goods, one that each seat sells, and goods names {len(goods)}")
        self.rounds, self.coded, self.goods = rounds, coded, tuple(goods)
        self.market = (check_market(goods, stock, spread, limits), stock, spread, limits)

    def begin(self, seed: int | None) -> None:
        self.bargain = Bargain(random.Random(seed), *self.market)

    def next_line(self) -> Line | None:
        """The two in turn; a forfeit and the end pay."""
        mover = self.spoken % 2
        if self.spoken and not self.bargain.does(1 - mover, self._read(1 - mover)):
            spoke = self.script[1 - mover].seat
            self.infos[spoke]["forfeit"] = True
            self.pay(spoke, self.forfeit)
            return None
        if self.spoken == 2 * self.rounds:
            first, second = self.bargain.gains()
            for line, ahead in zip(self.script, (first - second, second - first), strict=True):
                self.pay(line.seat, (ahead > 0) - (ahead < 0))
            return None
        line, state, left = self.script[mover], self.bargain.state(mover), self.rounds - self.spoken // 2
        offer = state["offer"]
        shown = f"{listed(offer['gives'])} -> {listed(offer['asks'])}" if offer else "none"
        values = ", ".join(f"{good} {value}" for good, value in state["values"].items())
        self.case |= {"stock": listed(state["stock"]), "values": values, "offer": shown, "left": str(left)}
        self.infos[line.seat]["state"] = json.dumps({**state, "left": left})
        return replace(line, moves=self.bargain.codes(mover)) if self.coded else line

    def _read(self, mover: int) -> Any:
        words = self.case[self.script[mover].slots[0]].strip()
        return read_code(words, self.bargain.sells(mover)) if self.coded else read_action(words, self.goods)


raw_env = partial(shipped.raw, "negotiation")
env = partial(shipped.aec, "negotiation")
parallel_env = partial(shipped.parallel, "negotiation")
