"""One line of a script: how it is read, every sentence it is refused with, and what a move fills."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.script import GameError, Line, check_script, nearest

ASK = {"role": "challenger", "says": "query", "told": "Ask."}


def line(**changes: Any) -> Line:
    return Line.parse({**ASK, **changes}, 0)


def test_a_slot_and_a_pattern() -> None:
    plain = line()
    assert (plain.role, plain.seat, plain.slots, plain.pattern) == ("challenger", "challenger_0", ("query",), None)
    sealed = line(says=r"(?P<query>.+) = (?P<reference>\d+)")
    assert sealed.slots == ("query", "reference")
    assert sealed.read("1+1 = 2", 99) == {"query": "1+1", "reference": "2"}
    assert sealed.read("1+1 = 2 apples", 99) is None, "the whole move must match"
    assert line(says=r"(?P<a>x)|(?P<b>y)").read("y", 9) == {"a": "", "b": "y"}


@pytest.mark.parametrize(
    ("role", "seat"), [("solver", "solver_0"), ("juror_2", "juror_2"), ("the_poet", "the_poet_0"), ("a_b_3", "a_b_3")]
)
def test_a_role_may_name_a_seat(role: str, seat: str) -> None:
    parsed = line(role=role)
    assert parsed.seat == seat and seat.startswith(parsed.role + "_")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rol": "x"}, r"turns\[0\] has an unknown key 'rol' \(did you mean 'role'\?\)"),
        ({"zzz": "x"}, r"turns\[0\] has an unknown key 'zzz'$"),
        ({"role": ""}, r"turns\[0\] needs a 'role'"),
        ({"role": 3}, r"turns\[0\] needs a 'role'"),
        ({"says": None}, r"turns\[0\] needs a 'says'"),
        ({"role": "the solver"}, r"turns\[0\].role='the solver' is not a name"),
        ({"role": "0solver"}, "is not a name"),
        ({"says": "(?P<query>"}, r"turns\[0\].says='\(\?P<query>' is not a regular expression: "),
        ({"says": "(.*)"}, "is neither a slot nor an expression with a named group"),
        ({"says": "the answer"}, "is neither a slot nor an expression with a named group"),
    ],
)
def test_refused_when_parsed(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        line(**changes)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("{", "challenger is told a broken template .*write {{ for a brace"),
        ("a } b", "broken template"),
        ("{}", r"told \{\}, which is not a slot; write \{\{ for a brace"),
        ("{0}", r"told \{0\}, which is not a slot"),
        ("{query.__class__}", "told {query.__class__}, which is not a slot"),
        ("{query[0]}", r"told \{query\[0\]\}, which is not a slot"),
        ("{query!r}", "with a format"),
        ("{query:d}", "with a format"),
        ("{query:{width}}", "with a format"),
        ("{query:1000000000}", "with a format"),
    ],
)
def test_a_template_is_checked_before_anybody_plays(told: str, sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        check_script((line(), line(told=told)), ())


def test_doubled_braces_are_text() -> None:
    shown = line(told='Write {{"a": {query}}} as JSON')
    assert shown.fields() == ("query",)
    assert shown.told.format_map({"query": "{answer}"}) == 'Write {"a": {answer}} as JSON', "said braces stay as said"


def test_told_before_it_is_said() -> None:
    script = (line(), line(role="solver", says="answer", told="{querry}"))
    with pytest.raises(GameError, match=r"turns\[1\]: solver is told {querry} before .*\(did you mean 'query'\?\)"):
        check_script(script, ())
    with pytest.raises(GameError, match=r"turns\[0\]: challenger is told {query} before anyone has said it$"):
        check_script((line(told="{query}"),), ())
    check_script((line(), line(told="{query}")), ())


@given(move=st.text(max_size=30), limit=st.integers(0, 30))
def test_every_string_is_read_or_refused(move: str, limit: int) -> None:
    slots = line().read(move, limit)
    assert slots == ({"query": move} if move.strip() and len(move) <= limit else None)


def test_nearest() -> None:
    assert nearest("solvr", ["solver", "challenger"]) == " (did you mean 'solver'?)"
    assert nearest("judge", ["solver", "challenger"]) == ""
