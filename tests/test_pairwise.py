"""Two answers against each other: orders, opponents, ties, and a judge that prefers a place."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import load
from selfplay.testing import check_verifier
from selfplay.types import Case
from tests.clerk import Clerk, case
from tests.helpers import shared_engine
from tests.test_selfjudge import ASKED, GOLDS, NEAR_MISSES
from verifiers.pairwise import Pairwise, read_winner


def sides(prompt: str) -> tuple[str, str]:
    """What a judge's prompt holds in its frames ``first`` and ``second``."""
    first, second = (re.search(rf"<{name} \w+>\n(.*)\n</{name} ", prompt, re.DOTALL) for name in ("first", "second"))
    assert first and second
    return first[1], second[1]


def longest(prompt: str, seed: int) -> str:
    """A judge that likes length, wherever it stands."""
    first, second = map(len, sides(prompt))
    return f"<winner>{'tie' if first == second else 'first' if first > second else 'second'}</winner>"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Because. <winner>first</winner>", 1.0),
        ("<WINNER> Second </WINNER>", 0.0),
        ("<winner>tie</winner>", 0.5),
        ("<winner>both</winner>", None),
        ("first", None),
        ("<winner>first</winner><winner>first</winner>", None),
        ("<winner>first</winner> or <winner>?</winner>", None),
        ("", None),
    ],
)
def test_what_is_read(text: str, result: float | None) -> None:
    assert read_winner(text) == result


def test_everybody_meets_everybody() -> None:
    """Of lengths 1, 2, 3 and 3: the first loses three times, the second wins once of three, the equals win two and
    tie with each other: 0, 1/3, (1 + 1 + 0.5) / 3."""
    clerk = Clerk(longest)
    judge = Pairwise(clerk)
    assert judge([case("q", text) for text in ("a", "bb", "ccc", "ddd")]) == [0.0, 1 / 3, 2.5 / 3, 2.5 / 3]
    assert len(clerk.prompts) == 12, "six pairs in two orders, each asked once for both"
    counted = judge.metrics()
    assert (counted["matches"], counted["ties"], counted["position_bias"]) == (12.0, 2 / 12, 0.0)


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_judge_that_prefers_a_place_decides_nothing(place: str) -> None:
    judge = Pairwise(Clerk(f"<winner>{place}</winner>"))
    assert judge([case("q", "a"), case("q", "b")]) == [0.5, 0.5]
    assert judge.metrics()["position_bias"] == 1.0


def test_a_tie_in_one_order_is_no_win() -> None:
    clerk = Clerk(lambda prompt, seed: f"<winner>{'first' if sides(prompt)[0] == 'a' else 'tie'}</winner>")
    judge = Pairwise(clerk)
    assert judge([case("q", "a"), case("q", "b")]) == [0.5, 0.5]
    counted = judge.metrics()
    assert (counted["ties"], counted["position_bias"], counted["undecided"]) == (1.0, 0.0, 0.0)


def test_one_readable_order_decides_nothing() -> None:
    """c's matches cannot be read in one order: a and b still have each other, c has nobody."""
    clerk = Clerk(lambda prompt, seed: "?" if sides(prompt)[0] == "c" else longest(prompt, seed))
    judge = Pairwise(clerk)
    a, b, c = judge([case("q", "a"), case("q", "bb"), case("q", "c")])
    assert (a, b) == (0.0, 1.0) and math.isnan(c)
    assert judge.metrics()["undecided"] == 4 / 6
    assert math.isnan(Pairwise(Clerk("?"))([case("q", "a"), case("q", "b")])[0])
    assert math.isnan(Pairwise(Clerk(longest, room=100))([case("q", "a"), case("q", "b")])[0]), "too long to be asked"


def test_without_an_opponent_there_is_no_score() -> None:
    judge = Pairwise(Clerk(longest))
    assert all(math.isnan(score) for score in judge([case("q", "a"), case("p", "bb")]))
    assert judge.metrics() == {
        "rejected": 0.0, "alone": 2.0, "matches": 0.0, "ties": 0.0, "undecided": 0.0, "position_bias": 0.0,
    }  # fmt: skip


