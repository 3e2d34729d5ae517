"""What a run is told of a game that does not end, and of a line that nobody can say: one sentence each, once."""

from __future__ import annotations

from typing import Any

from agents.scripted import Scripted
from envs.game import LanguageGame
from envs.script import Line
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action, Episode
from selfplay.warnings import Warnings

TURNS = [
    {"role": "challenger", "says": "query", "told": "Ask."},
    {"role": "solver", "says": r"(?P<answer>\d+)", "told": "{query}"},
]


class Endless(LanguageGame):
    """The solver answers for ever."""

    def next_line(self) -> Line:
        return self.script[min(self.spoken, 1)]


class Judge:
    def act(self, observations: Any, seeds: Any) -> list[Action]:
        return [Action({"score": 1.0})] * len(observations)


def play(game: LanguageGame, answers: list[str], ways: int = 8, seed: int = 0, max_turns: int = 50) -> list[Episode]:
    players = {"challenger": Scripted(["Q"]), "solver": Scripted(answers), VERIFIER: Judge()}
    return rollout([game], players, {"challenger": ways}, seed=seed, max_turns=max_turns)


def make(kind: type[LanguageGame] = LanguageGame) -> LanguageGame:
    return kind(TURNS, {"solver": {"score": 1}}, name="demo_v0")


def test_a_game_that_never_ends() -> None:
    warnings = Warnings(make(Endless), 50)
    said = warnings(play(make(Endless), ["1"]))
    assert said == [
        "warning: 8 of 8 games of demo_v0 were cut after 50 turns (max_turns=50), before they had ended: they pay what "
        "was paid until then. Does the game ever end, as by a next_line that returns None?"
    ]
    assert warnings(play(make(Endless), ["1"], seed=1)) == [], "once is enough"


def test_a_game_that_its_own_rules_cut_is_no_cause_for_alarm() -> None:
    """As stock environments do, after so many cycles."""
    episodes = play(make(), ["7"])
    for episode in episodes:
        episode.truncated = True
    assert Warnings(make(), 50)(episodes) == []


def test_a_pattern_that_never_matches_is_named() -> None:
    warnings = Warnings(make(), 50)
    (said,) = warnings(play(make(), ["seven"]))
    assert said == (
        "warning: every move of solver broke the rules, 8 in a row, and ended its game: no move is what "
        r"says='(?P<answer>\d+)' takes; one of them was 'seven'"
    )
    assert warnings(play(make(), ["seven"], seed=1)) == []


def test_one_legal_move_is_no_cause_for_alarm() -> None:
    warnings = Warnings(make(), 50)
    for seed in range(5):
        assert warnings(play(make(), ["seven", "7"], seed=seed)) == []


def test_small_steps_add_up_and_a_legal_move_ends_the_row() -> None:
    warnings = Warnings(make(), 50)
    for step in range(3):
        assert warnings(play(make(), ["seven"], ways=2, seed=step)) == []
    assert warnings(play(make(), ["7"], ways=2)) == []
    said = [warnings(play(make(), ["seven"], ways=2, seed=step)) for step in range(4)]
    assert said[:3] == [[], [], []] and "8 in a row" in said[3][0]


def test_moves_and_long_answers_are_shown_shortly() -> None:
    game = LanguageGame([{"role": "a", "says": "query", "moves": ["x", "y"]}], {"a": {"score": 1}})
    episodes = rollout([game] * 1, {"a": Scripted(["z" * 500]), VERIFIER: Judge()}, {"a": 9})
    (said,) = Warnings(game, 50)(episodes)
    assert "says='query' moves=['x', 'y'] takes" in said and said.endswith(f"'{'z' * 79}...")


def test_a_stock_game_has_no_script() -> None:
    assert Warnings(object(), 50)([]) == []
    assert "broke the rules, 8 in a row, and ended its game; one" in Warnings(object(), 5)(play(make(), ["no"]))[0]
