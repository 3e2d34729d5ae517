"""Who sits where in a tournament: every ordered pair at two seats, a balanced draw at more."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import permutations

from selfplay.seeds import derive


def seatings(names: Sequence[str], seats: Sequence[str], games: int, seed: int) -> Iterator[tuple[int, dict[str, str]]]:
    """(deal, seat -> name) for every game. With two seats all ordered pairs play ``games`` games. With more, ``games``
    rounds are drawn by ``seed``, and in each of them everybody sits in every seat once, beside others than before; with
    fewer entrants than seats some sit in several.

    The games of one deal are to begin alike, whoever plays: then luck weighs the same on all.
    """
    if len(seats) == 2:
        for pair in permutations(names, 2):
            yield from ((deal, dict(zip(seats, pair, strict=True))) for deal in range(games))
        return
    for deal in range(games):
        order = random.Random(derive(seed, "seating", deal)).sample(list(names), len(names))
        for first in range(len(order)):
            yield deal, {seat: order[(first + place) % len(order)] for place, seat in enumerate(seats)}


def number_of_games(entrants: int, seats: int, games: int) -> int:
    """How many ``seatings`` gives."""
    return games * entrants * (entrants - 1 if seats == 2 else 1)
