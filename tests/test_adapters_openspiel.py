"""OpenSpiel's games as they are: its states and moves as texts, its chance by the seed, its returns as rewards."""

from __future__ import annotations

from typing import Any

import pytest

from envs.openspiel import OpenSpiel
from envs.script import GameError
from selfplay.testing import check_game
from tests.strangers import assert_a_copy_goes_its_own_way, random_games, told

GAMES = [
    "kuhn_poker",
    "leduc_poker",
    "liars_dice(numdice=2)",
    "tic_tac_toe",
    "goofspiel",
    "backgammon",
    "hearts",
    "hanabi",
]


@pytest.mark.parametrize("name", ["kuhn_poker(players=3)", "matrix_pd", "backgammon"])
def test_games_keep_the_contract(name: str) -> None:
    check_game(lambda: OpenSpiel(name), games=5)


@pytest.mark.parametrize("name", GAMES)
def test_a_seed_is_a_game_and_copies_share_nothing(name: str) -> None:
    first = told(random_games(OpenSpiel(name), 3, seed=5))
    assert told(random_games(OpenSpiel(name), 3, seed=5)) == first
    assert told(random_games(OpenSpiel(name), 3, seed=6)) != first
    assert_a_copy_goes_its_own_way(OpenSpiel(name), 4, 2)


@pytest.mark.parametrize("name", GAMES)
def test_legal_moves_never_forfeit_and_pay_what_the_library_pays(name: str) -> None:
    """Kuhn poker, Leduc, liar's dice, tic-tac-toe and goofspiel are zero-sum games."""
    for episode in random_games(OpenSpiel(name), 10, max_turns=2_000):
        assert not episode.forfeit and not episode.truncated
        if name.split("(")[0] in ("kuhn_poker", "leduc_poker", "liars_dice", "tic_tac_toe", "goofspiel"):
            assert sum(episode.returns.values()) == pytest.approx(0.0) and set(episode.returns) == {
                "player_0",
                "player_1",
            }


def test_kuhn_poker_by_hand() -> None:
    """Pass, bet, pass: the first player folds and loses its ante, 1, whatever the cards."""
    game = OpenSpiel("kuhn_poker", told="{game}|{player}|{state}|{moves}")
    game.reset(seed=0)
    cards: dict[str, str] = {}
    for seat, move in (("player_0", "Pass"), ("player_1", "I think that I should [bet]"), ("player_0", " pass\n")):
        assert game.agent_selection == seat and game.infos[seat]["legal_actions"] == ["Pass", "Bet"]
        title, player, state, moves = game.observe(seat)["user"].split("|")
        assert (title, player, moves) == ("Kuhn Poker", seat[-1], "Pass, Bet") and state == game.infos[seat]["state"]
        assert cards.setdefault(seat, state[0]) == state[0]
        game.step(move)
    assert game.rewards == {"player_0": -1.0, "player_1": 1.0} and all(game.terminations.values())
    assert cards["player_0"] != cards["player_1"]


def test_a_seat_is_not_told_the_others_cards_or_moves_of_the_same_time() -> None:
    game = OpenSpiel("matrix_pd")
    game.reset(seed=0)
    game.step("Defect")
    assert game.agent_selection == "player_1" and "Defect" not in game.observe("player_1")["user"]
    assert "state" not in game.infos["player_0"] and "legal_actions" not in game.infos["player_0"]
    assert game.observe("player_0")["user"] == ""


@pytest.mark.parametrize("move", ["", "fold", "Pass or Bet", "[Pass] no, [Fold]", "x" * 20_000])
def test_what_is_no_move_forfeits(move: str) -> None:
    game = OpenSpiel("kuhn_poker", forfeit=-3.0)
    game.reset(seed=0)
    game.step(move)
    assert game.rewards == {"player_0": -3.0, "player_1": 0.0} and game.infos["player_0"]["forfeit"]
    assert all(game.terminations.values())


def test_what_is_shown_can_be_chosen() -> None:
    shown: dict[str, str] = {}
    for way in ("auto", "observation", "information_state", "board"):
        game = OpenSpiel("tic_tac_toe", shows=way)  # type: ignore[arg-type]
        game.reset(seed=0)
        game.step("x(1,1)")
        shown[way] = game.observe("player_1")["user"]
    assert shown["auto"] == shown["observation"] == "...\n.x.\n..."
    assert shown["information_state"] == "4"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"game": "kuhn_pokr"}, r"no game 'kuhn_pokr' \(did you mean 'kuhn_poker'\?\)"),
        ({"game": "kuhn_poker(player=3)"}, "cannot load .*player"),
        ({"game": "mfg_garnet"}, "mean-field"),
        ({"game": "negotiation"}, "no seed could bring a game back"),
        ({"game": "kuhn_poker", "shows": "observations"}, "did you mean 'observation'"),
        ({"game": "kuhn_poker", "shows": "board"}, "cannot show a player the board"),
        ({"game": "kuhn_poker", "told": "{stat}"}, r"env.told shows \{stat\} \(did you mean 'state'\?\)"),
        ({"game": "kuhn_poker", "told": "{state"}, "env.told is a broken template"),
    ],
)
def test_bad_input_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        OpenSpiel(**options)
