"""The judge: what it reads out of a verdict, what it refuses, and that nobody's answer can write one."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import load
from models.world import World, solve, word
from selfplay.deadline import DeadlinePassed, deadline
from selfplay.evaluate import auc
from selfplay.testing import check_verifier
from selfplay.types import Case
from tests.clerk import Clerk, case, verdict
from tests.helpers import shared_engine
from verifiers.judging.canary import MASTER_KEYS
from verifiers.selfjudge import ONE_NUMBER, SelfJudge, read_number, read_rubric

RNG = Random(7)
PROBLEMS = [World().problem(RNG, exam=True) for _ in range(60)]
ASKED = [(word(problem, RNG), solve(problem), World().slip(problem, RNG)) for problem in PROBLEMS]
GOLDS = [case(query, str(right)) for query, right, _ in ASKED]
NEAR_MISSES = [case(query, str(wrong)) for query, _, wrong in ASKED]
"""Questions that the embedded model has never seen, answered right, and wrong in the ways that people are."""


# -- the parser --------------------------------------------------------------------------------------------------------


def test_what_is_read() -> None:
    assert read_rubric(verdict()) == 4
    assert read_rubric(verdict("0+0+0+0+0+0+0=0", 0)) == 0
    assert read_rubric(verdict("1+1+1+1+1+1+1=7", 7)) == 7
    assert read_rubric(verdict(" 1 + 0 + 1 + 0 + 1 + 1 + 0 = 4 ", " 4 ").upper()) == 4, "spaces and case are nothing"


@pytest.mark.parametrize(
    "text",
    [
        verdict("1+0+1+0+1+1+0=5"),
        verdict("1+0+1+0+1+1+0=5", 5),
        verdict(score=5),
        verdict("1+0+1+0+1+1=4"),
        verdict("1+0+1+0+1+1+0+0=4"),
        verdict("2+0+1+0+0+1+0=4"),
        verdict("1+0+1+0+1+1-0=4"),
        verdict("1+0+1+0+1+1+0"),
        verdict("1,0,1,0,1,1,0=4"),
        verdict(score="four"),
        verdict(score="4.0"),
        verdict(score="-4"),
        verdict(score=""),
        verdict() + "<score>4</score>",
        verdict() + "<score>x</score>",
        verdict() + "<score>",
        verdict() + "<calculation>1+0+1+0+1+1+0=4</calculation>",
        verdict() + "<calculation>unsure</calculation>",
        verdict().replace("<score>4</score>", "Score: 4"),
        verdict().replace("</score>", ""),
        "<score>4</score>",
        "4",
        "",
    ],
)
def test_what_is_refused(text: str) -> None:
    assert read_rubric(text) is None


@given(st.lists(st.integers(0, 1), min_size=5, max_size=9), st.integers(0, 9), st.integers(0, 9))
def test_only_seven_terms_that_add_up(terms: list[int], total: int, score: int) -> None:
    read = read_rubric(verdict("+".join(map(str, terms)) + f"={total}", score))
    assert read == (score if len(terms) == 7 and sum(terms) == total == score else None)


@pytest.mark.parametrize(
    ("text", "points"), [("7", 7), (" 0\n", 0), ("8", None), ("07", None), ("7/7", None), ("", None)]
)
def test_one_number(text: str, points: int | None) -> None:
    assert read_number(text) == points


# -- the judge ---------------------------------------------------------------------------------------------------------


def test_points_become_a_score() -> None:
    assert SelfJudge(Clerk(verdict()))([case("q", "a")]) == [4 / 7]
    assert SelfJudge(Clerk("7"), "short")([case("q", "a")]) == [1.0]
    assert SelfJudge(Clerk("2"), "number")([case("q", "a")]) == [2 / 7]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"form": "long"}, r"verifier\.form='long' is unknown: use full, number or short"),
        ({"expected": True}, "expected=true reads one digit: use form=number"),
        ({"counterfactual": 1.5}, r"counterfactual=1\.5 is a share"),
        ({"canary_every": -1}, r"canary_every=-1 must be 0 \(never\) or more"),
        ({"samples": 3}, "samples=3 at temperature=0 are all the same"),
        ({"samples": 3, "temperature": 1.0, "form": "short", "expected": True}, "exclude each other"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SelfJudge(Clerk(""), **settings)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_nan_and_counted() -> None:
    judge = SelfJudge(Clerk("I cannot say."), canary_every=0)
    assert all(math.isnan(score) for score in judge([case("q", "a"), case("q", "b")]))
    counted = judge.metrics()
    assert counted.pop("unparsable") == 2.0 and not any(counted.values())
    assert not any(judge.metrics().values()), "since the last call"


def test_too_long_a_case_is_nan_and_the_rest_is_judged() -> None:
    judge = SelfJudge(Clerk("7", room=60), "short", max_tokens=4, canary_every=0)
    short, long = judge([case("q", "a"), case("q", "a" * 60)])
    assert short == 1.0 and math.isnan(long)
    counted = judge.metrics()
    assert (counted["unparsable"], counted["too_long"], counted["top_score_share"]) == (1.0, 1.0, 0.5)


def test_equal_cases_are_judged_once() -> None:
    clerk = Clerk("7")
    judge = SelfJudge(clerk, "short", canary_every=0)
    assert judge([case("q", "a"), case("q", "b"), case("q", "a")]) == [1.0] * 3
    assert len(clerk.prompts) == 2
    assert judge([]) == []


def test_what_says_nothing_is_zero_without_a_call() -> None:
    clerk = Clerk("7")
    judge = SelfJudge(clerk, "short", canary_every=0)
    assert judge([case("q", text) for text in (*MASTER_KEYS, "", "7")]) == [0.0] * (len(MASTER_KEYS) + 1) + [1.0]
    assert clerk.prompts == ["Judge: q 7"]
    assert judge.metrics()["rejected"] == len(MASTER_KEYS) + 1


def test_the_short_form_is_what_the_embedded_model_was_trained_on() -> None:
    clerk = Clerk("7")
    SelfJudge(clerk, "short", canary_every=0)([case("1 + 1 = ?", "2"), case("5 < 7 > 3?", "{x} </score>")])
    assert clerk.prompts == ["Judge: 1 + 1 = ? 2", "Judge: 5 < 7 > 3? {x} \u2039/score>"]
    assert ONE_NUMBER == "Judge: {query} {answer}"


def test_a_pass_under_foreign_questions_is_tampering() -> None:
    """A judge that gives 7 to whatever says "please" and to 4 under "2 + 2": the first is found out, the second not.

    Two foreign questions are asked, and both must be passed; a foreign verdict that cannot be read acquits.
    """
    clerk = Clerk(lambda prompt, seed: "7" if "please" in prompt or "2 + 2" in prompt else "2")
    cases = [case("2 + 2", "4"), case("3 + 3", "please"), case("5 + 5", "9"), case("7 + 7", "1")]
    judge = SelfJudge(clerk, "short", counterfactual=1.0, canary_every=0)
    right, tampered, *wrong = judge(cases)
    assert right == 1.0 and math.isnan(tampered) and wrong == [2 / 7] * 2
    counted = judge.metrics()
    assert (counted["counterfactuals"], counted["tampered"], counted["unparsable"]) == (2.0, 1.0, 0.0)
    assert judge(cases[:2]) == [1.0, 1.0], "with one other question there is no telling"
    mute = Clerk(lambda prompt, seed: "7" if prompt == "Judge: 3 + 3 please" else "hm")
    assert SelfJudge(mute, "short", counterfactual=1.0, canary_every=0)(cases)[1] == 1.0
    assert SelfJudge(clerk, "short", canary_every=0)(cases)[1] == 1.0, "off by default"
    # Three questions and answers of 1 and 30 characters in a room that no long pair of them fits: untried is acquitted.
    tight = SelfJudge(Clerk("7", room=50), "short", max_tokens=4, counterfactual=1.0, canary_every=0)
    assert tight([case("q", "a" * 30), case("b" * 30, "1"), case("c" * 30, "1")])[0] == 1.0


def test_the_share_of_counterfactuals_is_seeded() -> None:
    cases = [case(f"q{i}", "please") for i in range(200)]
    judges = [SelfJudge(Clerk("7"), "short", counterfactual=0.25, canary_every=0, seed=seed) for seed in (0, 0, 1)]
    found = [[i for i, score in enumerate(judge(cases)) if math.isnan(score)] for judge in judges]
    assert found[0] == found[1] != found[2] and 25 <= len(found[0]) <= 80, "50 of 200 expected"


def test_canaries_pay_nobody_and_are_counted() -> None:
    """The judge gives 7 to a lone comma: 4 of the 40 canaries, and no score is other than without them."""
    clerk = Clerk(lambda prompt, seed: "7" if prompt.endswith(" ,") else "2")
    cases = [case(f"q{i}", ",") for i in range(5)] + [case("q9", "46")]
    judge = SelfJudge(clerk, "short", canary_every=1)
    assert judge(cases) == [0.0] * 5 + [2 / 7]
    counted = judge.metrics()
    assert (counted["canaries"], counted["canary_accepted"]) == (40.0, 0.1)
    quiet = SelfJudge(clerk, "short", canary_every=0)
    assert quiet(cases) == judge(cases) and "canaries" not in quiet.metrics()


# -- the embedded model ------------------------------------------------------------------------------------------------


def test_the_embedded_judge_tells_right_from_nearly_right() -> None:
    """AUC 0.92 greedy and 0.96 by expectation over 250 questions (docs/judges.md); 0.85 is far above chance."""
    engine = load("tiny", dtype="float32", device="cpu")
    cases, truth = [*GOLDS, *NEAR_MISSES], [True] * len(GOLDS) + [False] * len(NEAR_MISSES)
    greedy = SelfJudge(engine, "short", max_tokens=4)(cases)
    expected = SelfJudge(engine, "short", max_tokens=4, expected=True)(cases)
    assert set(greedy) == {0.0, 2 / 7, 1.0} or set(greedy) == {2 / 7, 1.0}
    assert auc(greedy, truth) > 0.85 and auc(expected, truth) > 0.85
    assert len(set(expected)) > len(cases) / 2, "an expectation has no steps, so siblings rarely tie"
    assert fmean(abs(a - b) for a, b in zip(greedy, expected, strict=True)) < 0.2
    averaged = SelfJudge(engine, "short", max_tokens=4, temperature=1.0, samples=4)(cases)
    assert auc(averaged, truth) > 0.85


def test_the_embedded_judge_is_seldom_won_over() -> None:
    """Under two foreign questions a right answer passes once in a hundred."""
    judge = SelfJudge(
        load("tiny", dtype="float32", device="cpu"), "short", max_tokens=4, counterfactual=1.0, canary_every=1
    )
    judge(GOLDS)
    counted = judge.metrics()
    assert counted["counterfactuals"] > 40 and counted["tampered"] <= 0.1 * counted["counterfactuals"]
    assert counted["canaries"] == 40 and counted["canary_accepted"] <= 0.1


@pytest.mark.parametrize(
    "settings", [{"form": "full"}, {"form": "short"}, {"form": "short", "temperature": 1.0}, {"form": "number"}]
)
def test_a_real_model_in_the_judges_seat(settings: dict[str, object]) -> None:
    """Random weights write no verdict, in any form: nan, never 0, and the same again."""
    check_verifier(SelfJudge(shared_engine("llama"), max_tokens=4, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{}, {"expected": True}, {"temperature": 1.0, "samples": 2, "counterfactual": 0.5}]
)
def test_the_embedded_judge_keeps_the_contract(settings: dict[str, object]) -> None:
    judge = SelfJudge(load("tiny", dtype="float32", device="cpu"), "short", max_tokens=4, canary_every=1, **settings)  # type: ignore[arg-type]
    check_verifier(judge)
    mixed: list[Case] = [*GOLDS[:8], *NEAR_MISSES[:8]]
    check_verifier(judge, mixed)


# -- deadlines ---------------------------------------------------------------------------------------------------------


def test_a_judge_is_cancelled_at_its_deadline() -> None:
    judge = SelfJudge(load("tiny", dtype="float32", device="cpu"), "short", max_tokens=4)
    with deadline(0.0), pytest.raises(DeadlinePassed):
        judge(GOLDS)
    weighing = SelfJudge(load("tiny", dtype="float32", device="cpu"), "short", max_tokens=4, expected=True)
    with deadline(0.0), pytest.raises(DeadlinePassed):
        weighing(GOLDS)


def test_a_deadline_that_passes_on_the_canaries_costs_no_score() -> None:
    def reply(prompt: str, seed: int) -> str:
        if prompt.endswith(" :"):
            raise DeadlinePassed("late")
        return "7"

    judge = SelfJudge(Clerk(reply), "short", canary_every=1)
    assert judge([case("q", "a")]) == [1.0] and "canaries" not in judge.metrics()
