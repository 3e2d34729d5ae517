"""Liar's dice: everybody sees their own dice alone, and bids on what all the dice on the table show."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line


class LiarsDice(LanguageGame):
    """The first ``players`` of ``turns`` throw ``dice`` dice each and bid in turn: so many, of all on the table, show
    this face. A bid has more dice than the last one, or as many of a higher face. Instead of a bid one may say "liar":
    then all dice are shown, and who doubted a true bid, or made a false one, loses a die. That is the end, or with
    ``elimination`` the loser begins the next round; who has no dice is out, and the last one left has won. Losers pay 1
    between them, the others share it. ``bid`` is how a bid is written. A line may be told ``dice`` (its own), ``total``
    (dice on the table), ``bids`` (of this round) and ``counts`` (each player's dice). ``infos[seat]["state"]``: own
    dice, total, faces and bids, ``26 4 6 1-3,2-5``. Raises ``GameError``."""

    rules_pay = True
    own_slots = ("dice", "total", "bids", "counts")

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        players: int = 2,
        dice: int = 2,
        faces: int = 6,
        elimination: bool = False,
        bid: str = "{count} of {face}",
        name: str = "liars_dice_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if not 2 <= players <= len(turns) or not 1 <= dice <= 6 or not 2 <= faces <= 9:
            raise GameError(f"players={players}, dice={dice}, faces={faces}: use 2 to {len(turns)}, 1 to 6, and 2 to 9")
        super().__init__(
            turns[:players], name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        pairs = [(count, face) for count in range(1, players * dice + 1) for face in range(1, faces + 1)]
        texts = [bid.replace("{count}", str(count)).replace("{face}", str(face)) for count, face in pairs]
        self.bids = dict(zip(texts, pairs, strict=True))
        if len(self.bids) < len(pairs):
            raise GameError(f"bid={bid!r} writes two moves alike: show {{count}} and {{face}}")
        self.dice, self.faces, self.elimination = dice, faces, elimination

    def begin(self, seed: int | None) -> None:
        self.chance, self.left, self.turn = random.Random(seed).random(), [self.dice] * len(self.script), 0
        self._throw()

    def next_line(self) -> Line | None:
        """The players in turn, until a bid is doubted, and as long as dice are left."""
        move = self.case[self.script[self.turn].slots[0]] if self.spoken else ""
        if move and move != "liar":
            self.said, self.bidder, self.turn = (*self.said, move), self.turn, self._after(self.turn)
        elif move:
            count, face = self.bids[self.said[-1]]
            loser = self.turn if sum(dice.count(face) for dice in self.thrown) >= count else self.bidder
            self.left[loser] -= 1
            lost = [place for place, number in enumerate(self.left) if not number] if self.elimination else [loser]
            if not self.elimination or len(lost) == len(self.left) - 1:
                for place, line in enumerate(self.script):
                    self.pay(line.seat, -1 / len(lost) if place in lost else 1 / (len(self.left) - len(lost)))
                return None
            self.turn = self._after(loser - 1)
            self._throw()
        return self._line(self.script[self.turn], "".join(map(str, self.thrown[self.turn])), sum(self.left))

    def _throw(self) -> None:
        rng = random.Random(f"{self.chance}/{self.spoken}")
        self.thrown = [sorted(rng.choices(range(1, self.faces + 1), k=number)) for number in self.left]
        self.said, self.bidder = tuple[str, ...](), -1

    def _after(self, turn: int) -> int:
        number = len(self.left)
        return next(place % number for place in range(turn + 1, turn + 1 + number) if self.left[place % number])

    def _line(self, line: Line, own: str, total: int) -> Line:
        least = self.bids[self.said[-1]] if self.said else (0, 0)
        moves = tuple(text for text, bid in self.bids.items() if least < bid <= (total, self.faces))
        counts = (f"{self.name_of(who.seat)} {number}" for who, number in zip(self.script, self.left, strict=True))
        self.case |= {"dice": " ".join(own), "total": str(total), "bids": ", ".join(self.said) or "none"}
        self.case |= {"counts": ", ".join(counts)}
        bids = ",".join("{}-{}".format(*self.bids[text]) for text in self.said)
        self.infos[line.seat]["state"] = f"{own} {total} {self.faces} {bids}".strip()
        return replace(line, moves=(*moves, "liar") if self.said else moves)


raw_env = partial(shipped.raw, "liars_dice")
env = partial(shipped.aec, "liars_dice")
parallel_env = partial(shipped.parallel, "liars_dice")
