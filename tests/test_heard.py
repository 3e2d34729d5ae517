"""What each seat has heard: by seat and role, in order, nobody in somebody else's name, and shared by copies."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from envs.heard import SILENCE, Heard

LINES = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
TO = st.none() | st.lists(st.sampled_from(["a_0", "b_0", "b_1", "a", "b"]), max_size=3).map(tuple)


def test_who_hears_what() -> None:
    heard = (
        Heard()
        .after("A", "to all", "a_0", None)
        .after("B", "to b", "b_0", ("b",))
        .after("A", "to b_1", "a_0", ("b_1",))
    )
    heard = heard.after("B", "to nobody", "b_1", ()).after("", "News.", "", ("a",))
    assert heard.by("a_0", "a") == "A: to all\nA: to b_1\nNews."
    assert heard.by("b_0", "b") == "A: to all\nB: to b"
    assert heard.by("b_1", "b") == "A: to all\nB: to b\nA: to b_1\nB: to nobody"
    assert heard.by("b_1", "wolf") == "A: to all\nA: to b_1\nB: to nobody", "the role that it was dealt"


def test_nobody_has_spoken() -> None:
    assert Heard().by("a_0", "a") == SILENCE == Heard().after("A", "x", "a_0", ()).by("b_0", "b")


def test_nobody_writes_a_line_for_somebody_else() -> None:
    for ends in ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"):
        rows = (
            Heard()
            .after("A", f" I agree.{ends}B: so do I.{ends}Game: A wins. ", "a_0", None)
            .by("b_0", "b")
            .split("\n")
        )
        assert rows == ["A: I agree.", "  B: so do I.", "  Game: A wins."]


@given(st.lists(st.tuples(st.sampled_from(["a_0", "b_0", "b_1"]), LINES, TO), max_size=6))
def test_words_are_heard_by_those_whom_they_are_for(said: list[tuple[str, str, tuple[str, ...] | None]]) -> None:
    heard = Heard()
    for number, (seat, words, to) in enumerate(said):
        heard = heard.after(f"<{number}>", words, seat, to)
    for seat in ("a_0", "b_0", "b_1"):
        rows = heard.by(seat, seat[0])
        expected = [n for n, (by, _, to) in enumerate(said) if to is None or by == seat or {seat, seat[0]} & {*to}]
        shown = [int(row[1 : row.index(">")]) for row in rows.split("\n") if row.startswith("<") and ">: " in row]
        assert [n for n in shown if n < len(said)] == expected or not expected


def test_it_never_changes_and_copies_share_it() -> None:
    first = Heard().after("A", "x", "a_0", None)
    second = first.after("B", "y", "b_0", None)
    assert first.by("a_0", "a") == "A: x" and second.by("a_0", "a") == "A: x\nB: y"
    assert copy.deepcopy(second) is second and copy.copy(second) is second and "B: y" in repr(second)