def test_equal_texts_tie_and_openers_lose_without_a_call() -> None:
    clerk = Clerk(longest)
    judge = Pairwise(clerk)
    assert judge([case("q", "a"), case("q", "a"), case("q", "Solution:"), case("q", "")]) == [
        2.5 / 3,
        2.5 / 3,
        0.0,
        0.0,
    ]
    assert clerk.prompts == [] and judge.metrics()["rejected"] == 2.0


def test_against_a_slot() -> None:
    cases: list[Case] = [
        {**case("q", "long one"), "baseline": "short"},
        {**case("q", "x"), "baseline": "short"},
        {**case("q", "x"), "baseline": ":"},
        {**case("q", "x"), "baseline": "x"},
        {**case("q", "x"), "baseline": ""},
        case("q", "x"),
    ]
    judge = Pairwise(Clerk(longest), against="baseline")
    *known, blank, absent = judge(cases)
    assert known == [1.0, 0.0, 1.0, 0.5] and math.isnan(blank) and math.isnan(absent)
    assert Pairwise(Clerk(longest), against="reference")([case("q", "a", "bb")]) == [0.0]


@given(
    st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "eeeee", ":"]), max_size=9), st.randoms(use_true_random=False)
)
def test_the_order_of_the_batch_is_no_matter(answers: list[str], rng: object) -> None:
    cases = [case("q", answer) for answer in answers]
    judge = Pairwise(Clerk(longest), opponents=2)
    scores = {answer: repr(score) for answer, score in zip(answers, judge(cases), strict=True)}
    rng.shuffle(cases)  # type: ignore[attr-defined]
    assert {c["answer"]: repr(score) for c, score in zip(cases, judge(cases), strict=True)} == scores


def test_opponents_are_bounded_and_drawn_by_the_seed() -> None:
    cases = [case("q", "a" * (number + 1)) for number in range(12)]
    judge = Pairwise(Clerk(longest), opponents=2)
    first = judge(cases)
    assert judge.metrics()["matches"] == 24
    assert first == Pairwise(Clerk(longest), opponents=2)(cases) != Pairwise(Clerk(longest), opponents=2, seed=1)(cases)
    assert first[0] == 0.0 and first[-1] == 1.0
    with pytest.raises(ValueError, match="opponents=0 must be at least 1"):
        Pairwise(Clerk(""), opponents=0)
    with pytest.raises(ValueError, match=r"form='number' is unknown"):
        Pairwise(Clerk(""), form="number")  # type: ignore[arg-type]


def test_the_short_form_compares_numbers() -> None:
    """Grades 2, 7, 7 and an unreadable one: 0, 0.75, 0.75, nan."""
    grades = {"a": "2", "b": "7", "c": "7", "d": "?"}
    judge = Pairwise(Clerk(lambda prompt, seed: grades[prompt[-1]]), form="short")
    *known, unread = judge([case("q", text) for text in "abcd"])
    assert known == [0.0, 0.75, 0.75] and math.isnan(unread)


def test_the_embedded_model_prefers_the_right_answer() -> None:
    """A right and a nearly right answer to each of 60 questions: seldom is the wrong one preferred."""
    judge = Pairwise(load("tiny", dtype="float32", device="cpu"), form="short", max_tokens=4)
    right = judge([*GOLDS, *NEAR_MISSES])[: len(ASKED)]
    assert sum(score == 1.0 for score in right) > 0.6 * len(right)
    assert sum(score == 0.0 for score in right) < 0.1 * len(right)
    check_verifier(judge, [*GOLDS[:6], *NEAR_MISSES[:6]])
    check_verifier(judge)


def test_a_real_model_in_the_judges_seat() -> None:
    check_verifier(Pairwise(shared_engine("llama"), max_tokens=4))
