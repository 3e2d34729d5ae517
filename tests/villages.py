"""What the tests of werewolf share: games by seed, who is who, and nights and days that go as they are told."""

from __future__ import annotations

from typing import Any

from envs import shipped
from envs.werewolf import Werewolf

SEATS = [f"player_{n}" for n in range(7)]


def make(seed: int = 0, **options: Any) -> Werewolf:
    game = shipped.raw("werewolf", **options)
    assert isinstance(game, Werewolf)
    game.reset(seed=seed)
    return game


def who(game: Werewolf, role: str) -> list[str]:
    return [seat for seat in game.living if game.role_in(seat) == role]


def name(seat: str) -> str:
    return f"Player {int(seat[-1]) + 1}"


def night(game: Werewolf, victim: str, look: str) -> None:
    """The wolves name one victim; the seer, if it lives, looks at one seat."""
    for _ in who(game, "wolf"):
        game.step(name(victim))
    for _ in who(game, "seer"):
        game.step(name(look))


def talk(game: Werewolf, words: str = "Good morning.") -> None:
    for _ in tuple(game.living):
        game.step(words)


def vote(game: Werewolf, *against: str) -> None:
    """The living vote in the order of their seats."""
    assert len(against) == len(game.living) == len(game.waiting)
    for seat in against:
        game.step(name(seat))


def all_against(game: Werewolf, seat: str) -> list[str]:
    """Everybody votes for one seat, which votes for another."""
    other = next(other for other in game.living if other != seat)
    return [other if voter == seat else seat for voter in game.living]
