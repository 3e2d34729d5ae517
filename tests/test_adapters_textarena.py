"""textarena's games as they are: one seed is one game, nobody else's random numbers move, and nothing is asked of a
network."""

from __future__ import annotations

import random
import socket
from typing import Any

import numpy as np
import pytest

import envs.adapters
from envs.script import GameError
from envs.textarena import TextArena
from selfplay.rollout import rollout
from selfplay.testing import check_game
from tests.strangers import PLAYER, assert_a_copy_goes_its_own_way, random_games, told

GAMES = [
    ("KuhnPoker-v0", 2), ("TicTacToe-v0-train", 2), ("LiarsDice-v0-raw", 2), ("Blackjack-v0", 1), ("Taboo-v0", 4),
    ("PigDice-v0-short", 2), ("Sokoban-v0", 1), ("SecretMafia-v0", 6),
]  # fmt: skip


@pytest.mark.parametrize(("name", "players"), [("KuhnPoker-v0", 2), ("ThreePlayerTicTacToe-v0", 3)])
def test_games_keep_the_contract(name: str, players: int) -> None:
    check_game(lambda: TextArena(name, players), games=10)


@pytest.mark.parametrize(("name", "players"), GAMES)
def test_a_seed_is_a_game_in_any_order_and_company(name: str, players: int) -> None:
    """Twice alone, then among others and after other numbers were drawn from the process's own generators."""
    first = told(random_games(TextArena(name, players), 3, seed=5))
    other = TextArena("Poker-v0", 3)
    other.reset(seed=1)
    random.random()
    np.random.random()
    assert told(random_games(TextArena(name, players), 3, seed=5)) == first
    assert told(random_games(TextArena(name, players), 3, seed=6)) != first


@pytest.mark.parametrize(("name", "players"), GAMES)
def test_copies_share_nothing(name: str, players: int) -> None:
    for turns in (0, 3):
        assert_a_copy_goes_its_own_way(TextArena(name, players), 4, turns)


def test_nobody_elses_numbers_move() -> None:
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    random_games(TextArena("Poker-v0", 3), 2)
    assert (random.random(), np.random.random()) == expected


def test_who_speaks_sees_the_game_and_the_others_their_persona() -> None:
    game = TextArena("KuhnPoker-v0", personas={"player_0": "You are bold."})
    game.reset(seed=2)
    seat = game.agent_selection
    other = next(name for name in game.possible_agents if name != seat)
    assert "Kuhn Poker" in game.observe(seat)["user"] and game.observe(other)["user"] == ""
    assert game.observe("player_0")["system"] == "You are bold." and game.observe("player_1")["system"] == ""
    assert game.infos[seat]["role"] == seat and game.metadata["name"] == "textarena/KuhnPoker-v0"
    assert game.parts == () and game.roles == ("player_0", "player_1")


def test_an_invalid_move_costs_what_the_game_says() -> None:
    """KuhnPoker warns once and then gives the game to the other."""
    game = TextArena("KuhnPoker-v0")
    game.reset(seed=2)
    seat = game.agent_selection
    game.step("I would rather not")
    assert game.agent_selection == seat and not any(game.terminations.values()) and "forfeit" not in game.infos[seat]
    game.step("")
    assert all(game.terminations.values()) and game.infos[seat]["forfeit"]
    assert game.rewards[seat] == -1.0 and sum(game.rewards.values()) == 0.0


def test_a_move_that_breaks_the_library_forfeits() -> None:
    """ThreeCardMonte-v0 of 0.7.4 gives a sentence in the place of a reward for an index that is out of range."""
    game = TextArena("ThreeCardMonte-v0", 1, forfeit=-2.0)
    game.reset(seed=0)
    while not game.terminations["player_0"]:
        game.step("[77]")
    assert game.rewards == {"player_0": -2.0} and game.infos["player_0"]["forfeit"]


def test_a_game_that_looks_for_its_next_player_for_ever_is_ended() -> None:
    """The states of 0.7.4 do, once everybody is out by invalid moves: without a guard this test does not end."""
    game = TextArena("PublicGoodsGame-v0")
    game.reset(seed=0)
    game.inner.game.state.elimination_order = [0, 1]
    seat = game.agent_selection
    game.step("hello")
    assert game.rewards[seat] == -1.0 and game.infos[seat]["forfeit"] and "next player" in game.infos[seat]["broke"]


def test_a_long_move_forfeits() -> None:
    game = TextArena("KuhnPoker-v0", max_chars=5)
    game.reset(seed=2)
    seat = game.agent_selection
    game.step("[check]")
    assert game.rewards[seat] == -1.0 and game.infos[seat]["forfeit"]


def test_nothing_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name, sentence in (("Debate-v0", "env.judge"), ("TwentyQuestions-v0", "env.judge")):
        with pytest.raises(GameError, match=sentence):
            TextArena(name, 2 if name == "Debate-v0" else 1)
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(GameError, match=r"wants nltk's 'words'.*python -m nltk.downloader words"):
        TextArena("Wordle-v0", 1)


def test_a_judge_answers_in_a_hosted_models_place() -> None:
    asked: list[str] = []

    def judge(prompt: str) -> str:
        asked.append(prompt)
        return "Affirmative" if "zebra" in prompt else "Negative"

    game = TextArena("Debate-v0", judge=judge)
    game.reset(seed=1)
    while not any(game.terminations.values()):
        game.step("Think of the zebra.")
    assert len(asked) > 1 and sorted(game.rewards.values()) == [-1.0, 1.0]


def test_games_that_do_not_end_are_cut() -> None:
    episodes = rollout([TextArena("PigDice-v0")], dict.fromkeys(("player_0", "player_1"), PLAYER), max_turns=5)
    assert episodes[0].truncated and len(episodes[0].turns) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"game": "KunPoker-v0"}, r"no game 'KunPoker-v0' \(did you mean 'KuhnPoker-v0'\?\)"),
        ({"game": "KuhnPoker-v0", "players": 5}, "5 players .*, only: 2"),
        ({"game": "KuhnPoker-v0", "players": 0}, "env.players=0"),
        ({"game": "KuhnPoker-v0", "options": {"rounds": 3}}, "cannot begin: .*rounds"),
        ({"game": "KuhnPoker-v0", "personas": {"player_2": "x"}}, "personas.player_2: .* no such seat"),
    ],
)
def test_bad_input_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        TextArena(**options)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(envs.adapters, "import_module", missing)
    with pytest.raises(GameError, match=r"env=textarena needs the package textarena: pip install .*\[textarena\]"):
        TextArena("KuhnPoker-v0")
