"""Equations found, read and compared; which text of a path is kept."""

from __future__ import annotations

import random
import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners import paths as paths_module
from learners.edits import AT_ONCE, distances
from learners.paths import FEW, distance, equations, farthest, holds, path, value


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


LENGTHS = [0, 1, 5, 63, 64, 65, 127, 128, 129, 200]
"""Around the words of 64 letters in which a text is kept."""


def some(rng: random.Random, number: int, letters: str = "abc=") -> list[str]:
    return ["".join(rng.choices(letters, k=rng.choice(LENGTHS))) for _ in range(number)]


@pytest.mark.parametrize("seed", range(30))
def test_many_at_once_are_as_far_as_each_by_itself(seed: int) -> None:
    """Windows of any width that begin anywhere, texts of no and of many words, letters that the others have not."""
    rng = random.Random(seed)
    texts = [*some(rng, rng.randint(1, 9)), "é漢" * rng.randint(0, 40)]
    count = len(texts)
    rows = [rng.randrange(count) for _ in range(rng.randint(1, 6))]
    starts, width = [rng.randrange(count) for _ in rows], rng.randint(1, count)
    found = distances(texts, rows, starts, width).tolist()
    for i, start, row in zip(rows, starts, found, strict=True):
        assert row == [distance(texts[i], texts[(start + k) % count]) for k in range(width)]


def test_rows_go_in_parts_of_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = some(random.Random(0), 20)
    whole = distances(texts, range(20), range(20), 10)
    assert AT_ONCE > 20 * 10 * 4, "one part"
    monkeypatch.setattr("learners.edits.AT_ONCE", 70)
    assert (distances(texts, range(20), range(20), 10) == whole).all()


def plainly(texts: list[str], paths: list[tuple[str, ...]]) -> list[int]:
    """``farthest`` pair by pair."""
    far = [0] * len(texts)
    for i, j in combinations(range(len(texts)), 2):
        if paths[i] != paths[j]:
            apart = distance(texts[i], texts[j])
            far[i] += apart
            far[j] += apart
    kept: dict[tuple[str, ...], int] = {}
    for i in sorted(range(len(texts)), key=lambda i: (-far[i], texts[i])):
        kept.setdefault(paths[i], i)
    return list(kept.values())


@pytest.mark.parametrize("number", [2, FEW - 1, FEW, FEW + 1, 25, 40])
@pytest.mark.parametrize("shares", [[1], [9, 1], [5, 5], [6, 3, 1], [1] * 30])
def test_the_farthest_are_those_of_all_pairs(number: int, shares: list[int]) -> None:
    """One path, one that most have, halves, several, and nearly each its own."""
    rng = random.Random(number)
    texts = some(rng, number)
    paths = [(str(which),) for which in rng.choices(range(len(shares)), shares, k=number)]
    assert farthest(texts, paths) == plainly(texts, paths)


def test_many_texts_are_compared_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 texts have 4,950 pairs: none of them is a call of its own, and of one path alone there is nothing to do."""
    calls: list[tuple[int, int]] = []

    def counted(texts: list[str], rows: list[int], starts: list[int], width: int) -> object:
        calls.append((len(rows), width))
        return distances(texts, rows, starts, width)

    def refused(one: str, other: str) -> int:
        raise AssertionError("pair by pair")

    monkeypatch.setattr(paths_module, "distances", counted)
    monkeypatch.setattr(paths_module, "distance", refused)
    texts = some(random.Random(0), 100)
    farthest(texts, [(str(i % 60),) for i in range(100)])
    farthest(texts, [("",)] * 97 + [("a",), ("b",), ("c",)])
    farthest(texts, [("",)] * 100)
    assert calls == [(100, 50), (3, 100)]


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
