"""Triplets played out: the executor says what comes out, a step of all three tasks, and the embedded model's own."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from agents.buffer import Buffer
from agents.executor import Executor
from agents.scripted import Scripted
from envs import shipped
from models.world import WORDINGS, World, solve, word
from selfplay.gate import Gate
from selfplay.rollout import rollout
from selfplay.table import Table
from selfplay.testing import check_agent
from selfplay.types import Chat, Episode
from tests.triplet_moves import DOUBLE, SECRET_INPUTS, fresh, opening, play, proposal, proposed_inputs, told
from verifiers.literals import Ran, Runner
from verifiers.panel import Panel
from verifiers.random_score import RandomScore
from verifiers.triplets import Triplets, ValidTriplet


@pytest.fixture(scope="module")
def jail() -> Iterator[Runner]:
    made = Runner(workers=1, cpu_s=0.5, memory_mib=128)
    yield made
    made.close()


# -- the executor ------------------------------------------------------------------------------------------------------


def chat(program: str, text: str, kind: str = "input") -> Chat:
    return {"system": "", "user": f"```python\n{program}\n```\n```{kind}\n{text}\n```"}


def test_the_executor_says_what_comes_out(jail: Runner) -> None:
    rows = [
        chat("def f(a, b):\n    return a * b", "6, 7"),
        chat(DOUBLE, "1\n'ab'\n(1,)", "inputs"),
        chat(DOUBLE, "[\n1,\n2]"),
        chat("def f(x):\n    return x / 0", "1"),
        chat("import random\ndef f(x):\n    return 1", "1"),
        {"system": "", "user": "Hello."},
    ]
    executor = Executor(jail)
    said = [action.move for action in executor.act(rows, range(6))]
    assert said == [
        "42", "f(1) == 2\nf('ab') == 'abab'\nf((1,)) == (1, 1)", "[1, 2, 1, 2]", "error: crash", "error: banned",
        "error: no program",
    ]  # fmt: skip
    assert all(action.completion is None for action in executor.act(rows, range(6)))
    assert Executor(jail, max_chars=1).act(rows[:1], [0])[0].move == "error: too long"
    assert executor == Executor(jail), "equal ones share a call"
    check_agent(executor, rows)


def test_a_text_that_never_ends_is_read_at_once() -> None:
    """Beginnings of a second block by the thousand, and no end: matched block by block it took half a minute."""
    started = time.process_time()
    text = "```python\n" + "```python\na\n```\n```input\n1\n" * 500
    assert Executor(Runner(workers=1)).act([{"system": "", "user": text}], [0])[0].move == "error: no program"
    assert time.process_time() - started < 2


def test_the_game_and_the_executor_speak_the_same_language(jail: Runner) -> None:
    """What the game shows is what the executor reads, and what it says fits the game's patterns."""
    executor = Executor(jail)
    for task, move, output in (
        ("deduction", proposal(text="6,\n7"), "42"),
        ("abduction", proposal(), "42"),
        ("induction", proposed_inputs(SECRET_INPUTS), "f(111) == 222\n"),
    ):
        game = play(opening(task), move)
        said = executor.act([game.observe("executor_0")], [0])[0].move
        assert said.startswith(output)
        game.step(said)
        assert game.agent_selection == "solver_0" and not game.case["error"]


# -- all together ------------------------------------------------------------------------------------------------------

PROPOSALS = [proposal(), proposal(text="'ab', 2"), proposal(text="6"), proposal("import os"), "no idea"]


def seats(jail: Runner, **changes: Any) -> dict[str, Any]:
    return {
        "library": Buffer(),
        "challenger": Scripted([*PROPOSALS, proposed_inputs(SECRET_INPUTS)]),
        "executor": Executor(jail),
        "solver": Scripted(["42", "'abab'", "6, 7", "7, 6", "def f(x):\n    return x", "I do not know."]),
        "verifier": Panel(score=Triplets(jail), valid=ValidTriplet(jail)),
        **changes,
    }


def test_a_step_of_all_three_tasks(jail: Runner) -> None:
    table, branch = seats(jail), {"library": 3, "challenger": 12, "solver": 6}
    episodes = rollout([fresh()], table, branch, seed=1)
    judged = [episode for episode in episodes if not episode.forfeit]
    assert {episode.case["task"] for episode in judged} == {"deduction", "abduction", "induction"}
    for task in ("deduction", "abduction", "induction"):
        mine = [episode for episode in judged if episode.case["task"] == task and episode.verdict["valid"]]
        assert {episode.verdict["score"] for episode in mine} == {0.0, 1.0}, task
    for episode in judged:
        if episode.case["error"]:
            assert episode.verdict == {"score": 0.0, "valid": 0.0}
            assert not any(turn.role == "solver" for turn in episode.turns), "nobody answers what is not sound"
        else:
            assert episode.verdict["valid"] == 1.0
    metrics = table["library"].collect(episodes)
    assert metrics["buffer/added"] >= 2 and metrics["buffer/size"] == 1 + metrics["buffer/added"]
    moves = [action.move for action in table["library"].act([{}] * 2, [0, 0])]
    assert "return a * b" in moves[0] and "'abab'" in moves[0] + moves[1], "past triplets are shown"
    assert not any("import os" in move for move in moves)


