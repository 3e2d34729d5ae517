"""Queries without a reference that ask for calculus, systems and higher polynomials: solved here, or nan."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.deadline import DeadlinePassed, deadline
from verifiers.maths.differentiate import derivative
from verifiers.maths.exact import rational
from verifiers.maths.numerals import in_digits, number
from verifiers.maths.tasks import task
from verifiers.maths.tree import Node, Unreadable
from verifiers.maths.values import read
from verifiers.sympy_solver import SympySolver


@pytest.fixture(scope="module")
def solver() -> Iterator[SympySolver]:
    made = SympySolver(deadline=20.0)  # far above what these need, on a machine however loaded
    yield made
    made.close()


def judge(solver: SympySolver, query: str, answer: str) -> float:
    return solver([{"query": query, "answer": answer, "reference": ""}])[0]


PRODUCT, CUBE, SQUARE, SUM, PAIR = (
    "derivative of x^2 sin x",
    "d/dx x^3",
    "\\int x^2 dx",
    "Solve x + y = 5, x - y = 1",
    ("Solve for x and y: x + y = 3, xy = 2"),
)
RIGHT = {
    PRODUCT: ["2x sin x + x^2 cos x", "x(2 sin x + x cos x)", "f'(x) = 2x\\sin x + x^2\\cos x"],
    CUBE: ["3x^2", "f'(x) = 3x^2", "y' = 3x^2", "d/dx x^3 = 3x^2", "\\frac{dy}{dx} = 3x^{2}", "\\boxed{3x^2}",
        "3*x*x"],
    "\\frac{d}{dx} x^3": ["3x^2", "\\frac{d}{dx} x^3 = 3x^2"],
    "differentiate 5t^2 with respect to t": ["10t"],
    "\\frac{d^2}{dx^2} x^5": ["20x^3"], "Find the second derivative of x^4.": ["12x^2"],
    "If f(x) = x^3, find f'(2).": ["12", "f'(2) = 12"], "Find dy/dx if y = x^2": ["2x", "dy/dx = 2x"],
    "What is the derivative of sin(x) at x = 0?": ["1"], "derivative of ln x": ["1/x", "x^{-1}"],
    "derivative of 2^x": ["2^x \\ln 2"], "derivative of e^x": ["e^x"], "derivative of x^x": ["x^x(1 + \\ln x)"],
    "derivative of |x|": ["\\frac{|x|}{x}"], "derivative of \\sqrt{x}": ["\\frac{1}{2\\sqrt{x}}"],
    "derivative of \\arctan x": ["\\frac{1}{1+x^2}"], "derivative of \\log_2 x": ["\\frac{1}{x \\ln 2}"],
    SQUARE: ["x^3/3 + C", "x^3/3", "x^3/3 + 7", "\\int x^2 dx = \\frac{x^3}{3}+C", "x^3/3 + constant", "F(x) = x^3/3"],
    "\\int \\frac{1}{x} dx": ["\\ln|x| + C", "\\ln x + C"], "∫ 2x dx": ["x² + C"],
    "antiderivative of \\cos x": ["\\sin x + C"], "integrate sin x cos x dx": ["\\frac{\\sin^2 x}{2}",
        "-\\cos^2(x)/2 + C"],
    "\\int_0^1 x^2 dx": ["1/3", "\\frac13"], "integrate x^2 from 0 to 1": ["1/3"],
    "\\int_{0}^{\\pi} \\sin x \\, dx": ["2"], "\\int_1^e \\frac1x dx": ["1"], "\\int_0^1 e^x dx": ["e - 1"],
    "\\int_1^\\infty \\frac{1}{x^2} dx": ["1"], "\\int_{-\\infty}^{\\infty} e^{-x^2} dx": ["\\sqrt{\\pi}"],
    SUM: ["x = 3, y = 2", "y = 2, x = 3", "(3, 2)", "(x,y) = (3,2)", "(y,x) = (2,3)", "x=3 and y=2"],
    PAIR: ["(1,2), (2,1)", "x=1, y=2 or x=2, y=1", "\\{(2,1),(1,2)\\}"],
    "Solve the system of equations: 2x + 3y = 7 and x - y = 1.": ["x = 2, y = 1"],
    "\\begin{cases} x+y=3 \\\\ x-y=2 \\end{cases}": ["(5/2, 1/2)"],
    "x + y + z = 6, x - y = 0, z = 2": ["(2,2,2)"], "x^2+y^2=25, y=x+1": ["(3,4), (-4,-3)"],
    "x^2 = 2, y = x + 1": ["(\\sqrt2, 1+\\sqrt2), (-\\sqrt2, 1-\\sqrt2)"],
    "If x + y = 3 and xy = 2, find x^2 + y^2.": ["5"], "If x + y = 10 and x - y = 2, what is x?": ["6", "x = 6"],
    "what is xy if x+y=3 and x-y=1": ["2"],
    "x^3 - 6x^2 + 11x - 6 = 0": ["1, 2, 3", "x = 3, x = 2, x = 1"], "x^3 = 2": ["\\sqrt[3]{2}", "2^{1/3}"],
    "x^4 - 5x^2 + 6 = 0": ["\\pm\\sqrt2, \\pm\\sqrt3"], "x^5 = 1": ["1"], "x^4 = 1": ["±1"],
        "x^3 - x = 0": ["{-1,0,1}"],
    "x^3 - 3x + 1 = 0": ["2\\cos(40°), 2\\cos(80°), 2\\cos(160°)"],
    "What is twelve plus thirty-four?": ["46", "forty-six"], "What is two hundred divided by eight?": ["25"],
}  # fmt: skip
WRONG = {
    PRODUCT: ["2x cos x", "x^2 cos x", "derivative of x^2 sin x", ""],
    CUBE: ["x^3", "3x", "3y^2", "d/dx x^3", "3x^2 + C", "f'(x) = 2x", "x^4/4", "3x^2 + 0.0001"],
    "\\frac{d}{dx} x^3": ["\\frac{d}{dx} x^3", "\\frac{d}{dx}(x^3)"], "d/dx x": ["\\frac{d}{dx} x",
        "\\frac{d}{dx}(x)"],
    "If f(x) = x^3, find f'(2).": ["3*4", "8", "3x^2"], "derivative of |x|": ["1"],
    SQUARE: ["2x", "x^3", "x^3/3 + Cx", "\\int x^2 dx", "x^3/3 + x", "x^3/3 + y", "x^3/3 + \\lfloor x \\rfloor", "5"],
    "\\int_0^1 x^2 dx": ["0.333", "\\int_0^1 x^2 dx", "1/3 + C", "x^3/3", "2/6"], "\\int_0^1 e^x dx": ["1.718", "e"],
    SUM: ["(2, 3)", "x=3", "x = 2, y = 3", "x + y = 5, x - y = 1", "3, 2", "x = 3, y = 2, z = 1", "5", "x = 3, x = 2"],
    PAIR: ["(1,2)", "(1,2), (1,2)", "(1,2), (2,1), (3,0)"], "x+y=1, x-y=0": ["(1-1/2, 1/2)"],
    "If x + y = 3 and xy = 2, find x^2 + y^2.": ["x^2+y^2", "9", "2+3"],
    "x^3 - 6x^2 + 11x - 6 = 0": ["1, 2", "1, 2, 4", "1, 2, 3, 4", "x^3 - 6x^2 + 11x - 6 = 0"],
    "x^3 = 2": ["1.26", "\\sqrt{2}", "\\pm\\sqrt[3]{2}"], "x^3 - 3x + 1 = 0": ["0"],
    "What is twelve plus thirty-four?": ["twelve plus thirty-four", "forty-seven", "12 + 34"],
}  # fmt: skip
CANNOT_TELL = [
    "\\int e^{-x^2} dx", "\\int_{-1}^{1} \\frac{1}{x^2} dx", "\\int_{-1}^{1} \\frac{1}{x} dx",
    "\\int_0^1 \\frac{1}{x} dx",
    "\\int_0^{\\infty} \\sin x dx", "\\int_0^a x dx", "\\int_0^10 x dx", "\\int x^2", "x+y=1, x+y=2",
    "x+y=1, 2x+2y=2", "x^2+y^2=-1, x=y",
    "If x + y = 3 and xy = 2, find x - y", "x^5 - x = 1", "x^2 = -1", "x^2/x = 0", "x/y = 1, x = y",
    "derivative of xy",
    "derivative of \\lfloor x \\rfloor", "derivative of x^2 and x^3", "Tom has x=3 and y=4 apples, how many?",
    "derivative of",
    "\\sum_{k=1}^{3} k", "\\lim_{x \\to 0} x", "integrate x^2 quickly", "solve sin x = 0",
]  # fmt: skip


@pytest.mark.parametrize(("query", "answer"), [(query, answer) for query in RIGHT for answer in RIGHT[query]])
def test_solved(solver: SympySolver, query: str, answer: str) -> None:
    assert judge(solver, query, answer) == 1.0


@pytest.mark.parametrize(("query", "answer"), [(query, answer) for query in WRONG for answer in WRONG[query]])
def test_wrong(solver: SympySolver, query: str, answer: str) -> None:
    assert judge(solver, query, answer) == 0.0


@pytest.mark.parametrize("query", CANNOT_TELL)
def test_not_solved_is_nan(solver: SympySolver, query: str) -> None:
    assert math.isnan(judge(solver, query, "5"))


COEFFICIENTS = st.lists(st.integers(-9, 9), min_size=1, max_size=5)


def polynomial(coefficients: list[int]) -> str:
    return " + ".join(f"({value})x^{{{power}}}" for power, value in enumerate(coefficients) if power) or "0x"


@settings(max_examples=25)
@given(coefficients=COEFFICIENTS, constant=st.integers(-99, 99))
def test_integration_undoes_differentiation(solver: SympySolver, coefficients: list[int], constant: int) -> None:
    """d/dx (sum c_k x^k) = sum k c_k x^(k - 1), and back up to a constant; one coefficient changed is wrong."""
    text = polynomial(coefficients)
    slope = " + ".join(f"{k}*({c})x^{k - 1}" if k > 1 else f"({c})" for k, c in enumerate(coefficients) if k) or "0"
    if any(coefficients[2:]):  # with an unknown left, a sum is an expression and no arithmetic left undone
        assert judge(solver, f"derivative of {text} with respect to x", slope) == 1.0
        assert judge(solver, f"derivative of {text} with respect to x", f"{slope} + x") == 0.0
        assert judge(solver, f"\\int ({slope}) dx", f"{text} + {constant}") == 1.0
        assert judge(solver, f"\\int ({slope}) dx", f"{text} + {constant}x + x^9") == 0.0


@settings(max_examples=25)
@given(x=st.integers(-20, 20), y=st.integers(-20, 20), rows=st.lists(st.integers(-5, 5), min_size=4, max_size=4))
def test_linear_systems(solver: SympySolver, x: int, y: int, rows: list[int]) -> None:
    a, b, c, d = rows
    query = f"Solve ({a})x + ({b})y = {a * x + b * y}, ({c})x + ({d})y = {c * x + d * y}"
    verdicts = [judge(solver, query, answer) for answer in (f"x = {x}, y = {y}", f"({x + 1}, {y})")]
    assert verdicts == [1.0, 0.0] if a * d != b * c else all(map(math.isnan, verdicts))


@given(value=st.fractions(min_value=-20, max_value=20, max_denominator=9))
def test_a_derivative_by_rule_is_the_difference_quotients_limit(value: Fraction) -> None:
    """x^3 - 2x + 1/x at v is 3 v^2 - 2 - 1/v^2, in exact rationals."""
    if not value:
        return
    slope = derivative(read("x^3 - 2x + 1/x"), "x")

    def put(node: Node) -> Node:
        if node.op == "sym":
            return Node("rat", f"{value.numerator}/{value.denominator}")
        return Node(node.op, node.text, tuple(map(put, node.args)))

    assert rational(put(slope)) == 3 * value**2 - 2 - 1 / value**2


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("zero", 0), ("twelve", 12), ("twenty-one", 21), ("Twenty one", 21), ("one hundred and five", 105),
        ("two hundred and five thousand", 205_000), ("one million two hundred thousand three", 1_200_003),
        ("two thousand and one", 2001), ("two three", None), ("one twenty", None), ("twenty ten", None), ("hundred",
        None),
        ("five thousand and", None), ("and five", None), ("twenty zero", None), ("three million thousand", None),
        ("", None),
    ],
)  # fmt: skip
def test_numerals(words: str, value: int | None) -> None:
    assert number(words) == value


def test_numerals_in_a_sentence() -> None:
    assert in_digits("What is three and four plus twenty-one?") == "What is 3 and 4 plus 21?"
    assert in_digits("someone often ones two three") == "someone often ones two three"


def test_a_task_is_read_whole() -> None:
    assert task("d/dx x^3").args == task("Differentiate x^3 with respect to x.").args
    for text in (
        "d/dx x^3 please hurry",
        "\\int_0^1 x^2",
        "x + y = 1",
        "x < 1, y > 2",
        "derivative of x^2 = 3",
        "x" * 500,
    ):
        with pytest.raises(Unreadable):
            task(text)


def test_equal_cases_are_decided_once(solver: SympySolver) -> None:
    solver.metrics()
    case = {"query": "Hello", "answer": "5", "reference": ""}
    assert all(map(math.isnan, solver([case] * 50))) and solver.metrics()["unsolved"] == 1.0


def test_the_callers_deadline_is_let_through() -> None:
    solver = SympySolver(deadline=30.0)
    slow = {"query": "", "answer": "1", "reference": "\\lfloor (\\sqrt{2}+1)^{9999} \\rfloor"}
    assert judge(solver, "x^3 = 2", "1") == 0.0  # the worker is up
    with deadline(0.3), pytest.raises(DeadlinePassed):
        solver([slow])
    assert solver.metrics()["timeouts"] == 0.0 and judge(solver, "x^3 = 2", "1") == 0.0
    solver.close()


def test_two_threads_may_ask(solver: SympySolver) -> None:
    cases = [{"query": query, "answer": RIGHT[query][0], "reference": ""} for query in list(RIGHT)[:20]]
    found: list[list[float]] = []
    threads = [threading.Thread(target=lambda: found.append(solver(cases))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[1.0] * 20] * 2
