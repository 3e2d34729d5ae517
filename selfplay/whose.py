"""Whose turns belong together: those of a role, of a seat, or of a persona in a role, within one game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from selfplay.compose import did_you_mean
from selfplay.credit import CreditError
from selfplay.playing import role_of
from selfplay.types import Episode, Turn

BY = ("role", "seat", "persona")

Whose = tuple[str, str]
"""A game, and one of its roles, seats, or personas (as ``role/name``: what a persona earns hangs on its role)."""


def check_by(by: str) -> str:
    """``by``, one of ``BY``. Raises ``ValueError``."""
    if by not in BY:
        raise ValueError(f"by={by!r} is unknown{did_you_mean(by, BY)}: use {', '.join(BY)}")
    return by


def whose(episode: Episode, role: str, seat: str, by: str) -> Whose:
    """Whose a turn of that role and seat is. A seat without a persona counts by its role. Raises ``CreditError`` where
    the game has no personas at all."""
    if by == "persona" and not episode.personas:
        raise CreditError(
            f"by=persona, and nobody in {episode.game or 'this game'} has a persona: seat some, as personas=<set>, or "
            "use by=role"
        )
    name = {"role": role, "seat": seat}.get(by) or role + (f"/{found}" if (found := episode.personas.get(seat)) else "")
    return episode.game, name


def seated(episode: Episode) -> dict[str, dict[str, list[Turn]]]:
    """Role -> seat -> its turns, of all roles that earn something.

    Who had no turn sits there with none; a role that nobody is known to sit in has the seat ``""``.
    """
    seats: dict[str, dict[str, list[Turn]]] = {role: {} for role in episode.returns}
    for turn in episode.turns:
        if turn.role in seats:
            seats[turn.role].setdefault(turn.seat, []).append(turn)
    spoke = {seat for members in seats.values() for seat in members}
    for seat in episode.seats:
        role = episode.roles.get(seat) or role_of(seat)
        if seat not in spoke and role in seats:
            seats[role][seat] = []
    for members in seats.values():
        if not members:
            members[""] = []
    return seats


def seat_returns(episode: Episode) -> Mapping[str, float]:
    """What every seat earned; every role, where nobody counted by the seat."""
    return episode.seats or episode.returns


def mean(values: Sequence[float]) -> float:
    """The mean, and exactly the value where all are equal."""
    return values[0] if max(values) == min(values) else fmean(values)
