"""Roles that are dealt: who hears what is said to them, and what they may be told."""

from __future__ import annotations

import pytest

from envs.game import LanguageGame
from envs.script import GameError


class Dealt(LanguageGame):
    """Three players, of whom the last is dealt the spy; a judge is told what was whispered."""

    dealt_roles = ("spy", "guard")

    def begin(self, seed: int | None) -> None:
        for number in range(3):
            self.deal(f"player_{number}", "spy" if number == 2 else "guard")


WHISPERED = [
    {"role": "player_0", "says": "secret", "told": "Whisper.", "to": ["guard"]},
    {"role": "player_1", "says": "plan", "told": "{transcript}", "to": ["player"]},
    {"role": "player_2", "says": "answer", "told": "{transcript}"},
]


def test_a_role_that_is_dealt_hears_what_is_said_to_it_and_to_its_seat_s_role() -> None:
    game = Dealt(WHISPERED, {"player": {"score": 1}})
    game.reset(seed=0)
    game.step("seven")
    assert game.observe("player_1")["user"] == "Player 1: seven", "a guard"
    game.step("eight")
    assert game.observe("player_2")["user"] == "Player 2: eight", "a player, and no guard"


def test_what_a_dealt_role_may_see_holds_for_whom_it_is_dealt_to() -> None:
    turns = [*WHISPERED[:2], {"role": "player_2", "says": "answer", "told": "{secret}"}]
    for role in ("player_2", "player"):
        with pytest.raises(GameError, match=r"is told \{secret\}, which sees\.player\w* keeps from it"):
            Dealt(turns, {"player": {"score": 1}}, sees={role: ["plan"]})
    kept = Dealt(turns, {"player": {"score": 1}}, sees={"spy": ["plan"]})
    kept.reset(seed=0)
    kept.step("seven")
    with pytest.raises(GameError, match=r"spy is told \{secret\}, which sees\.spy keeps from it"):
        kept.step("eight")
    told = Dealt(turns, {"player": {"score": 1}}, sees={"guard": []})
    told.reset(seed=0)
    told.step("seven")
    told.step("eight")
    assert told.observe("player_2")["user"] == "seven", "who is told it is no guard"
