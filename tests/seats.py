"""Episodes of several seats for the tests of credit: who moved when, and what was paid after each move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from selfplay.playing import role_of
from selfplay.types import Action, Episode, Turn
from tests.credit_trees import words

_GROUPS = count(10_000)


def moved(seat: str, role: str = "", group: int | None = None, tokens: int = 1) -> Turn:
    """A turn of its own group, unless ``group`` names one; 0 tokens are a turn that nobody may train."""
    said = words(tokens) if tokens else None
    return Turn(role or role_of(seat), seat, {}, Action("x", said), next(_GROUPS) if group is None else group)


def paying(
    *played: tuple[Turn | str, Mapping[str, float]],
    game: str = "g_v0",
    personas: Mapping[str, str] | None = None,
    silent: Sequence[str] = (),
) -> Episode:
    """A game of turns (or seats that have one), each with what was paid after it; ``silent`` seats had no turn."""
    turns = tuple(moved(turn) if isinstance(turn, str) else turn for turn, _ in played)
    roles = {**{seat: role_of(seat) for seat in silent}, **{turn.seat: turn.role for turn in turns}}
    seats = dict.fromkeys(roles, 0.0)
    for _, paid in played:
        for seat, amount in paid.items():
            seats[seat] += amount
    shares: dict[str, list[float]] = {}
    for seat, role in roles.items():
        shares.setdefault(role, []).append(seats[seat])
    returns = {role: sum(share) / len(share) for role, share in shares.items()}
    paid_after = tuple(dict(paid) for _, paid in played)
    return Episode(turns, returns, {}, {}, game=game, seats=seats, personas=personas or {}, paid=paid_after)


def of_seat(credit: Mapping[Turn, float], seat: str) -> list[float]:
    """The advantages of a seat's turns."""
    return [value for turn, value in credit.items() if turn.seat == seat]
