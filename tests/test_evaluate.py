"""The held-out exam: how it is read, sat and kept out of training; intervals and AUC against plain computations."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scripted import Scripted
from models import world
from selfplay import evaluate
from selfplay.evaluate import Exam, ExamError, auc, interval
from selfplay.types import Action, Episode, Turn

ROWS = [
    {"query": "12 + 34 = ?", "reference": "46", "marks": ["12+34"]},
    {"query": "Solve x + 5 = 12.", "reference": "7", "marks": ["x+5=12"]},
    {"query": "Name a colour.", "reference": "blue"},
]


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "exam.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def exam(tmp_path: Path) -> Exam:
    return Exam(write(tmp_path, ROWS))


# -- reading -----------------------------------------------------------------------------------------------------------


def test_reading(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    assert len(Exam(path)) == 3 and len(Exam(path, limit=2)) == 2
    assert Exam(str(path)).queries[0] == "12 + 34 = ?"
    path.write_text("\n\n" + path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert Exam(path).references == ["46", "7", "blue"], "blank lines are nothing"


def test_a_line_ends_at_a_newline_only(tmp_path: Path) -> None:
    """JSON allows U+2028 and U+0085 inside a string as they are."""
    odd = "one\u2028two\u0085three"
    assert Exam(write(tmp_path, [{"query": odd, "reference": "x"}])).queries == [odd]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no questions"),
        ('{"query": "a", "reference": "b"}\n{"query": ', "line 2: not JSON"),
        ('{"query": "a"}', "line 1: needs a text 'reference'"),
        ('{"query": "", "reference": "b"}', "line 1: needs a text 'query'"),
        ('{"query": 3, "reference": "b"}', "line 1: needs a text 'query'"),
        ("[1, 2]", "line 1: needs a text 'query'"),
        ('{"query": " ", "reference": "b"}', "line 1: needs a text 'query'"),
        ('{"query": "a", "reference": "b", "marks": "12+34"}', r"line 1: 'marks' is a list of texts .*, as \["),
        ('{"query": "a", "reference": "b", "marks": ""}', "line 1: 'marks' is a list of texts"),
        ('{"query": "a", "reference": "b", "marks": [12]}', "line 1: 'marks' is a list of texts"),
        ('{"query": "a", "reference": "b", "marks": ["12+34", " "]}', "line 1: 'marks' is a list of texts"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ExamError, match=sentence) as caught:
        Exam(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("marks", [None, []])
def test_without_marks_it_is_the_query(tmp_path: Path, marks: Any) -> None:
    exam = Exam(write(tmp_path, [{"query": "12 + 34 = ?", "reference": "46", "marks": marks}]))
    assert exam.poses("so 12+34=?") and not exam.poses("1")


@pytest.mark.parametrize("limit", [0, -1])
def test_an_exam_has_questions(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ExamError, match=f"^exam.limit={limit} must be at least 1, or null for all questions$"):
        Exam(write(tmp_path, ROWS), limit=limit)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExamError, match=r"exam.path='.*nowhere.jsonl' is not a file"):
        Exam(tmp_path / "nowhere.jsonl")


# -- sitting -----------------------------------------------------------------------------------------------------------


def test_answers_stand_together(exam: Exam) -> None:
    cases = exam.answers(Scripted(["46"]), seed=1, samples=2)
    assert [case["query"] for case in cases] == [row["query"] for row in ROWS for _ in range(2)]
    assert [case["reference"] for case in cases] == ["46", "46", "7", "7", "blue", "blue"]
    assert {case["answer"] for case in cases} == {"46"}


def test_the_question_is_put_as_told_and_seeds_differ(tmp_path: Path) -> None:
    told: list[str] = []

    class Notes:
        def act(self, observations: Any, seeds: Any) -> list[Action]:
            told.extend(chat["user"] for chat in observations)
            return [Action(str(seed)) for seed in seeds]

    cases = Exam(write(tmp_path, ROWS), told="Q: {query} A:").answers(Notes(), seed=1, samples=3)
    assert told[0] == "Q: 12 + 34 = ? A:"
    assert len({case["answer"] for case in cases}) == 9


def test_accuracy(exam: Exam) -> None:
    """One question of three right; a question that cannot be judged counts as wrong: (1 + 0 + 0) / 3."""

    def mark(cases: Any) -> list[float]:
        return [float(c["answer"] == c["reference"]) if c["reference"] != "blue" else math.nan for c in cases]

    accuracy = exam.sit(Scripted(["46"]), mark, seed=1, samples=4)
    assert accuracy.mean == pytest.approx(1 / 3)
    assert 0 == accuracy.low < accuracy.mean < accuracy.high <= 1
    assert exam.sit(Scripted(["46"]), mark, seed=1, samples=4) == accuracy


# -- keeping out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "12 + 34 = ?",
        "12+34",
        "What is 12 plus 34?",
        "Tell me: 12 + 34.",
        "I wonder. 12 + 34?",
        "12\n+\n34",
        "SOLVE X + 5 = 12!",
        "Solve x + 5 = 12.",
        "name a  COLOUR.",
        "3. 12 + 34 = ?",
        "First say 9, then 12 + 34, then stop.",
    ],
)
def test_what_poses_a_held_out_question(exam: Exam, text: str) -> None:
    assert exam.poses(text)


@pytest.mark.parametrize(
    "text", ["112 + 34", "12 + 345", "12 + 3", "34 + 12", "x + 5 = 120", "x + 15 = 12", "Name a coloured thing.", ""]
)
def test_what_does_not(exam: Exam, text: str) -> None:
    assert not exam.poses(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_every_wording_of_a_problem_is_found_by_its_mark(seed: int) -> None:
    problem = world.World().problem(random.Random(seed), exam=True)
    a, sign, b = problem
    with TemporaryDirectory() as folder:
        exam = Exam(write(Path(folder), [{"query": "?", "reference": "?", "marks": [world.mark(problem)]}]))
    for wording in world.WORDINGS[sign]:
        for frame in ("{}", "Hello. {}", "{} Thanks.", "3. {}"):
            assert exam.poses(frame.format(wording.format(a=a, b=b))), (problem, wording, frame)


def test_episodes_that_touch_the_exam_are_kept_out(exam: Exam) -> None:
    def asked(query: str, judged: bool = True) -> Episode:
        turn = Turn("challenger", "challenger_0", {}, Action(query), 0)
        case = {"query": query, "answer": "", "reference": ""} if judged else {}
        return Episode((turn,), {"challenger": 0.0}, case, {})

    good, bad, forfeited = asked("1 + 1 = ?"), asked("12 plus 34?"), asked("12 plus 34?", judged=False)
    assert exam.keep_out([good, bad, forfeited, good]) == ([good, good], 0.5)
    assert exam.keep_out([]) == ([], 0.0)
    assert exam.keep_out([Episode((), {}, {}, {})])[1] == 0.0


def test_both_squeezes_agree() -> None:
    """The world's marks are compared by the exam, which may not import the world."""
    for text in ("  12 PLUS\t34 ", "x - 5 = 12", "minus times plus", "é\n"):
        assert evaluate.squeeze(text) == world.squeeze(text)


# -- statistics --------------------------------------------------------------------------------------------------------


def test_the_interval_covers() -> None:
    """Of 100 samples of 40 coin tosses about 95 intervals hold 0.5; fewer than 87 would be a wrong interval."""
    rng = random.Random(0)
    held = 0
    for seed in range(100):
        found = interval([float(rng.random() < 0.5) for _ in range(40)], seed)
        assert found.low <= found.mean <= found.high
        held += found.low <= 0.5 <= found.high
    assert 87 <= held < 100


def test_the_interval_of_a_constant_is_a_point() -> None:
    assert interval([1.0] * 20, 0) == evaluate.Accuracy(1.0, 1.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_share_of_ordered_pairs(pairs: list[tuple[int, bool]]) -> None:
    scores, right = [float(score) for score, _ in pairs], [truth for _, truth in pairs]
    above = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, yes in zip(scores, right, strict=True)
        if yes
        for n, no in zip(scores, right, strict=True)
        if not no
    ]
    found = auc([*scores, math.nan, math.nan], [*right, True, False])
    assert found == pytest.approx(sum(above) / len(above)) if above else math.isnan(found)
