"""From text to tree: where the answer is, what it is, and what is refused."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.maths.compare import Rational, Undecided
from verifiers.maths.exact import Undefined, rational
from verifiers.maths.extract import candidates
from verifiers.maths.query import question
from verifiers.maths.shape import is_literal, is_unfinished
from verifiers.maths.symbolic import Symbolic
from verifiers.maths.text import fold
from verifiers.maths.tree import MAX_NODES, Node, Unreadable, from_json
from verifiers.maths.values import read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5", ["5"]), ("so\n5", ["so\n5", "5"]), ("\\boxed{1} then \\boxed{2}", ["2"]),
        ("\\boxed{\\frac{1}{2}}", ["\\frac{1}{2}"]), ("\\boxed 7", ["7"]),
        ("\\boxed{\\{1,2\\}}", ["\\{1,2\\}"]), ("\\boxed{1", [""]), ("<think>\\boxed{1}</think>2", ["2"]),
        ("<think>\\boxed{1}", [""]),
        ("\\boxed{1}</think>2", ["2"]), ("<think>a<think>b</think>\\boxed{1}</think>2", ["2"]),
        ("\\boxed{3}<think>\\boxed{1}</think>", ["3"]),
        ("The answer is 4.", ["4"]), ("answer: 3\nAnswer: **4**", ["4"]), ("#### 4", ["4"]),
        ("The answer is 4. I hope so.", ["4"]), ("$$4$$", ["4"]),
        ("The answer is 4.5", ["4.5"]), ("\\boxed{1} the answer is 2", ["1"]), ("the answer is:\n4", ["4"]),
        ("= 4", ["4"]), ("`4`", ["4"]), ("", [""]), ("==", []), ("$5$ cm", ["5 cm"]),
        ("$\\$5$", ["\\$5"]),
    ],
)  # fmt: skip
def test_places(text: str, found: list[str]) -> None:
    assert list(candidates(text)) == found


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("x²", "x^{2}"), ("x⁻¹⁰", "x^{-10}"), ("½", "\\frac{1}{2}"), ("2⅜", "2\\frac{3}{8}"), ("−3", "-3"),
        ("４６", "46"), ("a\u200bb", "ab"), ("x₁", "x_{1}")
    ],
)  # fmt: skip
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    "text",
    ["", "2 3", "x 3", "1 +", "* 2", "(1", "1)", "[1}", "\\sum_{i=1}^3 i", "\\int x", "\\lim x",
     "\\frac{d}{dx} x^2", "\\frac{d^2}{dx^{2}}(x^2)", "\\frac{\\partial}{\\partial x} x",
     "f(x) :=", "1/2(3)", "a/b c", "x^{10001}",
     "sin^{-2} x",
     "1" * 2001, "(" * 60 + "1" + ")" * 60, "+".join("1" * (MAX_NODES // 2)), "\\sqrt", "\\frac{1}",
     "\\begin{pmatrix}1&2\\\\3\\end{pmatrix}", "1 ± 2 ± 3", "?", "{1,2}+3", "(1,2)*2"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)


@pytest.mark.parametrize(
    "text", ["46", "-46", "4.6", "1/3", "-1/3", "\\frac{1}{3}", "2\\frac{1}{2}", "3*10^5", "3\\times 10^{-5}", "9%"]
)
def test_finished_values(text: str) -> None:
    assert is_literal(read(text)) and not is_unfinished(read(text))


@pytest.mark.parametrize(
    "text", ["12+34", "6*7", "2(3)", "12-5", "\\sqrt{9+16}", "1/2+1/3", "(1+2)/4", "2^{3+4}", "5 \\bmod 3"]
)
def test_unfinished_values(text: str) -> None:
    assert is_unfinished(read(text)) and not is_literal(read(text))


@pytest.mark.parametrize(
    "text", ["2/4", "8/2", "2^10", "\\sqrt{2}", "5!", "1+\\sqrt{2}", "2\\pi", "x+1+2", "2\\cdot 3^5"]
)
def test_neither(text: str) -> None:
    assert not is_literal(read(text)) and not is_unfinished(read(text))


@pytest.mark.parametrize(
    "text", ["1,2;(3,4]", "x=1 or x=2", "5 km/h", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "no solution"]
)
def test_trees_travel_as_json(text: str) -> None:
    assert from_json(json.loads(json.dumps(read(text)))) == read(text)


@pytest.mark.parametrize("value", [None, 3, [], ["num", "1"], ["num", 1, []], ["add", "", [["num"]]]])
def test_no_other_json_is_a_tree(value: object) -> None:
    with pytest.raises(Unreadable):
        from_json(value)


@given(text=st.text(alphabet="0123456789+-*/^(){}[]=<>,. xyπ√²\\%!|_$&abcdefg", max_size=80))
def test_reading_ends_in_a_tree_or_a_refusal(text: str) -> None:
    for read_one in (read, question):
        with suppress(Unreadable):
            read_one(text)


@pytest.mark.parametrize("seed", range(40))
def test_trainer_and_worker_agree(seed: int) -> None:
    """Where exact rationals decide, algebra must say the same; the worker's leaf is here called in process."""
    generator = random.Random(seed)

    def tree(depth: int) -> Node:
        if depth == 0 or generator.random() < 0.2:
            return Node("num", str(generator.randrange(6)))
        op = generator.choice(["add", "mul", "div", "pow", "neg"])
        if op == "pow":
            return Node("pow", "", (tree(depth - 1), Node("num", str(generator.randrange(1, 4)))))
        return Node(op, "", tuple(tree(depth - 1) for _ in range(1 if op == "neg" else 2)))

    for _ in range(20):
        left, right = tree(3), tree(3)
        x = Node("sym", "x")  # x * left against x * right cannot be decided by rationals
        try:
            equal = Rational().equal(left, right)
            rational(left), rational(right)
        except (Undecided, Undefined):
            continue
        assert Symbolic().equal(Node("add", "", (x, left)), Node("add", "", (x, right))) == equal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1\\frac12", "-3/2"), ("2\\frac{1}{3}", "7/3"), ("3 \\cdot 2\\frac12", "15/2"), ("1 - 2\\frac12", "-3/2"),
        ("2 \\cdot \\frac12", "1"), ("2^2\\frac12", "2"), ("2^-1\\frac12", "1/4"), ("2\\frac{4}{2}", "4"),
        ("{3 \\over 4}", "3/4"),
    ],
)  # fmt: skip
def test_a_mixed_number_is_one_literal(text: str, value: str) -> None:
    """A sign or a factor before it takes all of it: -1 1/2 is -3/2, and 3 * 2 1/2 is 15/2. No exponent is its whole."""
    assert rational(read(text)) == Fraction(value)


@pytest.mark.parametrize("text", [", ".join(["apple"] * 300), "2_\\frac12", "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}"])
def test_refused_too(text: str) -> None:
    """Lists of words keep the budget, and a determinant is no matrix."""
    with pytest.raises(Unreadable):
        read(text)
