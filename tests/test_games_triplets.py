"""Triplets as a game: three scripts by task, who sees what, what forfeits, and what a game of tasks is refused for."""

from __future__ import annotations

import time
from typing import Any

import pytest

from envs import shipped, triplets
from envs.script import GameError
from envs.task_game import TaskGame
from selfplay.testing import check_game
from tests.triplet_moves import DOUBLE, SECRET_INPUTS, opening, play, proposal, proposed_inputs, told

# -- the game ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: shipped.raw("triplets", wording=wording), games=10)
    assert triplets.env().possible_agents == shipped.raw("triplets").possible_agents


def test_deduction_shows_program_and_input() -> None:
    game = play(opening("deduction"))
    assert game.agent_selection == "challenger_0" and "something old" in told(game)
    game.step(proposal())
    assert game.agent_selection == "executor_0"
    game.step("42")
    shown = told(game)
    assert game.agent_selection == "solver_0" and "return a * b" in shown and "6, 7" in shown
    assert "42" not in shown and "A plan" not in shown
    game.step("42")
    case = game.observe("verifier_0")
    assert (case["task"], case["program"], case["input"]) == ("deduction", "def f(a, b):\n    return a * b", "6, 7")
    assert (case["output"], case["error"], case["answer"]) == ("42", "", "42")
    assert case["query"].startswith("```python") and case["query"].endswith("```")


def test_abduction_shows_program_and_output() -> None:
    game = play(opening("abduction"), proposal(), "42")
    shown = told(game)
    assert "return a * b" in shown and "42" in shown and "6, 7" not in shown and "A plan" not in shown


def test_induction_shows_half_of_the_pairs_and_the_message() -> None:
    game = play(opening("induction"))
    assert DOUBLE in told(game)
    game.step(proposed_inputs(SECRET_INPUTS))
    assert game.agent_selection == "executor_0" and all(text in told(game) for text in SECRET_INPUTS)
    game.step("\n".join(f"f({text}) == <{text}>" for text in SECRET_INPUTS))
    shown = told(game)
    assert "It makes twice as much." in shown and DOUBLE not in shown and "return x * 2" not in shown
    for text in SECRET_INPUTS[:5]:
        assert f"f({text}) == <{text}>" in shown
    for text in SECRET_INPUTS[5:]:
        assert text not in shown, "hidden"
    game.step(DOUBLE)
    case = game.observe("verifier_0")
    assert case["hidden"].split() == SECRET_INPUTS[5:] and case["visible"].split() == SECRET_INPUTS[:5]


def test_an_error_ends_the_talk_and_the_verifier_judges() -> None:
    for task, move in (("deduction", proposal()), ("induction", proposed_inputs(SECRET_INPUTS))):
        game = play(opening(task), move, "error: crash")
        assert game.agent_selection == "verifier_0"
        assert game.case["error"] == "crash" and game.case["answer"] == ""
        game.step({"score": 0.0, "valid": 0.0})
        assert set(game.rewards.values()) == {0.0}


def test_the_payoff_is_one_less_the_score_for_a_sound_task() -> None:
    for verdict, challenger, solver in (((1.0, 1.0), 0.0, 1.0), ((0.0, 1.0), 1.0, 0.0), ((0.0, 0.0), 0.0, 0.0)):
        game = play(opening("deduction"), proposal(), "42", "42")
        game.step(dict(zip(("score", "valid"), verdict, strict=True)))
        assert (game.rewards["challenger_0"], game.rewards["solver_0"]) == (challenger, solver)


@pytest.mark.parametrize(
    ("task", "move"),
    [
        ("deduction", "```python\ndef f(x):\n    return x\n```"),
        ("deduction", "```python\ndef f(x):\n    return x\n```\n```input\n \n```"),
        ("deduction", "def f(x): return x\n1"),
        ("deduction", proposal() + "more"),
        ("deduction", proposal("def f(x):\n    return '`'")),
        ("abduction", proposal().replace("```input", "```output")),
        ("induction", proposal()),
        ("induction", proposed_inputs(SECRET_INPUTS[:9])),
        ("induction", proposed_inputs([*SECRET_INPUTS, "1"])),
        ("induction", proposed_inputs([*SECRET_INPUTS[:9], " "])),
        ("induction", proposed_inputs(SECRET_INPUTS).replace("```message", "```")),
    ],
)
def test_a_malformed_proposal_forfeits(task: str, move: str) -> None:
    game = play(opening(task), move)
    assert game.infos["challenger_0"] == {"forfeit": True}
    assert game.rewards["challenger_0"] == -1.0 and game.rewards["solver_0"] == 0.0


@pytest.mark.parametrize("move", ["reduction\n### program\nx\n### examples\n", "deduction", "deduction\n", "x"])
def test_an_opening_that_sets_no_task_forfeits(move: str) -> None:
    assert play(move).infos["library_0"] == {"forfeit": True}


@pytest.mark.parametrize(
    "move",
    [
        "```python\n" * 1_600, "```python\na\n```" * 1_100, "```python\n" + "a" * 16_000,
        "```python\na\n```" + "\n" * 16_000, "```python\na\n```\n```input\n" + " " * 16_000,
        "```inputs\n" + "a\n" * 8_000, "```inputs\n" * 1_600,
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", ["deduction", "induction"])
def test_a_hostile_proposal_is_read_in_no_time(task: str, move: str) -> None:
    game = play(opening(task))
    began = time.process_time()
    game.step(move)
    assert time.process_time() - began < 1.0


TURNS = [{"role": "solver", "says": "answer", "told": "{query}"}]
OPENING = {"role": "library", "says": "(?P<task>a|b)(?P<query>.*)"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": {}}, "at least one task"),
        ({"opening": {"role": "library", "says": "query"}}, "fills no slot 'task'"),
        ({"tasks": {"a": TURNS, "b": [{**TURNS[0], "told": "{answer}"}]}}, r"told {answer} before anyone has said it"),
    ],
)
def test_a_game_of_tasks_is_checked(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"opening": OPENING, "tasks": {"a": TURNS}, "payoff": {"solver": {"score": 1}}}
    with pytest.raises(GameError, match=sentence):
        TaskGame(**{**settings, **changes})


def test_a_task_without_a_script_goes_to_the_verifier() -> None:
    game = TaskGame(OPENING, {"a": TURNS}, {"solver": {"score": 1}})
    game.reset(seed=0)
    game.step("bq")
    assert game.agent_selection == "verifier_0"
