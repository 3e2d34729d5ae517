"""The iterated prisoner's dilemma: what every round pays, who is told what and when, and tit for tat."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from agents.legal import StateError
from agents.random_legal import RandomLegal
from agents.scripted import RandomText, Scripted
from agents.tit_for_tat import TitForTat
from envs import prisoners_dilemma, shipped
from envs.prisoners_dilemma import PrisonersDilemma
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.testing import check_game
from selfplay.types import Episode

WORDS = {"c": "cooperate", "d": "defect"}
DEFECTOR, COOPERATOR = Scripted(["defect"]), Scripted(["cooperate"])


def make(**options: Any) -> PrisonersDilemma:
    game = shipped.raw("prisoners_dilemma", **options)
    assert isinstance(game, PrisonersDilemma)
    return game


def begun(**options: Any) -> PrisonersDilemma:
    game = make(**options)
    game.reset(seed=0)
    return game


def played(first: Any, second: Any, games: int = 1, **options: Any) -> list[Episode]:
    game = make(**options)
    return rollout([deepcopy(game) for _ in range(games)], {"first": first, "second": second}, seed=5)


@pytest.mark.parametrize(("chose", "paid"), [("cc", (3, 3)), ("cd", (0, 5)), ("dc", (5, 0)), ("dd", (1, 1))])
def test_a_round_pays(chose: str, paid: tuple[float, float]) -> None:
    game = begun(rounds=1, talk=False)
    for move in chose:
        game.step(WORDS[move])
    assert tuple(game.rewards.values()) == paid and all(game.terminations.values())


def test_every_round_is_paid_when_it_is_played() -> None:
    """Three rounds without talk: nothing after the first choice of a round, all after the second."""
    (episode,) = played(TitForTat(), DEFECTOR, rounds=3, talk=False)
    assert [turn.seat for turn in episode.turns] == ["first_0", "second_0"] * 3
    assert episode.paid == ({}, {"second_0": 5.0}, *({}, {"first_0": 1.0, "second_0": 1.0}) * 2)
    assert episode.returns == {"first": 2.0, "second": 7.0}


def test_other_numbers_are_another_game() -> None:
    game = begun(rounds=1, talk=False, reward=4, temptation=3.5, sucker=-1, punishment=2)
    game.step("cooperate")
    game.step("defect")
    assert game.rewards == {"first_0": -1.0, "second_0": 3.5}


def test_talk_and_choices_are_made_at_once() -> None:
    game = begun(rounds=2)
    assert game.waiting == ("first_0", "second_0") and "legal_actions" not in game.infos["first_0"]
    before = game.observe("second_0")
    game.step("I shall cooperate.")
    assert game.observe("second_0") == before, "what is said at once is not heard before"
    game.step("So shall I.")
    for seat in game.waiting:
        assert game.infos[seat]["legal_actions"] == ["cooperate", "defect"]
        assert "First: I shall cooperate.\nSecond: So shall I." in game.observe(seat)["user"]
    before = game.observe("second_0"), dict(game.infos["second_0"])
    game.step("defect")
    assert (game.observe("second_0"), game.infos["second_0"]) == before, "a choice is secret until both are made"
    game.step("cooperate")
    told = game.observe("second_0")["user"]
    assert "First: defect\nSecond: cooperate" in told and "round 2" in told and "First 5, Second 0" in told
    assert game.infos["first_0"]["state"] == "dc" and game.infos["second_0"]["state"] == "cd"


def test_the_secret_is_in_no_prompt() -> None:
    """Whatever the first one chooses, the second is told the same until both have chosen."""
    told: list[Any] = []
    for choice in ("cooperate", "defect"):
        game = begun(wording="short", talk=False)
        game.step("d" if choice == "defect" else "c")
        told.append((game.observe("second_0"), game.infos["second_0"]))
    assert told[0] == told[1]


@pytest.mark.parametrize("move", ["", "maybe", "cooperate, then defect"])
def test_another_choice_forfeits(move: str) -> None:
    game = begun(talk=False)
    game.step("cooperate")
    game.step(move)
    assert game.rewards == {"first_0": 0.0, "second_0": -1.0} and all(game.terminations.values())


def test_the_contract() -> None:
    check_game(prisoners_dilemma.raw_env, games=20)
    check_game(lambda: prisoners_dilemma.raw_env(wording="short", talk=False), games=20)


def test_random_text_never_breaks_it() -> None:
    noise = RandomText(20)
    for talk in (True, False):
        assert any(episode.forfeit for episode in played(noise, noise, 150, talk=talk))


def test_random_choices() -> None:
    for episode in played(RandomLegal(), RandomLegal(), 100):
        assert len(episode.turns) == 20 and not episode.forfeit
        assert 10 <= sum(episode.returns.values()) <= 30


def test_tit_for_tat() -> None:
    """Five rounds: it loses the first to a defector and no more, and earns 3 each with itself or a cooperator."""
    (episode,) = played(TitForTat(), TitForTat())
    assert episode.returns == {"first": 15.0, "second": 15.0}
    assert episode.turns[0].action.move == "I do as you did to me."
    (episode,) = played(DEFECTOR, TitForTat(), talk=False)
    assert episode.returns == {"first": 5 + 4 * 1, "second": 4}
    (episode,) = played(COOPERATOR, TitForTat(), talk=False)
    assert episode.returns == {"first": 15, "second": 15}


def test_forgiveness() -> None:
    episodes = played(DEFECTOR, TitForTat(forgiveness=0.5), 200, talk=False)
    kind = [turn.action.move == "cooperate" for e in episodes for turn in e.turns[3::2]]
    assert sum(kind) / len(kind) == pytest.approx(0.5, abs=0.07)


def test_tit_for_tat_elsewhere() -> None:
    with pytest.raises(StateError, match="TitForTat plays prisoners_dilemma, and no other game"):
        TitForTat().choose([{}], [0], [{"state": "Kb", "legal_actions": ["fold", "call"]}])
    for options in ({"forgiveness": 2}, {"word": " "}):
        with pytest.raises(ValueError, match="TitForTat needs a chance"):
            TitForTat(**options)


def test_refused() -> None:
    talk = [{"role": role, "says": f"{role}_word"} for role in ("first", "second")]
    choice = [{**line, "says": f"{line['role']}_choice", "moves": ["c", "d"]} for line in talk]
    lines = [talk[0], {**talk[1], "at_once": True}, choice[0], {**choice[1], "at_once": True}]
    PrisonersDilemma(lines)
    with pytest.raises(GameError, match="four turns: the talk of two roles at once"):
        PrisonersDilemma([*lines[:3], choice[1]])
    with pytest.raises(GameError, match=r"turns\[3\]\.moves are two words"):
        PrisonersDilemma([*lines[:3], {**lines[3], "moves": ["c"]}])
    with pytest.raises(GameError, match="rounds=0"):
        PrisonersDilemma(lines, rounds=0)
