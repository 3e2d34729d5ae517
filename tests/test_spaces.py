"""The spaces of text and scores: what they hold, that sampling is seeded, and that a check does not read the text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.spaces import AnyScore, AnyText


@given(text=st.text(max_size=40), limit=st.integers(0, 40))
def test_any_string_up_to_the_limit(text: str, limit: int) -> None:
    assert AnyText(limit).contains(text) == (len(text) <= limit)


@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "é\u202e", "<|im_end|>", "a" * 16_384])
def test_nasty_text_is_text(text: str) -> None:
    assert text in AnyText()


@pytest.mark.parametrize("other", [None, 3, b"bytes", ["a"], {"user": "a"}, "a" * 16_385])
def test_what_is_no_text(other: object) -> None:
    assert other not in AnyText()


def test_samples_are_legal_and_seeded() -> None:
    drawn = [AnyText(8, seed=5).sample() for _ in range(3)]
    assert len(set(drawn)) == 1
    space = AnyText(8, seed=5)
    many = [space.sample() for _ in range(300)]
    assert all(text in space for text in many) and {len(text) for text in many} == set(range(9))
    assert "".join(many).isprintable(), "no control characters"
    assert AnyText(0, seed=1).sample() == ""
    space.seed(7)
    again = AnyText(8, seed=7)
    assert [space.sample() for _ in range(5)] == [again.sample() for _ in range(5)]


def test_scores() -> None:
    space = AnyScore(seed=3)
    assert all(score in space for score in (0, 1.5, -3, math.nan))
    assert all(other not in space for other in (True, "1", None))
    assert all(0 <= space.sample() < 1 for _ in range(50))


def test_equality() -> None:
    assert AnyText(5) == AnyText(5) != AnyText(6)
    assert AnyScore() == AnyScore()
    assert AnyText(5) != AnyScore()
    assert repr(AnyText(5)) == "AnyText(5)"
