"""Judged by principles: which one a case is held to, what is read, and what a constitution may be."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import load
from selfplay.testing import check_verifier
from tests.clerk import Clerk, case
from tests.helpers import shared_engine
from tests.test_selfjudge import GOLDS, NEAR_MISSES
from verifiers.constitution import Constitution, read_pass, read_verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("It does. <verdict>yes</verdict>", 1.0),
        ("<VERDICT> No\n</VERDICT>", 0.0),
        ("", None),
        ("yes", None),
        ("<verdict>perhaps</verdict>", None),
        ("<verdict>yes and no</verdict>", None),
        ("<verdict>yes</verdict> <verdict>yes</verdict>", None),
        ("<verdict>yes</verdict> <verdict>no</verdict>", None),
        ("<verdict><verdict>yes</verdict>", None),
        ("<verdict>yes", None),
        ("<verdict 7f>yes</verdict 7f>", None),
    ],
)
def test_what_is_read(text: str, verdict: float | None) -> None:
    assert read_verdict(text) == verdict


@given(st.text())
def test_nothing_else_is_a_number(text: str) -> None:
    """5, 6 and 7 pass, 0 to 4 do not, and only a lone digit is a number."""
    expected = float(text.strip() in "567") if text.strip() in set("01234567") else None
    assert read_pass(text) == expected
    assert [read_pass(str(points)) for points in range(9)] == [0.0] * 5 + [1.0] * 3 + [None]


def test_every_case_has_its_principle() -> None:
    """A seeded draw of four cases' principles is the same today and tomorrow, and none is left out in the long run."""
    judge = Constitution(Clerk(""))
    assert len(judge.principles) >= 16
    four = [judge.principle("q", answer) for answer in "abcd"]
    assert four == [Constitution(Clerk("")).principle("q", answer) for answer in "abcd"]
    assert four != [Constitution(Clerk(""), seed=1).principle("q", answer) for answer in "abcd"]
    drawn = Counter(judge.principle("q", str(number)) for number in range(2_000))
    assert set(drawn) == set(judge.principles) and max(drawn.values()) < 200, "100 of 2,000 expected for each"


def test_the_judge_is_told_the_cases_principle_and_no_other() -> None:
    clerk = Clerk("<verdict>yes</verdict>")
    judge = Constitution(clerk, ["uses no word twice.", "is in verse."])
    cases = [case("q", str(number)) for number in range(20)]
    assert judge(cases) == [1.0] * 20
    verses = sum(judge.principle("q", str(number)) == "principle_2" for number in range(20))
    assert 0 < verses < 20
    assert sum("The principle: the response is in verse." in prompt for prompt in clerk.prompts) == verses
    assert sum("uses no word twice." in prompt for prompt in clerk.prompts) == 20 - verses


def test_scores_and_counts() -> None:
    """Kept, broken, unreadable, rejected by rule: 1, 0, nan, 0."""
    said = {"good": "<verdict>yes</verdict>", "bad": "<verdict>no</verdict>", "odd": "Well."}
    clerk = Clerk(lambda prompt, seed: next(text for word, text in said.items() if f"\n{word}\n" in prompt))
    judge = Constitution(clerk, ["is kind."])
    kept, broken, odd, opener = judge([case("q", "good"), case("q", "bad"), case("q", "odd"), case("q", "Solution:")])
    assert (kept, broken, opener) == (1.0, 0.0, 0.0) and math.isnan(odd)
    assert judge.metrics() == {"rejected": 1.0, "unparsable": 1.0, "too_long": 0.0, "kept/principle_1": 0.5}
    assert judge.metrics() == {"rejected": 0.0, "unparsable": 0.0, "too_long": 0.0}
    small = Constitution(Clerk("<verdict>yes</verdict>", room=100), max_tokens=4)
    assert math.isnan(small([case("q", "a")])[0]) and small.metrics()["too_long"] == 1.0


def test_samples_are_averaged() -> None:
    """yes, no, unreadable, yes: 2/3."""
    replies = iter(["<verdict>yes</verdict>", "<verdict>no</verdict>", "", "<verdict>yes</verdict>"])
    judge = Constitution(Clerk(lambda prompt, seed: next(replies)), temperature=1.0, samples=4)
    assert judge([case("q", "a")]) == [2 / 3]


def test_a_constitution_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("# ours\nbrevity: is short.\nverse: rhymes.\n", encoding="utf-8")
    assert Constitution(Clerk(""), str(own)).principles == {"brevity": "is short.", "verse": "rhymes."}
    own.write_text("- is short.\n- rhymes.\n", encoding="utf-8")
    assert list(Constitution(Clerk(""), str(own)).principles.values()) == ["is short.", "rhymes."]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("", "holds no principles"),
        ("kind", "holds no principles"),
        ("[]", "holds no principles"),
        ("kind: 7", "the principle 'kind' is no sentence"),
        ("kind: ''", "the principle 'kind' is no sentence"),
    ],
)
def test_a_constitution_that_is_none(tmp_path: Path, text: str | None, sentence: str) -> None:
    own = tmp_path / "own.yaml"
    if text is not None:
        own.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        Constitution(Clerk(""), str(own))
    with pytest.raises(ValueError, match=r"form='number' is unknown"):
        Constitution(Clerk(""), form="number")  # type: ignore[arg-type]


def test_the_embedded_model_keeps_and_breaks() -> None:
    """It knows one principle, to be right: golds pass and near misses do not, far more often than not."""
    engine = load("tiny", dtype="float32", device="cpu")
    judge = Constitution(engine, form="short", max_tokens=4)
    assert fmean(judge(GOLDS)) > 0.85 and fmean(judge(NEAR_MISSES)) < 0.35
    assert not any(name.startswith("kept") for name in judge.metrics()), "it was told no principle"
    check_verifier(judge, [*GOLDS[:8], *NEAR_MISSES[:8]])
    check_verifier(judge)


def test_a_real_model_in_the_judges_seat() -> None:
    check_verifier(Constitution(shared_engine("llama"), max_tokens=4))
