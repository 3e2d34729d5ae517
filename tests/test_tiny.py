"""The embedded model: its world and the game agree, it is small, it loads in plain transformers, it knows noisily."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from models import world
from models.loading import TINY, load
from models.pretrain import Recipe, exam, lessons
from selfplay.evaluate import Exam
from verifiers.selfjudge import ONE_NUMBER
from verifiers.sympy_solver import SympySolver

ROOT = Path(__file__).resolve().parent.parent


def test_the_game_says_what_the_model_was_taught() -> None:
    game = yaml.safe_load((ROOT / "conf/env/lsp.yaml").read_text(encoding="utf-8"))
    assert game["prompts"]["short"]["challenger"] == world.ASK
    assert ONE_NUMBER == world.JUDGE


def test_the_folder_is_small_and_belongs_to_the_recipe() -> None:
    assert sum(file.stat().st_size for file in TINY.iterdir()) <= 5 * 2**20
    rows = [json.loads(line) for line in (TINY / "exam.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == exam(Recipe())
    rows = [json.loads(line) for line in (TINY / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == lessons(Recipe())


def test_lessons_never_touch_the_exam() -> None:
    questions = Exam(TINY / "exam.jsonl")
    assert not any(questions.poses(row["prompt"]) for row in lessons(Recipe()))
    assert all(questions.poses(query) for query in questions.queries)


def test_the_solver_reads_the_whole_world() -> None:
    """Every exam question is solved from its words alone, as its reference says; a neighbour is wrong."""
    rows = [json.loads(line) for line in (TINY / "exam.jsonl").read_text(encoding="utf-8").splitlines()]
    solver = SympySolver()
    right = [{"query": row["query"], "answer": row["reference"], "reference": ""} for row in rows]
    wrong = [{**case, "answer": str(int(case["answer"]) + 1)} for case in right]
    assert solver(right) == [1.0] * len(rows)
    assert solver(wrong) == [0.0] * len(rows)


@pytest.mark.slow
def test_noisy_knowledge() -> None:
    """Samples are right less than 40 % of the time, the best guess far more often: a gap for self-play to close."""
    from agents.llm import LLM

    engine = load("tiny", dtype="float32", device="cpu")
    questions, solver = Exam(TINY / "exam.jsonl"), SympySolver()
    sampled = questions.sit(LLM(engine, max_tokens=24), solver, seed=0, samples=2)
    guessed = questions.sit(LLM(engine, temperature=0.0, max_tokens=24), solver, seed=0)
    assert 0.25 <= sampled.mean <= 0.40
    assert guessed.mean >= sampled.mean + 0.3
