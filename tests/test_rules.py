"""Format and length: golds, near misses, bands worked by hand, and settings that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.deadline import deadline
from selfplay.testing import check_verifier
from verifiers.format import Format
from verifiers.isolated import Isolated
from verifiers.length import Length
from verifiers.worker import WorkerTimeout

TAGS = r"(?s)<think>.+</think>\s*<answer>[^<>]+</answer>"
BOX = r"\\boxed\{[^{}]+\}"


def one(verifier: Any, text: str, slot: str = "answer") -> float:
    return verifier([{"query": "", "answer": "", "reference": "", slot: text}])[0]


@pytest.mark.parametrize(
    "verifier",
    [Format(), Format(".*"), Format(BOX, full=False), Length(), Length(5, 10, slack=20), Length(2, 3, unit="words"),
     Length(2, 3, unit="lines", slack=1.5)],
)  # fmt: skip
def test_the_contract(verifier: Any) -> None:
    check_verifier(verifier)


@pytest.mark.parametrize("text", ["46", "x", "It is 46.", "?"])
def test_the_default_form_is_one_line(text: str) -> None:
    assert one(Format(), text) == 1.0


@pytest.mark.parametrize("text", ["", " ", "\n", "46 ", " 46", "46\n", "46\n47", "\t46"])
def test_and_nothing_around_it(text: str) -> None:
    assert one(Format(), text) == 0.0


def test_tags_and_boxes() -> None:
    tags, box = Format(TAGS), Format(BOX, full=False)
    assert one(tags, "<think>40 + 6\nis 46</think>\n<answer>46</answer>") == 1.0
    for text in (
        "<answer>46</answer>", "<think></think><answer>46</answer>", "<think>a</think><answer></answer>",
        "<think>a</think><answer>46</answer> and so on", "<think>a<answer>46</answer>",
        "<THINK>a</THINK><answer>4</answer>",
    ):  # fmt: skip
        assert one(tags, text) == 0.0, text
    assert one(box, "It is \\boxed{46}, I think.") == 1.0
    assert [one(box, text) for text in ("46", "\\boxed{}", "\\boxed 46", "boxed{46}", "\\boxed{46")] == [0.0] * 5


def test_full_and_search() -> None:
    assert one(Format("[0-9]+"), "46") == 1.0
    assert one(Format("[0-9]+"), "46 apples") == 0.0
    assert one(Format("[0-9]+", full=False), "46 apples") == 1.0
    assert one(Format("[0-9]+", full=False), "apples") == 0.0
    assert one(Format("a|ab"), "ab") == 1.0, "the whole text, not the first alternative"


def test_a_pattern_without_end_is_killed_and_the_next_call_is_whole() -> None:
    """(a+)+b on forty times a: about 2^40 steps. As a panel runs it, in a worker."""
    verifier = Isolated({"_target_": "verifiers.format.Format", "pattern": "(a+)+b", "slot": "answer", "full": True})
    hostile, fine = ({"query": "", "answer": text, "reference": ""} for text in ("a" * 40, "aab"))
    with pytest.raises(WorkerTimeout), deadline(0.5):
        verifier([fine, hostile])
    assert verifier([fine]) == [1.0]
    verifier.close()


def test_blank_text_has_no_form() -> None:
    assert [one(Format(".*"), text) for text in ("", "  ", "x")] == [0.0, 0.0, 1.0]
    assert one(Format(r"\s*", full=False), "\n") == 0.0


@pytest.mark.parametrize("verifier", [Format(slot="query"), Length(slot="query")])
def test_other_slots(verifier: Any) -> None:
    assert one(verifier, "2 + 2 = ?", "query") == 1.0 and one(verifier, "2 + 2 = ?", "answer") == 0.0
    with pytest.raises(ValueError, match=r"no slot 'query'; it has answer, hint\."):
        verifier([{"answer": "", "hint": ""}])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(46", r"pattern='\(46' is no regular expression: missing \).* at position 0: '\(46'"),
        ("ab[z-a]", r"bad character range z-a at position 3: 'z-a\]'"),
        ("*", "nothing to repeat at position 0"),
        ("x{99999999999}", "too large"),
    ],
)
def test_a_pattern_that_is_none(pattern: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Format(pattern)


@pytest.mark.parametrize(
    ("size", "score"), [(0, 0.0), (1, 0.2), (4, 0.8), (5, 1.0), (8, 1.0), (9, 0.8), (12, 0.2), (13, 0.0), (99, 0.0)]
)
def test_a_band_with_slack(size: int, score: float) -> None:
    """low 5, high 8, slack 5: each character outside costs 1/5, so 4 -> 0.8, 1 -> 0.2, 12 -> 0.2 and 13 -> 0."""
    assert one(Length(5, 8, slack=5), "x" * size) == pytest.approx(score)


def test_a_band_without_slack_has_walls() -> None:
    assert [one(Length(2, 3), "x" * size) for size in range(6)] == [0, 0, 1, 1, 0, 0]
    assert one(Length(1, float("inf")), "x" * 100_000) == 1.0


def test_units_by_hand() -> None:
    """ "one two\\n\\nthree " has 14 characters (its last blank does not count), 3 words and 3 lines; an emoji of two
    code points is 2 characters."""
    text = "one two\n\nthree "
    for unit, size in (("characters", 14), ("words", 3), ("lines", 3)):
        assert one(Length(size, size, unit=unit), text) == 1.0
        assert one(Length(size + 1, size + 1, unit=unit), text) == one(Length(0, size - 1, unit=unit), text) == 0.0
    assert one(Length(2, 2), "👍🏽") == 1.0


def test_blanks_do_not_lengthen_and_blank_is_nothing() -> None:
    assert one(Length(10, 20), "x" + " " * 12) == 0.0
    assert [one(Length(0, 5, slack=9), text) for text in ("", "  ", "\n\n")] == [0.0] * 3


@given(size=st.integers(1, 60), low=st.integers(0, 20), width=st.integers(0, 20), slack=st.floats(0, 30))
def test_length_is_one_in_the_band_and_falls_away_from_it(size: int, low: int, width: int, slack: float) -> None:
    verifier = Length(low, low + width, slack=slack)
    score, further = one(verifier, "x" * size), one(verifier, "x" * (size + 1))
    assert 0.0 <= score <= 1.0 and (score == 1.0) >= (low <= size <= low + width)
    assert further <= score if size >= low + width else True
    assert further >= score if size < low else True


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"low": 5, "high": 4}, "low=5 and high=4 are no band"),
        ({"low": -1}, "low=-1"),
        ({"high": float("nan")}, "no band"),
        ({"slack": -1}, "slack=-1 must be 0 or more"),
        ({"unit": "tokens"}, "unit='tokens' is none of characters, words, lines"),
    ],
)
def test_a_band_that_is_none(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Length(**settings)
