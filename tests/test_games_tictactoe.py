"""Tic-tac-toe: who has won which game, what a player is told, and a player that never loses."""

from __future__ import annotations

from copy import deepcopy
from itertools import product
from typing import Any

import pytest

from agents.legal import StateError
from agents.minimax import Minimax
from agents.random_legal import RandomLegal
from agents.scripted import RandomText
from envs import shipped, tictactoe
from envs.script import GameError
from envs.tictactoe import ROWS, TicTacToe, winner
from selfplay.rollout import rollout
from selfplay.testing import check_game
from selfplay.types import Episode


def make(**options: Any) -> TicTacToe:
    game = shipped.raw("tictactoe", **options)
    assert isinstance(game, TicTacToe)
    return game


def after(moves: str, **options: Any) -> TicTacToe:
    """The game once x and o have marked these squares in turn."""
    game = make(**options)
    game.reset(seed=0)
    for number, square in enumerate(moves):
        assert game.agent_selection == ("x_0", "o_0")[number % 2], f"over before the move {number}"
        game.step(square)
    return game


def played(x: Any, o: Any, games: int, seed: int = 3) -> list[Episode]:
    game = make()
    return rollout([deepcopy(game) for _ in range(games)], {"x": x, "o": o}, seed=seed)


@pytest.mark.parametrize("moves", ["14253", "12457", "12539", "1472583", "1247596"])
def test_x_wins(moves: str) -> None:
    """A row, a column, the diagonal; and at the fourth mark of x."""
    game = after(moves)
    assert game.rewards == {"x_0": 1, "o_0": -1} and all(game.terminations.values())


def test_o_wins() -> None:
    game = after("172849")
    assert game.rewards == {"x_0": -1, "o_0": 1} and game.render() == "xx.\nx..\nooo"


def test_a_full_board_is_a_draw() -> None:
    """x o x / x o o / o x x, in an order in which nobody has a row before."""
    game = after("12354687")
    assert not any(game.terminations.values())
    game.step("9")
    assert all(game.terminations.values()) and not any(game.rewards.values())


def test_every_row_wins_and_nothing_else() -> None:
    """Of all 512 sets of squares those with a row of three win, by a second count of the rows."""
    for marks in product("x.", repeat=9):
        grid = [marks[start : start + 3] for start in (0, 3, 6)]
        lines = [*grid, *zip(*grid, strict=True), [grid[n][n] for n in range(3)], [grid[n][2 - n] for n in range(3)]]
        assert (winner("".join(marks)) == "x") == any(set(line) == {"x"} for line in lines)
    assert len(ROWS) == 8


def test_legal_moves_and_state() -> None:
    game = after("51")
    assert game.infos["x_0"] == {"state": "o...x....", "legal_actions": list("2346789")}
    assert game.infos["o_0"] == {"state": "....x...."}


def test_what_is_told() -> None:
    assert after("51", wording="short").observe("x_0")["user"] == "5-1++="
    assert after("512", wording="short").observe("o_0")["user"] == "1-25+8+=", "x threatens to mark 8"
    assert after("5123", wording="short").observe("x_0")["user"] == "25-13++8="
    told = after("51").observe("x_0")["user"]
    assert "O 2 3\n4 X 6\n7 8 9" in told and "You are X. The free squares: 2, 3, 4, 6, 7, 8, 9" in told


@pytest.mark.parametrize("move", ["5", "0", "10", "x", "", "1 2"])
def test_a_square_that_is_taken_or_none_forfeits(move: str) -> None:
    game = after("51")
    game.step(move)
    assert game.rewards == {"x_0": -1.0, "o_0": 0.0} and game.infos["x_0"]["forfeit"]


def test_the_contract() -> None:
    check_game(tictactoe.raw_env, games=20)
    check_game(lambda: tictactoe.raw_env(wording="short"), games=20)


def test_random_text_never_breaks_it() -> None:
    noise = RandomText(4)
    assert all(episode.returns["x"] <= 0 for episode in played(noise, noise, 300) if episode.forfeit == "x")


def test_random_players() -> None:
    """Of games at random x wins 58.5 %, o 28.8 % and 12.7 % are drawn: of 2,000, within four standard errors."""
    results = [episode.returns["x"] for episode in played(RandomLegal(), RandomLegal(), 2000)]
    for result, share in ((1, 0.585), (-1, 0.288), (0, 0.127)):
        assert results.count(result) / 2000 == pytest.approx(share, abs=0.045)
    assert all(episode.returns["x"] == -episode.returns["o"] for episode in played(RandomLegal(), RandomLegal(), 50))


def test_perfect_play_is_a_draw_and_never_loses() -> None:
    assert all(episode.returns["x"] == 0 for episode in played(Minimax(), Minimax(), 100))
    assert all(episode.returns["x"] >= 0 for episode in played(Minimax(), RandomLegal(), 200))
    lost = [episode.returns["o"] for episode in played(RandomLegal(), Minimax(), 200)]
    assert min(lost) == 0 and max(lost) == 1


@pytest.mark.parametrize(
    ("state", "best"),
    [
        ("xx.oo....", "3"),  # win rather than block
        ("xx..o....", "3"),  # block
        ("x...o...x", "2468"),  # a corner would lose to a fork
        (".........", "123456789"),  # whatever x does first, perfect play draws
        ("x........", "5"),  # only the centre holds
    ],
)
def test_all_best_moves_and_no_other(state: str, best: str) -> None:
    legal = [str(place + 1) for place in range(9) if state[place] == "."]
    chances = dict(zip(legal, Minimax().chances(state, len(legal)), strict=True))
    assert {move for move, chance in chances.items() if chance} == set(best)
    info = {"state": state, "legal_actions": legal}
    drawn = {action.move for action in Minimax().choose([{}] * 200, range(200), [info] * 200)}
    assert drawn == set(best), "all of them are played"


def test_a_short_sight_makes_mistakes() -> None:
    assert sum(episode.returns["o"] < 0 for episode in played(Minimax(), Minimax(depth=1), 60)) > 5
    assert Minimax(depth=1) != Minimax()


def test_minimax_elsewhere() -> None:
    with pytest.raises(StateError, match="Minimax plays tictactoe, and no other game"):
        Minimax().choose([{}], [0], [{"state": "Kb", "legal_actions": ["fold", "call"]}])
    with pytest.raises(ValueError, match="depth=0"):
        Minimax(depth=0)


def test_refused() -> None:
    lines = [{"role": role, "says": "move"} for role in ("x", "o")]
    with pytest.raises(GameError, match="the roles x and o, not of x"):
        TicTacToe(lines[:1])
    with pytest.raises(GameError, match="the roles x and o, not of o, x"):
        TicTacToe(lines[::-1])
