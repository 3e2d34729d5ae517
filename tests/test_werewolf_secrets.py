"""Werewolf: no seat is told what is kept from it, neither in its prompts nor in its infos, whoever sits there."""

from __future__ import annotations

import re

from agents.random_legal import RandomLegal
from selfplay.rollout import rollout
from selfplay.table import copies
from tests.villages import SEATS, make, name, night, who


def test_no_seat_is_told_what_is_kept_from_it() -> None:
    """Every row of every prompt in 60 games of legal moves is one that the seat may know."""
    players = {"wolf": RandomLegal(), "seer": RandomLegal(), "villager": RandomLegal()}
    looked = 0
    for episode in rollout(copies(make(), 60), players, seed=4):
        roles = {turn.seat: turn.role for turn in episode.turns}
        for turn in episode.turns:
            rows = turn.observation["user"].partition("What you know so far:\n")[2].partition("\n\n")[0].split("\n")
            assert rows and turn.observation["system"] == ""
            for row in rows:
                looked += row.startswith("You have looked at")
                assert may_know(row, turn.seat, turn.role, roles), (row, turn.seat, turn.role)
    assert looked > 50


def may_know(row: str, seat: str, role: str, roles: dict[str, str]) -> bool:
    if row.startswith(("The night is over.", "The votes are counted.")):
        return True
    if row.startswith("You are "):
        return row.startswith(f"You are {name(seat)},") and ("werewol" in row) == (role == "wolf")
    if row.startswith("You have looked at "):
        return role == "seer"
    speaker, _, said = row.partition(": ")
    if not re.fullmatch(r"Player \d", said):
        return bool(re.fullmatch(r"Player \d", speaker))  # talk by day
    by = next(other for other in SEATS if name(other) == speaker)
    return by == seat or (role == "wolf" and roles[by] == "wolf")


def test_infos_tell_a_seat_of_itself_alone() -> None:
    game = make()
    night(game, who(game, "villager")[0], who(game, "wolf")[0])
    for seat in who(game, "villager"):
        assert game.infos[seat] == {"role": "villager", "state": "villager"}
    assert all(name(wolf) not in str(game.infos[seat]) for wolf in who(game, "wolf") for seat in who(game, "villager"))


def test_personas_are_called_by_their_names() -> None:
    members = [{"name": f"N{n}", "system": f"You are N{n}.", "knows": f"secret {n}"} for n in range(8)]
    game = make(personas={"seating": "drawn", "members": members})
    wolf, victim = who(game, "wolf")[0], who(game, "villager")[0]
    called = {seat: str(game.infos[seat]["persona"]) for seat in SEATS}
    assert game.infos[wolf]["legal_actions"] == [called[seat] for seat in SEATS if game.dealt[seat] != "wolf"]
    for seat in SEATS:
        assert game.observe(seat)["system"] == f"You are {called[seat]}.\n\nsecret {called[seat][1:]}"
        assert "secret" not in game.heard.by(seat, game.dealt[seat])
    game.step(f"I say {called[victim]}.")
    assert game.case[f"victim_{wolf[-1]}"] == called[victim]
