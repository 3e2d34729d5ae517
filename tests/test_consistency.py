"""Asked again: what counts as the same answer, what as none, and who is asked."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from models.loading import load
from selfplay.evaluate import auc
from selfplay.testing import check_verifier
from tests.clerk import Clerk, case
from tests.helpers import shared_engine
from tests.test_selfjudge import GOLDS, NEAR_MISSES
from verifiers.consistency import Consistency


def asked_again(*replies: str, **settings: object) -> Consistency:
    """A verifier whose model says these, one after the other, and begins anew."""
    said = [*replies]

    def reply(prompt: str, seed: int) -> str:
        said.append(said[0])
        return said.pop(0)

    return Consistency(Clerk(reply), samples=len(replies), **settings)  # type: ignore[arg-type]


def test_the_share_that_agrees() -> None:
    """Of 1/2, 0.5, three quarters and silence two are one half: 2 of 4; the silence stays in the divisor."""
    verifier = asked_again("1/2", "x = 0.5", "3/4", "")
    assert verifier([case("2 * x = 1, x = ?", "0.50")]) == [0.5]
    counted = verifier.metrics()
    assert (counted["said_nothing"], counted["silent"], counted["share"]) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("answer", "again", "score"),
    [
        ("46", "46", 1.0),
        ("46", "46.0", 1.0),
        ("46", "The answer is 46.", 1.0),
        ("46", "\\boxed{46}", 1.0),
        ("46", "64", 0.0),
        ("46", "-46", 0.0),
        ("46", "4 6", 0.0),
        ("sqrt(8)", "2*sqrt(2)", 1.0),
        ("sqrt(8)", "2*sqrt(3)", 0.0),
        ("Paris", "paris ", 1.0),
        ("Paris", "London", 0.0),
        ("", "46", 0.0),
        (":", "46", 0.0),
        ("What?", "46", 0.0),
    ],
)
def test_golds_and_near_misses(answer: str, again: str, score: float) -> None:
    assert asked_again(again)([case("What?", answer)]) == [score]


def test_silence_and_echo_are_no_agreement() -> None:
    """Nothing said again is nan, whatever the answer; the question said back is nothing said."""
    verifier = asked_again("", "...")
    assert all(math.isnan(score) for score in verifier([case("q", ""), case("q", "..."), case("q", "7")]))
    assert verifier.metrics()["silent"] == 1.0
    assert math.isnan(asked_again("12 + 3")([case("12 + 3", "12 + 3")])[0])
    assert math.isnan(Consistency(Clerk("7", room=5))([case("q" * 9, "7")])[0])


def test_every_question_is_asked_once_for_all_its_answers() -> None:
    clerk = Clerk("7")
    verifier = Consistency(clerk, samples=3, told="Say it shortly: {query}", seed=1)
    assert verifier([case("q{x}", "7"), case("q{x}", "8"), case("p", "7"), case("q{x}", "7")]) == [1.0, 0.0, 1.0, 1.0]
    assert clerk.prompts == ["Say it shortly: q{x}"] * 3 + ["Say it shortly: p"] * 3
    assert len(set(clerk.seeds)) == 6
    again = Clerk("7")
    Consistency(again, samples=3, seed=1)([case("p", "1"), case("q{x}", "1")])
    assert again.seeds == clerk.seeds[3:] + clerk.seeds[:3], "of the query and the seed, not of the batch"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"samples": 0}, "samples=0 must be at least 1"),
        ({"temperature": 0.0}, "at temperature=0 are all the same"),
        ({"told": "{answer}"}, "may hold {query} and no other braces"),
        ({"told": "{"}, "may hold {query} and no other braces"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Consistency(Clerk(""), **settings)  # type: ignore[arg-type]


def test_the_embedded_model_agrees_with_what_is_right() -> None:
    """Its likeliest answer is the right one, so right answers find more agreement than near misses."""
    verifier = Consistency(load("tiny", dtype="float32", device="cpu"), samples=4, max_tokens=24)
    scores = verifier([*GOLDS, *NEAR_MISSES])
    assert fmean(scores[: len(GOLDS)]) > 2 * fmean(scores[len(GOLDS) :])
    assert auc(scores, [True] * len(GOLDS) + [False] * len(NEAR_MISSES)) > 0.65
    check_verifier(verifier, [*GOLDS[:6], *NEAR_MISSES[:6]])
    check_verifier(verifier)
    verifier.close()


def test_a_real_model_is_asked_again() -> None:
    verifier = Consistency(shared_engine("llama"), samples=2, max_tokens=4)
    check_verifier(verifier)
    verifier.close()
