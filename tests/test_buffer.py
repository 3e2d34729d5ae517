"""The buffer of past triplets: tasks in turn, sound ones kept once, seeded draws, and an exact resume."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agents.buffer import TASKS, Buffer
from envs import shipped
from selfplay.types import Episode, Stateful

CHAT = {"system": "", "user": ""}


def finished(number: int, task: str = "deduction", valid: float = 1.0, **slots: str) -> Episode:
    case = {
        "query": "", "answer": "", "reference": "", "task": task, "program": f"def f(x):\n    return x + {number}",
        "input": "1", "output": str(1 + number), **slots,
    }  # fmt: skip
    return Episode((), {}, case, {"score": 1.0, "valid": valid}, game="triplets_v0")


def draw(buffer: Buffer, count: int) -> list[str]:
    actions = buffer.act([CHAT] * count, list(range(count)))
    assert all(action.completion is None for action in actions)
    return [action.move for action in actions]


def shown(move: str) -> set[int]:
    return {int(found) for found in re.findall(r"return x \+ (\d+)", move.split("### examples")[1])}


def test_it_begins_with_the_identity_function_and_sets_the_tasks_in_turn() -> None:
    moves = draw(Buffer(), 7)
    assert [move.split("\n")[0] for move in moves] == [*TASKS, *TASKS, TASKS[0]]
    assert all("def f(x):\n    return x\n" in move and "'Hello World'" in move for move in moves)


def test_what_it_says_is_what_the_game_hears() -> None:
    game = shipped.raw("triplets")
    for move in draw(Buffer(), 3):
        game.reset(seed=0)
        game.step(move)
        assert game.agent_selection == "challenger_0" and game.case["program"] == "def f(x):\n    return x"
        assert game.case["examples"].startswith("Example 1\n```python\ndef f(x):")


def test_sound_triplets_are_kept_once() -> None:
    buffer = Buffer()
    lesson = [
        finished(1),
        finished(1),
        finished(2, valid=0.0),
        finished(3, valid=float("nan")),
        finished(4, "abduction"),
    ]
    lesson += [finished(5, "induction", input=""), finished(6, output=""), Episode((), {}, {}, {}, "challenger")]
    lesson += [finished(7, program="x" * 9_000), finished(8, program="def f(x):\n    return x", input="'Hello World'")]
    assert buffer.collect(lesson) == {"buffer/added": 2.0, "buffer/size": 3.0}
    assert buffer.collect(lesson) == {"buffer/added": 0.0, "buffer/size": 3.0} and len(buffer) == 3
    deduction, abduction, induction = draw(buffer, 3)
    assert shown(deduction) == {1} and shown(abduction) == {4}, "each task has its own, and the seed"
    assert shown(induction) == set(), "none was made for induction but the seed, which is for any"


def test_six_are_shown_and_the_oldest_goes_first() -> None:
    buffer = Buffer(tasks=["deduction"], capacity=10)
    buffer.collect([finished(number) for number in range(14)])
    assert len(buffer) == 11
    moves = draw(buffer, 40)
    assert all(move.count("Example") == 6 for move in moves)
    assert set.union(*map(shown, moves)) == set(range(4, 14)), "the first four are gone"
    assert len({move.split("### examples")[0] for move in moves}) > 4, "programs are drawn, too"
    assert any("'Hello World'" in move for move in moves), "the seed stays"


def test_a_move_stays_short() -> None:
    buffer = Buffer(tasks=["deduction"], max_chars=1_000)
    buffer.collect(
        [finished(number, program=f"def f(x):\n    return x + {number}\n" + "# a\n" * 60) for number in range(9)]
    )
    assert len(buffer) == 10
    for move in draw(buffer, 20):
        assert len(move) <= 1_000 and 1 <= move.count("Example") < 6


def test_draws_depend_on_the_seed_and_what_was_kept_alone() -> None:
    def moves(seed: int) -> list[str]:
        buffer = Buffer(examples=2, seed=seed)
        buffer.collect([finished(number) for number in range(20)])
        return draw(buffer, 12)

    assert moves(1) == moves(1) != moves(2)
    buffer = Buffer()
    assert buffer.act([CHAT] * 2, [1, 2]) == Buffer().act([CHAT] * 2, [3, 3]), "the rows' seeds are not used"
    assert buffer != Buffer(), "each keeps its own triplets"


@pytest.mark.parametrize("before", [0, 1, 5])
def test_resume_continues_exactly(before: int, tmp_path: Path) -> None:
    def lesson(step: int) -> list[Episode]:
        return [finished(10 * step + n, TASKS[n % 2]) for n in range(4)]

    buffer = Buffer(capacity=12, seed=3)
    assert isinstance(buffer, Stateful)
    for step in range(before):
        draw(buffer, 3)
        buffer.collect(lesson(step))
    buffer.save(tmp_path)
    first = (tmp_path / "buffer.json").read_bytes()
    resumed = Buffer(capacity=12, seed=3)
    resumed.collect([finished(99)])  # whatever the fresh object did before must not matter
    draw(resumed, 2)
    resumed.load(tmp_path)
    for step in range(before, before + 4):
        assert draw(resumed, 3) == draw(buffer, 3)
        assert resumed.collect(lesson(step)) == buffer.collect(lesson(step))
    resumed.load(tmp_path)
    resumed.save(tmp_path)
    assert (tmp_path / "buffer.json").read_bytes() == first and json.loads(first)


@pytest.mark.parametrize("changes", [{"examples": 5}, {"seed": 1}, {"tasks": ["deduction"]}, {"capacity": 9}])
def test_another_buffers_state_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    Buffer().save(tmp_path)
    with pytest.raises(ValueError, match="changed since the checkpoint"):
        Buffer(**changes).load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": ["deducton"]}, r"tasks names 'deducton' \(did you mean deduction\?\)"),
        ({"seeds": [{"task": "abductoin", "program": "x", "input": "1", "output": "1"}]}, r"seeds\[0\]\.task names"),
        ({"examples": -1}, "examples is -1; it must be at least 0"),
        ({"capacity": 0}, "capacity is 0; it must be at least 1"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [{"program": "x", "input": "1"}]}, r"seeds\[0\] needs the key 'output'"),
        ({"seeds": [{"programs": "x"}]}, r"unknown key 'programs'; did you mean 'program'\?"),
        ({"max_chars": 10}, "max_chars is 10, too few"),
    ],
)
def test_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Buffer(**settings)