class Listener:
    """A learner that learns nothing."""

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        return {}


def test_a_triplet_that_the_gate_refused_is_no_example(jail: Runner) -> None:
    """6 * 7 is sound, but nobody solves it, so it lies outside the band; without a gate it is kept."""
    kept: list[list[str]] = []
    for gate in (None, Gate(role="challenger", band="(0, 1)")):
        players = seats(jail, library=Buffer(["deduction"]), solver=Scripted(["'abab'", "I do not know."]))
        panel = players.pop("verifier")
        table = Table([fresh()], players, panel, Listener(), None, None, gate)
        episodes = rollout([table.game], table.agents, {"challenger": 12, "solver": 6}, seed=1)
        metrics = table.learn(episodes)
        kept.append(sorted(one.output for one in players["library"]._kept.values()))
        assert metrics["buffer/added"] == len(kept[-1])
    assert kept == [["'abab'", "42"], ["'abab'"]]


def test_batched_and_solo_play_are_the_same(jail: Runner) -> None:
    branch = {"challenger": 3, "solver": 2}
    library = Scripted([opening("deduction"), opening("abduction")])
    together = rollout([fresh() for _ in range(3)], seats(jail, library=library), branch, seed=5)
    alone = rollout([fresh()], seats(Runner(workers=1), library=library), branch, seed=5)
    first = together[: len(alone)]
    assert [(e.case, e.verdict, e.returns) for e in alone] == [(e.case, e.verdict, e.returns) for e in first]


def test_a_broken_sandbox_teaches_nobody(jail: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Runner(workers=1)
    monkeypatch.setattr(broken, "run", lambda calls, again=False: [Ran(fault="infra")] * len(calls))
    table = seats(jail, library=Scripted([opening("deduction")]), challenger=Scripted([proposal()]))
    (episode,) = rollout([fresh()], {**table, "executor": Executor(broken)})
    assert episode.case["error"] == "infra" and episode.void
    panel = Panel(score=Triplets(broken), valid=ValidTriplet(broken))
    (episode,) = rollout([fresh()], {**table, "verifier": panel})
    assert episode.void and len([turn for turn in episode.turns if turn.role == "solver"]) == 1


def test_the_embedded_models_triplets_are_its_questions(jail: Runner) -> None:
    """Every wording of its world is an input of the calculator, and what is not of its world is not sound."""
    node = OmegaConf.load(shipped.FOLDER / "triplets.yaml")
    given = OmegaConf.to_container(node.library.short)
    assert isinstance(given, dict)
    library = Buffer(**given)
    rng = random.Random(0)
    problems = [World().problem(rng) for _ in range(60)]
    assert {sign for _, sign, _ in problems} == set(WORDINGS)
    asked = {word(problem, rng): solve(problem) for problem in problems}
    for query, right in asked.items():
        game = play(library.act([{}], [0])[0].move, query, wording="short")
        said = Executor(jail).act([game.observe("executor_0")], [0])[0].move
        assert said == str(right), query
        game.step(said)
        assert told(game) == query
    nonsense = ["12 ++ 34 = ?", "What is?", "Solve x + 5 = .", "1 + 2 + 3 = ?", "What is 1 + 2", "'''", "\\", "x"]
    panel = Panel(score=Triplets(jail), valid=ValidTriplet(jail))
    table = seats(jail, library=library, challenger=Scripted(nonsense), verifier=panel)
    for episode in rollout([fresh("short")], table, {"challenger": 20}):
        assert episode.case["error"] and episode.verdict == {"score": 0.0, "valid": 0.0}
    query, right = next(iter(asked.items()))
    table |= {"challenger": Scripted([query]), "solver": Scripted([str(right), str(right + 1)])}
    episodes = rollout([fresh("short")], table, {"solver": 8}, seed=1)
    for episode in episodes:
        assert episode.returns["solver"] == float(episode.case["answer"] == str(right))
        assert episode.returns["challenger"] == 1.0 - episode.returns["solver"]
    assert len({episode.returns["solver"] for episode in episodes}) == 2


def test_noise_survives() -> None:
    panel = Panel(score=RandomScore(), valid=RandomScore(seed=1))
    noise = Scripted(["", "x", opening("abduction"), "error: no", "1\n" * 10, "```", proposal(), "\ud800"])
    table = dict.fromkeys(("library", "challenger", "executor", "solver"), noise) | {"verifier": panel}
    episodes = rollout([fresh() for _ in range(300)], table, seed=2)
    assert {episode.forfeit for episode in episodes} >= {"library", "challenger"}
