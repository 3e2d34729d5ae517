"""reasoning_gym: questions by the row's seed, sealed entries, and the library's own scorers behind a wall."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.reasoning_gym import HASHED, ReasoningGym
from envs import shipped
from selfplay.testing import check_agent, check_game
from verifiers.reasoning_gym import ReasoningGym as Scorer

TASKS = ["chain_sum", "leg_counting", "countdown", "string_insertion", "sudoku", "simple_integration"]


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    made = Scorer(deadline=60.0)
    yield made
    made.close()


def ask(task: str, seed: int = 7) -> tuple[str, str, str]:
    """The question, the sealed reference and the right answer."""
    [action] = ReasoningGym(task).act([{"system": "", "user": ""}], [seed])
    assert action.completion is None
    query, _, reference = action.move.rpartition("\n#### ")
    return query, reference, json.loads(reference)["entry"]["answer"]


def judge(scorer: Scorer, answer: str, reference: str) -> float:
    return scorer([{"query": "", "answer": answer, "reference": reference}])[0]


def test_questions_come_from_the_rows_seed_alone() -> None:
    random.seed(1)
    before = random.getstate()
    check_agent(ReasoningGym(["chain_sum", "leg_counting", "pool_matrix"]))
    assert random.getstate() == before
    assert ask("chain_sum", 1) == ask("chain_sum", 1) != ask("chain_sum", 2)


def test_several_tasks_are_asked_and_each_has_its_settings() -> None:
    agent = ReasoningGym(["chain_sum", "leg_counting"], {"chain_sum": {"min_terms": 6, "max_terms": 6}})
    sealed = [json.loads(action.move.rpartition("\n#### ")[2]) for action in agent.act([{}] * 20, range(20))]
    assert {row["task"] for row in sealed} == {"chain_sum", "leg_counting"}
    assert {row["entry"]["metadata"]["num_terms"] for row in sealed if row["task"] == "chain_sum"} == {6}


@pytest.mark.parametrize("task", TASKS)
def test_golds_and_misses(scorer: Scorer, task: str) -> None:
    _, reference, answer = ask(task)
    assert judge(scorer, answer, reference) == 1.0
    assert judge(scorer, f"Let me think: 3. <answer>1</answer>\n<answer> {answer} </answer>", reference) == 1.0
    assert judge(scorer, f"<answer>{answer}</answer> <answer>no idea</answer>", reference) < 0.1
    assert judge(scorer, "", reference) == 0.0 and judge(scorer, "banana", reference) < 0.1


@pytest.mark.parametrize("reference", ["", "42", "{}", '{"task": "nix", "options": {}, "entry": {}}'])
def test_without_a_reference_it_cannot_tell(scorer: Scorer, reference: str) -> None:
    assert math.isnan(judge(scorer, "42", reference))


def test_a_scorer_that_breaks_over_an_answer_scores_0_and_is_counted(scorer: Scorer) -> None:
    """That of prime_factorization reads the factors with int()."""
    scorer.metrics()
    _, reference, answer = ask("prime_factorization")
    assert judge(scorer, answer, reference) == 1.0 and judge(scorer, "two", reference) == 0.0
    assert scorer.metrics() == {"timeouts": 0, "worker_deaths": 0, "unread_references": 0, "broken_scorers": 1}


def test_answers_that_are_evaluated_can_do_no_harm(scorer: Scorer, tmp_path: Path) -> None:
    """string_insertion's scorer evaluates the answer as Python, countdown's by way of sympy."""
    victim = tmp_path / "kept"
    victim.write_text("kept")
    for task in ("string_insertion", "countdown"):
        _, reference, answer = ask(task)
        for attack in (
            f"__import__('os').system('rm {victim}')",
            f"__import__('os').remove('{victim}')",
            f"open('{victim}', 'w').write('lost')",
            f"open('{tmp_path / 'new'}', 'x')",
            "__import__('socket').socket().connect(('127.0.0.1', 9))",
            "__import__('os').fork()",
            "__import__('os').kill(__import__('os').getppid(), 9)",
            "__import__('os')._exit(0)",
        ):
            assert not judge(scorer, attack, reference) > 0.1
        assert judge(scorer, answer, reference) == 1.0  # the worker lives
    assert victim.read_text() == "kept" and list(tmp_path.iterdir()) == [victim]


def test_what_hangs_is_ended() -> None:
    slow = Scorer(deadline=5.0)
    _, reference, _ = ask("string_insertion")
    judge(slow, "warm", reference)
    slow.metrics()
    assert math.isnan(judge(slow, "9**9**9**9", reference)) and slow.metrics()["timeouts"] == 1
    slow.close()


@pytest.mark.parametrize(
    ("task", "options", "sentence"),
    [
        ("chain_sums", None, r"no task 'chain_sums' \(did you mean 'chain_sum'\?\)"),
        ([], None, "at least one task"),
        ("arc_agi", None, "needs more of an entry than JSON holds"),
        ("chain_sum", {"leg_counting": {}}, "options.leg_counting is for a task that is not asked"),
        ("chain_sum", {"chain_sum": {"min_term": 2}}, r"options.chain_sum.min_term .*\(did you mean 'min_terms'\?\)"),
        ("chain_sum", {"chain_sum": {"min_terms": 9, "max_terms": 2}}, "cannot deal chain_sum"),
    ],
)
def test_bad_input_is_one_sentence(task: Any, options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ReasoningGym(task, options)


@pytest.mark.parametrize("task", HASHED)
def test_tasks_that_change_with_every_start_say_so(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(ValueError, match=f"deals {task} by Python's string hashes.*PYTHONHASHSEED=0"):
        ReasoningGym(task)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert ReasoningGym(task).tasks == (task,)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"verifier=reasoning_gym .*\[reasoning_gym\]"):
        Scorer()


def test_the_shipped_game_keeps_the_contract() -> None:
    """By its configuration, as main.py builds it; the name tells the tasks."""

    def make() -> Any:
        return shipped.raw("reasoning_gym", task=["chain_sum", "leg_counting"])

    check_game(make, games=5)
    assert make().metadata["name"] == "reasoning_gym/chain_sum+leg_counting"
