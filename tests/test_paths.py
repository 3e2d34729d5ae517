"""Equations found, read and compared; which text of a path is kept."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.paths import distance, equations, farthest, holds, path, value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("She has 48 / 2 = <<48/2=24>>24 clips, 48+24 = <<48 + 24 = 72>>72.", ("48/2=24", "48+24=72")),
        ("So 12 + 34 = 46.", ("12+34=46",)),
        ("3 x 4 = 12, then 12 × 2 = 24", ("3*4=12", "12*2=24")),
        ("- 3 + 4 = 7\n* 1 + 1 = 2\n3. 5 - 1 = 4", ("3+4=7", "1+1=2", "5-1=4")),
        ("x = 12 - 5 = 7", ("12-5=7",)),
        ("$5 * 3 = $15 and 1,000 + 1 = 1,001", ("5*3=15", "1000+1=1001")),
        ("(1+2)*3 = 9 = 9", ("(1+2)*3=9=9",)),
        ("50% * 20 = 10", ("50%*20=10",)),
        ("There were 3, 4 + 5 = 9 in all.", ("4+5=9",)),
        # no arithmetic of its own: a name, a bracket or a power belongs to it
        ("x + 5 = 12, so x = 7", ()),
        ("2a + 3 = 7", ()),
        ("f(2+1) = 9", ()),
        ("2 * 3 = 6x", ()),
        ("2^3 + 1 = 9", ()),
        ("12 = 12", ()),
        ("46", ()),
        ("", ()),
    ],
)
def test_the_equations_of_a_text(text: str, found: tuple[str, ...]) -> None:
    assert equations(text) == found


@pytest.mark.parametrize(
    ("equation", "true"),
    [
        ("48/2=24", True),
        ("48/2=25", False),
        ("10/3=3.333", True),  # within a thousandth
        ("10/3=3.33", False),
        ("2*(3+4)=14=28/2", True),
        ("2*(3+4)=14=29/2", False),
        ("-3--5=2", True),
        ("1000+1=1,001", True),
        ("1/0=1", False),
        ("a=a", False),
        ("5", False),
        ("=", False),
        ("__import__('os').getcwd()=1", False),
        ("9**9**9=1", False),
    ],
)
def test_whether_an_equation_holds(equation: str, true: bool) -> None:
    assert holds(equation) is true


def test_numbers() -> None:
    assert value("1,000") == 1000 == value("1000") and value("$2.50 × 2") == 5 and value("12%") == pytest.approx(0.12)
    assert value("2 - 3 - 4") == -5 and value("2 / 4 / 2") == 0.25 and value("2 + 3 * 4") == 14
    for nothing in ("", "x", "(1", "1)", "2(3)", "1 +", "(" * 150 + "1" + ")" * 150, "1e9", "1_000"):
        assert value(nothing) is None, nothing
    assert value("9" * 199) is not None and value("9" * 201) is None


@given(st.text("0123456789+-*/()%., $=x", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    for equation in equations(text):
        assert isinstance(holds(equation), bool)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_edit_distance_is_the_tables(one: str, other: str) -> None:
    """Against the textbook's table of prefixes."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row = row, [i]
        for j, its in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != its)))
    assert distance(one, other) == row[-1]


def test_paths_are_ordered_equations() -> None:
    """[a, b], [a, b], [b, a], [c]: three paths, for the order matters; without equations the words are compared."""
    texts = ["1+1=2 2+2=4", "first 1 + 1 = 2, then 2 + 2 = 4", "2+2=4 1+1=2", "3+1=4"]
    paths = [path(text) for text in texts]
    assert paths[0] == paths[1] == ("1+1=2", "2+2=4")
    assert len(set(paths)) == 3 and len(farthest(texts, paths)) == 3
    assert path("It is  46.") == path("It is 46.") != path("It is 47.")


def test_of_a_path_the_farthest_text_is_kept() -> None:
    """The path 1+1=2 has the texts "1+1=2" and "so 1+1=2!", the other path "2=1+1": from "2=1+1" to "1+1=2" it takes
    4 edits, to the longer one more. The longest distance wins, whatever the order."""
    texts = ["1+1=2", "so 1+1=2!", "2=1+1"]
    paths = [("1+1=2",), ("1+1=2",), ("2=1+1",)]
    assert distance(texts[1], texts[2]) > distance(texts[0], texts[2])
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        kept = farthest([texts[i] for i in order], [paths[i] for i in order])
        assert {order[i] for i in kept} == {1, 2}


def test_one_path_alone_keeps_the_text_that_sorts_first() -> None:
    texts = [f"{word} 1+1=2" for word in ("so", "and", "thus")]
    for seed in range(5):
        mixed = random.Random(seed).sample(texts, 3)
        assert [mixed[i] for i in farthest(mixed, [("1+1=2",)] * 3)] == ["and 1+1=2"]


@pytest.mark.parametrize("piece", ["1", "1 ", "(", "1,", "= 1", "1=1a", "<<"])
def test_a_model_that_stammers_is_read_in_no_time(piece: str) -> None:
    """20,000 characters without an equation: trying each digit as the beginning of one takes seconds."""
    begun = time.process_time()
    equations(piece * (20_000 // len(piece)))
    assert time.process_time() - begun < 0.5
