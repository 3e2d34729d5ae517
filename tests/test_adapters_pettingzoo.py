"""Stock PettingZoo environments in words: masks as legal moves, arrays as text, copies that really are copies."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pettingzoo
import pytest

from envs.rendering import Arrays
from envs.script import GameError
from envs.stock import PettingZoo
from selfplay.rollout import rollout
from selfplay.testing import check_game
from tests.strangers import PLAYER, assert_a_copy_goes_its_own_way, random_games, told

GAMES = ["connect_four_v3", "tictactoe_v3", "rps_v2", "leduc_holdem_v4", "texas_holdem_v4", "hanabi_v5"]


class Board:
    """Two planes as one board, and columns by letters."""

    def __call__(self, env: Any, seat: str, observation: Any) -> str:
        signs = np.where(observation[..., 0], "x", np.where(observation[..., 1], "o", "."))
        return "\n".join("".join(row) for row in signs)

    def moves(self, env: Any, seat: str) -> Sequence[str]:
        return "abcdefg"


@pytest.mark.parametrize("name", ["connect_four_v3", "rps_v2", "leduc_holdem_v4"])
def test_games_keep_the_contract(name: str) -> None:
    check_game(lambda: PettingZoo(f"classic/{name}"), games=5)


@pytest.mark.parametrize("name", GAMES)
def test_a_seed_is_a_game_and_copies_share_nothing(name: str) -> None:
    game = PettingZoo(f"classic/{name}")
    first = told(random_games(game, 3, seed=5))
    assert told(random_games(game, 3, seed=5)) == first != told(random_games(game, 3, seed=6))
    for turns in (0, 2):
        assert_a_copy_goes_its_own_way(game, 4, turns)


@pytest.mark.parametrize("name", GAMES)
def test_legal_moves_never_forfeit(name: str) -> None:
    assert not any(episode.forfeit for episode in random_games(PettingZoo(f"classic/{name}"), 5))


def test_it_plays_what_the_stock_environment_plays() -> None:
    """The same moves in the bare environment: the same seats, masks and rewards."""
    game, bare = PettingZoo("classic/connect_four_v3"), pettingzoo.make("aec", "classic/connect_four-v3")
    game.reset(seed=1)
    bare.reset(seed=1)
    paid: dict[str, float] = dict.fromkeys(game.possible_agents, 0.0)
    while not game.terminations[game.agent_selection]:
        seat = game.agent_selection
        mask = bare.observe(bare.agent_selection)["action_mask"]
        assert seat == bare.agent_selection
        assert game.infos[seat]["legal_actions"] == [str(move) for move in np.flatnonzero(mask)]
        move = game.infos[seat]["legal_actions"][-1]
        game.step(move)
        bare.step(int(move))
        assert game.rewards == bare.rewards
        paid = {name: paid[name] + reward for name, reward in game.rewards.items()}
    assert sorted(paid.values()) == [-1.0, 1.0] and all(bare.terminations.values())


def test_a_renderer_tells_the_board_and_names_the_moves() -> None:
    game = PettingZoo("classic/connect_four_v3", renderer=Board(), told="{player} of {game}\n{state}\n{moves}")
    game.reset(seed=0)
    game.step("I take [D].")
    seat, *rows, moves = game.observe(game.agent_selection)["user"].split("\n")
    assert seat == "player_1 of connect_four_v3" and moves == "a, b, c, d, e, f, g"
    assert rows == ["......."] * 5 + ["...o..."]


def test_a_game_cut_by_its_own_limit_is_truncated() -> None:
    """rps_v2 ends by truncation after max_cycles rounds."""
    game = PettingZoo("classic/rps_v2", options={"max_cycles": 3})
    [episode] = rollout([game], dict.fromkeys(game.possible_agents, PLAYER))
    assert episode.truncated and len(episode.turns) == 6 and not episode.forfeit


@pytest.mark.parametrize("move", ["", "7", "seven", "[0] or [9]"])
def test_what_is_no_move_forfeits(move: str) -> None:
    game = PettingZoo("classic/connect_four_v3")
    game.reset(seed=0)
    game.step(move)
    assert game.rewards == {"player_0": -1.0, "player_1": 0.0} and game.infos["player_0"]["forfeit"]


def test_arrays_as_text() -> None:
    """Scalars, vectors, a matrix, a stack of planes of which the empty one is left out, and mappings of these."""
    tell = Arrays()
    assert tell(None, "a", np.int64(3)) == "3" and tell(None, "a", np.array([0.5, 2.0])) == "0.5 2"
    assert tell(None, "a", np.eye(2, dtype=bool)) == "1 0\n0 1"
    planes = np.zeros((1, 2, 3), dtype=np.int8)
    assert tell(None, "a", planes) == "1 x 2 x 3, all 0"
    planes[0, 1, 2] = 1
    assert tell(None, "a", planes) == "plane 2: 0 1"
    assert tell(None, "a", {"me": np.array([1]), "board": np.eye(2, dtype=int)}) == "me: 1\nboard:\n1 0\n0 1"
    with pytest.raises(GameError, match=r"30000 numbers, 100 x 100 x 3, is a picture .* env.renderer"):
        tell(None, "a", np.zeros((100, 100, 3), dtype=np.uint8))


def test_a_module_of_ones_own_is_found_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_zoo_game")
    module.env = lambda: pettingzoo.make("aec", "classic/tictactoe-v3")  # type: ignore[attr-defined]
    module.__spec__ = copy.copy(types.__spec__)
    monkeypatch.setitem(sys.modules, "my_zoo_game", module)
    assert PettingZoo("my_zoo_game").possible_agents == ["player_1", "player_2"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"id": "classic/conect_four_v3"}, r"\(did you mean 'classic/connect_four_v3'\?\), nor a module"),
        ({"id": "json"}, r"json is a module without env\(\)"),
        ({"id": "sparring/lsp_v0"}, "only numbered ones"),
        ({"id": "classic/rps_v2", "options": {"cycles": 3}}, "env.options do not suit classic/rps_v2: .*cycles"),
        ({"id": "classic/rps_v2", "renderer": Board()}, "env.renderer names 7 moves of player_0, who has 3"),
        ({"id": "classic/rps_v2", "told": "{seat}"}, r"env.told shows \{seat\} \(did you mean 'state'\?\)"),
        ({"id": "classic/rps_v2", "personas": {"player_5": "x"}}, "no such seat"),
    ],
)
def test_bad_input_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        PettingZoo(**options)
