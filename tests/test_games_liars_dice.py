"""Liar's dice: which bids are higher, who loses a doubt, who sees which dice, and a player that counts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from agents.counting_bidder import CountingBidder
from agents.legal import StateError
from agents.random_legal import RandomLegal
from agents.scripted import RandomText
from envs import liars_dice, shipped
from envs.liars_dice import LiarsDice
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.testing import check_game
from selfplay.types import Episode

ROLES = ("first", "second", "third", "fourth")


def make(**options: Any) -> LiarsDice:
    game = shipped.raw("liars_dice", **options)
    assert isinstance(game, LiarsDice)
    return game


def thrown(*dice: str, **options: Any) -> LiarsDice:
    """A game in which these dice lie before the players."""
    game = make(players=len(dice), dice=len(dice[0]), **options)
    game.reset(seed=0)
    game.thrown = [[int(face) for face in own] for own in dice]
    return game


def played(players: dict[str, Any], games: int, **options: Any) -> list[Episode]:
    game = make(players=len(players), **options)
    return rollout([deepcopy(game) for _ in range(games)], players, seed=5)


def all_alike(player: Any, players: int = 2) -> dict[str, Any]:
    return dict.fromkeys(ROLES[:players], player)


@pytest.mark.parametrize(
    ("bid", "loser"),
    [("2 of 5", 1), ("3 of 5", 0), ("1 of 6", 0), ("2 of 2", 0), ("1 of 2", 1)],
)
def test_who_loses_a_doubt(bid: str, loser: int) -> None:
    """On the table lie 2, 5 and 5, 4: a bid is true where at least as many are there."""
    game = thrown("25", "45")
    game.step(bid)
    game.step("liar")
    rewards = [1.0, 1.0]
    rewards[loser] = -1.0
    assert list(game.rewards.values()) == rewards and all(game.terminations.values())


def test_among_three_the_others_share() -> None:
    game = thrown("25", "45", "11")
    for move in ("1 of 2", "1 of 5", "2 of 1", "3 of 1", "liar"):
        game.step(move)
    assert game.rewards == {"first_0": -1.0, "second_0": 0.5, "third_0": 0.5}, "the first one bid three of one"


def test_a_bid_is_higher() -> None:
    game = thrown("25", "45", faces=5)
    assert "liar" not in game.infos["first_0"]["legal_actions"] and len(game.infos["first_0"]["legal_actions"]) == 20
    game.step("2 of 4")
    legal = game.infos["second_0"]["legal_actions"]
    assert legal == ["2 of 5", *(f"{count} of {face}" for count in (3, 4) for face in range(1, 6)), "liar"]
    game.step("4 of 5")
    assert game.infos["first_0"]["legal_actions"] == ["liar"]


@pytest.mark.parametrize("move", ["2 of 3", "1 of 6", "5 of 1", "2 of 7", "two of 5", ""])
def test_another_bid_forfeits(move: str) -> None:
    game = thrown("25", "45")
    game.step("2 of 4")
    game.step(move)
    assert game.rewards == {"first_0": 0.0, "second_0": -1.0} and game.infos["second_0"]["forfeit"]


def test_nobody_can_doubt_nothing() -> None:
    game = thrown("25", "45")
    game.step("liar")
    assert game.infos["first_0"]["forfeit"]


def test_until_one_is_left() -> None:
    """The first player bids too much, twice, and the third once; who has no dice is asked no more."""
    game = make(players=3, dice=1, elimination=True)
    game.reset(seed=0)
    game.thrown = [[1], [2], [3]]
    game.step("3 of 1")
    game.step("liar")
    assert not any(game.rewards.values()) and game.left == [0, 1, 1] and game.agent_selection == "second_0"
    assert game.infos["second_0"]["state"].split()[1:] == ["2", "6"] and game.thrown[0] == []
    game.thrown = [[], [2], [3]]
    game.step("1 of 3")
    game.step("liar")
    assert game.rewards == {"first_0": -0.5, "second_0": 1.0, "third_0": -0.5}, "the third doubted what was true"


def test_the_loser_begins_the_next_round() -> None:
    game = thrown("25", "45", elimination=True)
    game.step("1 of 2")
    game.step("liar")
    assert game.left == [2, 1] and game.agent_selection == "second_0"
    assert game.infos["second_0"]["state"][1:] == " 3 6" and "liar" not in game.infos["second_0"]["legal_actions"]
    assert "First 2, Second 1, together 3" in game.observe("second_0")["user"]


@pytest.mark.parametrize("wording", ["full", "short"])
def test_nobody_is_told_the_others_dice(wording: str) -> None:
    """What a seat is told is the same whatever the others have thrown."""
    for elimination in (False, True):
        told: list[Any] = []
        for other in ("66", "13"):
            game = thrown("25", other, "44", wording=wording, elimination=elimination)
            moves = list(game.bids)
            game.step(moves[3])
            game.step(moves[8])
            game.step(moves[10])
            told.append((game.observe("first_0"), game.infos["first_0"]))
        assert told[0] == told[1] and told[0][1]["state"] == "25 6 6 1-4,2-3,2-5"


def test_the_dice_are_fair() -> None:
    game, found = make(), dict[int, int]()
    for seed in range(1500):
        game.reset(seed=seed)
        for face in game.thrown[0] + game.thrown[1]:
            found[face] = found.get(face, 0) + 1
    assert sorted(found) == [1, 2, 3, 4, 5, 6] and all(880 < count < 1120 for count in found.values())


def test_the_contract() -> None:
    check_game(liars_dice.raw_env, games=20)
    check_game(lambda: liars_dice.raw_env(wording="short", players=4, elimination=True), games=20)


@pytest.mark.parametrize("elimination", [False, True])
def test_games_end_and_pay_zero_sum(elimination: bool) -> None:
    for players in (2, 3, 4):
        for episode in played(all_alike(RandomLegal(), players), 60, elimination=elimination):
            assert sum(episode.returns.values()) == pytest.approx(0) and not episode.forfeit
            assert max(episode.returns.values()) > 0


def test_random_text_never_breaks_it() -> None:
    assert all(episode.forfeit for episode in played(all_alike(RandomText(8)), 300))


@pytest.mark.parametrize(
    ("own", "bid", "odds"),
    [
        ("25", (1, 5), 1.0),
        ("25", (2, 5), 11 / 36),  # one five at least among two other dice
        ("25", (3, 5), 1 / 36),
        ("25", (1, 1), 11 / 36),
        ("55", (4, 5), 1 / 36),
        ("22", (3, 5), 0.0),
    ],
)
def test_the_odds_of_a_bid(own: str, bid: tuple[int, int], odds: float) -> None:
    assert CountingBidder.odds(own, 4, 6, bid) == pytest.approx(odds)


def test_the_counter_bids_what_it_has_and_doubts_what_is_unlikely() -> None:
    def says(state: str, legal: list[str]) -> str:
        return CountingBidder().choose([{}], [0], [{"state": state, "legal_actions": legal}])[0].move

    bids = [f"{count} of {face}" for count in range(1, 5) for face in range(1, 7)]
    assert says("25 4 6", bids) == "1 of 2"
    assert says("25 4 6 1-3", [*bids[3:], "liar"]) == "1 of 5"
    assert says("25 4 6 3-3", [*bids[15:], "liar"]) == "liar"
    assert says("55 4 6 2-3", [*bids[9:], "liar"]) == "liar", "two of three: 1 in 36"
    assert says("55 4 6 1-6", [*bids[6:], "liar"]) == "2 of 5", "one six: 11 in 36 is not below 0.3"
    assert CountingBidder(doubts=0.35).chances("55 4 6 1-6", 19)[-1] == 1
    assert says("22 4 6 4-2", [*bids[20:], "liar"]) == "liar"
    assert says("56 4 6 1-5", [*bids[5:], "liar"]) == "1 of 6"


def test_the_counter_beats_chance() -> None:
    for seats in (("first", "second"), ("second", "first")):
        won = played({seats[0]: CountingBidder(), seats[1]: RandomLegal()}, 200)
        assert sum(episode.returns[seats[0]] for episode in won) / 200 > 0.4


def test_the_counter_elsewhere() -> None:
    for state in ("xo.......", "25 4 6 1-3", ""):
        with pytest.raises(StateError, match="CountingBidder plays liars_dice, and no other game"):
            CountingBidder().choose([{}], [0], [{"state": state, "legal_actions": ["1", "2"]}])
    with pytest.raises(ValueError, match=r"doubts=2"):
        CountingBidder(doubts=2)


def test_refused() -> None:
    lines = [{"role": role, "says": "move"} for role in ROLES]
    for options in ({"players": 5}, {"players": 1}, {"dice": 0}, {"faces": 10}):
        with pytest.raises(GameError, match="use 2 to 4, 1 to 6, and 2 to 9"):
            LiarsDice(lines, **options)
    with pytest.raises(GameError, match=r"writes two moves alike: show \{count\} and \{face\}"):
        LiarsDice(lines, bid="{count}")
