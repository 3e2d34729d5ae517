"""Exact rationals and equations: against Python's own fractions, and under their budgets."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.maths.exact import (
    FAST_BITS,
    NotRational,
    TooBig,
    Undefined,
    rational,
    root,
    size,
)
from verifiers.maths.solve import NoAnswer, roots
from verifiers.maths.tree import Node
from verifiers.maths.values import read

SMALL = st.fractions(min_value=-50, max_value=50, max_denominator=12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14), ("(2+3)*4", 20), ("2-3-4", -5), ("24/4/2", 3), ("-2^2", -4), ("(-2)^2", 4), ("2^3^2", 512),
        ("2^{-1}", Fraction(1, 2)),
        ("0.1+0.2", Fraction(3, 10)), ("\\frac{1}{3}+\\frac{1}{6}", Fraction(1, 2)), ("3!", 6), ("2^3!", 64),
        ("50\\%", Fraction(1, 2)), ("4^{1/2}", 2),
        ("\\sqrt{16/9}", Fraction(4, 3)), ("\\sqrt[3]{-27}", -3), ("|-3|", 3), ("\\lfloor 7/2 \\rfloor", 3),
        ("\\binom{5}{2}", 10), ("\\gcd(12,18)", 6),
        ("0.1\\overline{6}", Fraction(1, 6)), ("12(3)", 36), ("1.5e-3", Fraction(3, 2000)), ("3*-4", -12),
        ("8^{2/3}", 4), ("17 \\bmod 5", 2), ("2**5", 32),
    ],
)  # fmt: skip
def test_values(text: str, value: int | Fraction) -> None:
    assert rational(read(text)) == value


@pytest.mark.parametrize("text", ["1/0", "0^0", "0^{-1}", "1/(2-2)", "5 \\bmod 0", "(-1)!", "(1/2)!"])
def test_undefined(text: str) -> None:
    with pytest.raises(Undefined):
        rational(read(text))


@pytest.mark.parametrize(
    "text", ["2^{9999}", "9^9^9", "9999!", "1e9999", "(10^{200})^{100}", "((2^{60})^{60})^{60}", "2^{3000}*3^{1500}"]
)
def test_too_big_is_refused_before_it_is_computed(text: str) -> None:
    with pytest.raises(TooBig):
        rational(read(text))


@pytest.mark.parametrize("text", ["x", "\\sqrt{2}", "\\pi", "\\sin 0", "2^{1/2}", "(-8)^{1/3}"])
def test_not_rational(text: str) -> None:
    with pytest.raises(NotRational):
        rational(read(text))


@st.composite
def trees(draw: st.DrawFn) -> Node:
    leaf = st.integers(0, 10**6).map(lambda value: Node("num", str(value)))
    pair = st.sampled_from(["add", "mul", "div", "pow"])
    return draw(
        st.recursive(
            leaf, lambda inner: st.builds(lambda op, a, b: Node(op, "", (a, b)), pair, inner, inner), max_leaves=30
        )
    )


@given(tree=trees())
def test_results_stay_under_the_budget(tree: Node) -> None:
    with suppress(TooBig, Undefined, NotRational):
        assert size(rational(tree)) <= FAST_BITS


@given(value=SMALL, degree=st.integers(1, 9))
def test_roots_of_powers(value: Fraction, degree: int) -> None:
    assert root(value**degree, degree) == (value if degree % 2 else abs(value))


@given(value=st.integers(2, 10**40), degree=st.integers(2, 9))
def test_no_root_is_rounded(value: int, degree: int) -> None:
    with pytest.raises(NotRational):
        root(Fraction(value**degree + 1), degree)


def literal(value: Fraction) -> str:
    return f"({value.numerator})/{value.denominator}"


@given(a=SMALL.filter(bool), x=SMALL, b=SMALL)
def test_linear(a: Fraction, x: Fraction, b: Fraction) -> None:
    left, right = read(f"({literal(a)})*x+({literal(b)})"), read(f"{literal(a * x + b)}")
    assert roots(left, right, "x") == (x,)
    assert roots(right, left, "x") == (x,)


@given(a=SMALL.filter(bool), p=SMALL, q=SMALL)
def test_quadratic(a: Fraction, p: Fraction, q: Fraction) -> None:
    left = read(f"({literal(a)})(x-({literal(p)}))(x-({literal(q)}))")
    assert roots(left, Node("num", "0"), "x") == tuple(sorted({p, q}))


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        ("6/x", "2", (3,)), ("1/(1/x)", "4", (4,)), ("x^2/x", "3", (3,)), ("(x+1)/(x-1)", "2", (3,)),
        ("x/2+x/3", "5", (6,)), ("x^3-x^3+x", "1", (1,))
    ],
)  # fmt: skip
def test_fractions_of_polynomials(left: str, right: str, found: tuple[int, ...]) -> None:
    assert roots(read(left), read(right), "x") == found


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x", "x"), ("x", "x+1"), ("x^2", "-1"), ("1/x", "0"), ("x^2/x", "0"), ("1/(1/x)", "0"), ("1/0*x", "1"),
        ("x^4", "1"), ("\\sin x", "0"), ("2^x", "8"), ("x^0", "1"), ("0/x", "0"), ("x^9999", "1")
    ],
)  # fmt: skip
def test_no_unique_meaning(left: str, right: str) -> None:
    with pytest.raises(NoAnswer):
        roots(read(left), read(right), "x")
