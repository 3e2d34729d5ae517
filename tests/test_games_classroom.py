"""The classroom: who is told what, whose answer is judged, what all earn together, and what is refused."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agents.plurality import Plurality
from agents.scripted import RandomText, Scripted
from envs import classroom, shipped
from envs.classroom import Classroom
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.table import copies
from selfplay.testing import check_game
from selfplay.types import VERIFIER
from tests.test_house import ROOT
from verifiers.panel import Panel
from verifiers.random_score import RandomScore
from verifiers.sympy_solver import SympySolver


def make(seed: int = 0, **options: Any) -> Classroom:
    game = shipped.raw("classroom", **options)
    assert isinstance(game, Classroom)
    game.reset(seed=seed)
    return game


@cache
def made(students: int, marked: str) -> Classroom:
    return make(students=students, marked=marked)


def judged(seed: int, *answers: str, **options: Any) -> str:
    """The answer that the verifier sees."""
    game = copy.deepcopy(made(len(answers), options.get("marked", "drawn")))
    game.reset(seed=seed)
    for move in ("12 + 5 = ?", "Add the ones first.", *answers):
        game.step(move)
    assert game.agent_selection == "verifier_0"
    return game.observe("verifier_0")["answer"]


def test_the_teacher_explains_and_all_students_answer_at_once() -> None:
    game = make()
    game.step("12 + 5 = ?")
    assert game.waiting == ("teacher_0",) and "12 + 5 = ?" in game.observe("teacher_0")["user"]
    game.step("Add the ones first.")
    assert game.waiting == ("student_0", "student_1", "student_2")
    told = {seat: game.observe(seat)["user"] for seat in game.waiting}
    assert len(set(told.values())) == 1 and "12 + 5 = ?" in told["student_0"] and "Add the ones" in told["student_0"]
    game.step("17")
    assert "17" not in game.observe("student_1")["user"]


def test_a_sealed_reference_reaches_the_verifier_alone() -> None:
    turns = [
        {"role": "examiner", "says": r"(?P<query>.*)#(?P<reference>.*)"},
        {"role": "teacher", "says": "lesson", "told": "{query}"},
        {"role": "student", "says": "written", "told": "{query} {lesson}"},
    ]
    game = Classroom(turns, {"teacher": {"score": 1.0}}, students=2)
    game.reset(seed=0)
    for move in ("12 + 5#seventeen", "Add."):
        assert "seventeen" not in str([game.observe(seat) for seat in game.possible_agents[:-1]])
        game.step(move)
    assert "seventeen" not in str([game.observe(seat) for seat in game.possible_agents[:-1]])
    assert game.case["reference"] == "seventeen"
    with pytest.raises(GameError, match=r"teacher is told \{query\}, which sees.teacher keeps from it"):
        Classroom(turns, {"teacher": {"score": 1.0}}, sees={"teacher": []})


def test_the_seed_draws_whose_answer_is_judged() -> None:
    drawn = [judged(seed, "a", "b", "c") for seed in range(300)]
    assert drawn == [judged(seed, "a", "b", "c") for seed in range(300)]
    counts = [drawn.count(answer) for answer in "abc"]
    assert sum(counts) == 300 and all(70 < count < 130 for count in counts), "each student one time in three"


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        (("16", "17", "17"), "17"),
        (("Red", "blue", "red"), "Red"),
        (("1", "2", "3"), "1"),
        (("1", "2", "2", "1"), "1"),
        (("x",), "x"),
    ],
)
def test_what_most_of_them_say(answers: tuple[str, ...], most: str) -> None:
    assert judged(0, *answers, marked="majority") == most


def test_all_are_paid_by_the_one_answer() -> None:
    """Two of three students are right; the one who is drawn decides for all."""
    players: dict[str, Any] = {
        "examiner": Scripted(["12 + 5 = ?"]),
        "teacher": Scripted(["Add."]),
        "student": Scripted(["17"]),
        "student_1": Scripted(["18"]),
        VERIFIER: Panel(score=SympySolver()),
    }
    games = rollout(copies(make(), 60), players, seed=2)
    for episode in games:
        score = float(episode.case["answer"] == "17")
        assert episode.verdict == {"score": score}
        assert episode.returns == {"examiner": 0.0, "teacher": score, "student": score}
    assert 25 < sum(episode.verdict["score"] for episode in games) < 55


def test_siblings_of_a_lesson_are_judged_by_the_same_student() -> None:
    players: dict[str, Any] = {f"student_{n}": Scripted([str(n)]) for n in range(3)}
    players |= {"examiner": Scripted(["1 + 1 = ?"]), "teacher": Scripted(["a", "b", "c", "d"])}
    players[VERIFIER] = Panel(score=SympySolver())
    for seed in range(5):
        games = rollout([make()], players, {"teacher": 8}, seed=seed)
        assert len({episode.case["answer"] for episode in games}) == 1 < len({e.case["lesson"] for e in games})


def test_students_who_repeat_the_teacher_are_as_good_as_the_teacher() -> None:
    turns = [
        {"role": "examiner", "says": "query", "told": "Ask."},
        {"role": "teacher", "says": "lesson", "told": "{transcript}"},
        {"role": "student", "says": "written", "told": "{transcript}"},
    ]
    players: dict[str, Any] = {"examiner": Scripted(["2 + 2 = ?"]), "teacher": Scripted(["4"]), "student": Plurality()}
    players[VERIFIER] = Panel(score=SympySolver())
    (episode,) = rollout([Classroom(turns, {"student": {"score": 1.0}})], players)
    assert episode.returns["student"] == 1.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: classroom.raw_env(wording=wording), games=20)
    check_game(lambda: classroom.env(students=1, marked="majority", wording=wording), games=5)


def test_noise_never_breaks_it() -> None:
    game = make()
    players: dict[str, Any] = {**dict.fromkeys(game.roles, RandomText(60)), VERIFIER: Panel(score=RandomScore(0))}
    ended = rollout(copies(make(), 200), players, seed=3)
    assert {episode.forfeit for episode in ended} == {"", "examiner", "teacher", "student"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"students": 0}, "students=0: a classroom has 1 to 16"),
        ({"students": 17}, "students=17: a classroom has 1 to 16"),
        ({"marked": "majorty"}, r"marked='majorty' is unknown \(did you mean 'majority'\?\): use drawn or majority"),
        ({"turns": [{"role": "a", "says": "query"}]}, "a classroom has three turns"),
        ({"payoff": {"pupil": {"score": 1}}}, "payoff names 'pupil', who never speaks"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(**changes)


@pytest.mark.parametrize("says", ["answer", "(?P<x>.*)"])
def test_a_student_fills_a_slot_of_its_own(says: str) -> None:
    turns = [{"role": "a", "says": "query"}, {"role": "b", "says": "lesson"}, {"role": "c", "says": says}]
    with pytest.raises(GameError, match=r"turns\[2\].says=.*a student fills one slot, which is not the one"):
        Classroom(turns, {"c": {"score": 1}})


def test_the_embedded_model_learns_in_it(tmp_path: Path) -> None:
    words = ["env=classroom", "steps=2", "branch.examiner=4", "exam.limit=4", "exam.final_samples=1"]
    words += ["learner.credit=rae_ema", "runtime.threads=1", "runtime.tensorboard=false"]
    command = [sys.executable, "main.py", *words, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = (tmp_path / "run" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    episodes = [json.loads(line) for line in lines]
    assert any(episode["verdict"] for episode in episodes)
    assert {turn["role"] for episode in episodes for turn in episode["turns"]} >= {"examiner", "teacher", "student"}
