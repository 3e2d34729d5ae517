"""Kuhn poker (H. W. Kuhn, A simplified two-person poker, 1950): three cards, one chip of ante, one bet of one chip."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line

CARDS = "JQK"
"""From the lowest to the highest, as a state writes them."""
PASS, BET = "pb"
OVER = ("pp", "bp", "bb", "pbp", "pbb")
"""How the betting may end: who passes after a bet has folded, who bets after one has called it."""


class KuhnPoker(LanguageGame):
    """Two players get one card each. ``first`` checks or bets, and so does ``second`` after a check; who faces a bet
    folds or calls. Whoever is left with the higher card, or faces no more resistance, wins the other's chips: 1, or 2
    after a call. A break of the rules costs ``forfeit``, which by default is the most that a game can cost.

    ``turns`` are the two players' lines; ``moves`` of each are its words for check, bet, fold and call, ``cards`` the
    names of the cards, from the lowest. A line may be told ``card`` (its own), ``history`` (the moves so far, without
    any space), ``legal`` and the transcript. ``infos[seat]["state"]`` is the card and the moves, ``p`` for check and
    fold, ``b`` for bet and call: ``Kpb``. Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("card", "history", "legal")

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        cards: Sequence[str] = ("J", "Q", "K"),
        name: str = "kuhn_poker_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -2.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            turns, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if len(self.script) != 2 or len(self.roles) != 2:
            raise GameError("Kuhn poker has two turns, of two roles: of who acts first and of who acts second")
        for number, line in enumerate(self.script):
            if len(line.moves) != 4:
                raise GameError(f"turns[{number}].moves are four words: for check, bet, fold and call")
        if len({*cards}) != 3:
            raise GameError(f"cards={list(cards)} are three names, from the lowest card to the highest")
        self.names = dict(zip(CARDS, map(str, cards), strict=True))

    def begin(self, seed: int | None) -> None:
        self.cards = random.Random(seed).sample(CARDS, 2)
        self.played, self.words = "", ""

    def next_line(self) -> Line | None:
        """The players in turn, until the betting is over."""
        if self.spoken:
            spoke = self.script[(self.spoken - 1) % 2]
            word = self.case[spoke.slots[0]]
            self.played, self.words = self.played + (PASS, BET)[spoke.moves.index(word) % 2], self.words + word
        if self.played in OVER:
            won = self.first_wins()
            self.pay(self.script[0].seat, won)
            self.pay(self.script[1].seat, -won)
            return None
        line, card = self.script[self.spoken % 2], self.cards[self.spoken % 2]
        moves = line.moves[2:] if self.played.endswith(BET) else line.moves[:2]
        self.case |= {"card": self.names[card], "history": self.words, "legal": ", ".join(moves)}
        self.infos[line.seat]["state"] = card + self.played
        return replace(line, moves=moves)

    def first_wins(self) -> int:
        """The chips that the first player wins, once the betting is over."""
        if self.played.endswith(BET + PASS):
            return -1 if len(self.played) % 2 else 1  # who acted last has folded
        stake = 2 if BET in self.played else 1
        return stake if CARDS.index(self.cards[0]) > CARDS.index(self.cards[1]) else -stake


raw_env = partial(shipped.raw, "kuhn_poker")
env = partial(shipped.aec, "kuhn_poker")
parallel_env = partial(shipped.parallel, "kuhn_poker")
