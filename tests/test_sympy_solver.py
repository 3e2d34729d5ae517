"""The maths verifier as a whole: strict pairs in both directions, solved queries, and what never may happen."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.sympy_solver import SympySolver


@pytest.fixture(scope="module")
def solver() -> Iterator[SympySolver]:
    made = SympySolver(deadline=20.0)  # far above what these need, on a machine however loaded
    yield made
    made.close()


def judge(solver: SympySolver, query: str, answer: str, reference: str = "") -> float:
    return solver([{"query": query, "answer": answer, "reference": reference}])[0]


EQUAL = [
    ("46", "46"), ("46", "46."), ("46", "**46**"), ("46", "$46$"), ("46", "= 46"), ("46", "\\boxed{46}"),
    ("46", "The answer is 46."), ("46", "So we add.\n#### 46"), ("46", "Answer: 46"), ("46", "\\(46\\)"),
    ("46", "4\u200b6"), ("46", "４６"), ("46", "46.0"), ("46", "x = 46"), ("-3", "\u22123"),
    ("46", "\\boxed{1} or \\boxed{46}"),
    ("46", "<think>\\boxed{5}</think> \\boxed{46}"),
    ("46", "Final Answer: The final answer is $46$. I hope it is correct."),
    ("1000", "1 000"), ("1000", "1,000"), ("1000", "1{,}000"), ("1000", "1\\,000"), ("1000", "10^3"), ("1500", "1.5e3"),
    ("1/2", "0.5"), ("1/2", "½"), ("1/2", "\\frac12"), ("1/2", "\\dfrac{1}{2}"), ("1/2", "2/4"),
    ("5/2", "2\\frac{1}{2}"),
    ("5/2", "2 1/2"), ("5/2", "2½"), ("1", "0.\\overline{9}"), ("1/3", "0.\\overline{3}"), ("0.09", "9%"),
    ("9%", "9 \\%"),
    ("-1", "e^{i\\pi}"), ("1/2", "\\sin 30^\\circ"), ("1/2", "sin 30 degrees"), ("1/2", "sin(30°)"), ("x^2", "x²"),
    ("\\sqrt{2}", "√2"), ("\\infty", "∞"), ("-\\infty", "-∞"), ("\\pi", "π"), ("2\\pi", "2π"),
    ("\\sqrt{8}", "2\\sqrt{2}"),
    ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"), ("(x+1)^2", "x^2+2x+1"), ("x+1", "\\frac{x^2-1}{x-1}"),
    ("xy", "y x"),
    ("3", "\\log_2 8"), ("2\\ln x", "\\ln(x)*2"), ("120", "5!"), ("120", "\\binom{10}{3}"),
    ("1", "\\sin^2 x + \\cos^2 x"),
    ("2, 3", "3, 2"), ("\\{2,3\\}", "{3, 2}"), ("2, 3", "x = 3 or x = 2"), ("\\pm 2", "2 and -2"),
    ("1 \\pm \\sqrt{2}", "1+√2, 1-√2"),
    ("(1,2)", "(1, 2)"), ("[1,2)", "\\left[1,2\\right)"), ("x>3", "(3,\\infty)"), ("(-1,3]", "-1 < x \\le 3"),
    ("\\emptyset", "∅"),
    ("(-\\infty,1)\\cup(2,\\infty)", "(2,∞) ∪ (-∞,1)"), ("V=\\pi r^2", "\\pi r^2"), ("y=2x+1", "2x - y + 1 = 0"),
    ("x<2", "2 > x"), ("x<2", "-x > -2"),
    ("5 km", "5000 m"), ("5 m", "5\\text{ m}"), ("5", "5 cm"), ("5 cm^2", "5 \\text{ cm}^2"), ("90 km/h", "25 m/s"),
    ("$5", "\\$5.00"),
    ("18", "$18"), ("30^\\circ", "30 degrees"), ("5m", "m*5"), ("listen", "Listen"),
    ("no solution", "\\text{No solution}"), ("C", "\\text{(C)}"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"), ("2+3i", "3i + 2"),
    ("2i", "\\sqrt{-4}"),
    ("-2", "\\sqrt[3]{-8}"), ("10^{-20}", "0.00000000000000000001"), ("\\frac{3x}{2}", "3x/2"), ]  # fmt: skip

DIFFERENT = [
    ("5", "5=5"), ("listen", "silent"), ("0.000000123", "0.000000321"), ("10^{-20}", "2*10^{-20}"), ("5 m", "5 km"),
    ("55", "1+2+3+4+5+6+7+8+9+10"), ("9", "9 %"), ("9", "9%"), ("46", "<think>\\boxed{46}</think>"),
    ("46", "<think>\\boxed{46}"),
    ("46", "12+34"), ("46", "12 + 34 = 47"), ("42", "6*7"), ("42", "6\\cdot 7"), ("42", "2(21)"),
    ("5", "\\sqrt{9+16}"), ("5/6", "1/2+1/3"),
    ("46", ""), ("46", "   "), ("46", "."), ("46", "I think the sum is 46 or so"), ("46", "46 46"), ("46", "45, 46"),
    ("46", "46 or 47"),
    ("46", "\\boxed{46} \\boxed{47}"), ("46", "\\boxed{}46"), ("46", "\\boxed{46"), ("46", "64"), ("46", "-46"),
    ("46", "4.6"), ("46", "460"),
    ("46", "46x"), ("46", "x"), ("46", "46 > 0"), ("46", "x > 46"), ("46", "1/0"), ("46", "\\infty"), ("46", "4 6"),
    ("46", "__import__('os')"),
    ("1/3", "0.333"), ("1/3", "0.3333333333333333"), ("\\sqrt{2}", "1.41421356237309505"), ("\\pi", "3.14"),
    ("\\pi", "22/7"), ("\\pi", "3.141592653589793238462643383279502884197169399375105820974944592307816406286"),
    ("\\sqrt{2}", "-\\sqrt{2}"), ("\\sqrt{x^2}", "x"), ("x^2", "x^3"), ("x^2", "2x"), ("x", "y"),
    ("(x+1)^2", "x^2+1"), ("x", "x + 10^{-60}"),
    ("\\sin x", "\\sin(x + 10^{-60})"), ("\\sin x", "\\cos x"), ("\\log x", "\\ln x"),
    ("e^{\\pi\\sqrt{163}}", "262537412640768744"), ("0", "\\sin(10^{-70})"),
    ("2, 3", "2"), ("2, 3", "2, 3, 4"), ("2, 3", "2, 2"), ("2", "2, 3"), ("\\{2,3\\}", "(2,3)"), ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("[1,2)", "(1,2]"), ("x<2", "x>2"), ("x<2", "x \\le 2"), ("x<2", "-x < -2"), ("x=5", "x=6"),
    ("y=2x+1", "2x+1"), ("y=2x+1", "y=2x-1"), ("x=5", "x^2=25"), ("5 m", "5"),
    ("5 m", "5 s"), ("5 cm^2", "5 cm"), ("90 km/h", "90 m/s"), ("$5", "5 euros"), ("30^\\circ", "30 radians"),
    ("5", "5x"), ("5", "5m"), ("\\tan 89^\\circ", "\\tan 90^\\circ"),
    ("no solution", "one solution"), ("Monday", "Tuesday"), ("C", "D"), ("C", "c"), ("yes", "no"), ("2+3i", "3+2i"),
    ("0", "0^0"), ("0", "\\infty - \\infty"), ("0", "0 * (1/0)"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}"),
    ("10^{12}", "10^{12}+1"), ("1", "0.99999999999999999999"), ("1", "1 + 10^{-60}"),
    ("5", "\\int_0^5 1 dx"), ("55", "\\sum_{i=1}^{10} i"), ("x=2, y=3", "x=3, y=2"), ("1000", "1,00"),
    ("8", "16/2(1+0)"), ("5", "x = 12 - 7"), ("1", "٢"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer"), EQUAL)
def test_golds_are_accepted(solver: SympySolver, reference: str, answer: str) -> None:
    assert judge(solver, "", answer, reference) == 1.0


@pytest.mark.parametrize(("reference", "answer"), DIFFERENT)
def test_near_misses_are_rejected(solver: SympySolver, reference: str, answer: str) -> None:
    assert judge(solver, "", answer, reference) == 0.0


def test_enough_pairs() -> None:
    assert len(set(EQUAL)) >= 80 and len(set(DIFFERENT)) >= 80 and not set(EQUAL) & set(DIFFERENT)


@pytest.mark.parametrize("reference", ["1/0", "0^0", "\\tan 90^\\circ", "\\ln 0", "x +", "\\foo{2}", "8/2(2+2)"])
def test_undefined_or_unreadable_references_are_nobodys_fault(solver: SympySolver, reference: str) -> None:
    for answer in ("4", reference):
        assert judge(solver, "", answer, reference) != 1.0
    assert math.isnan(judge(solver, "", "4", reference))


def test_the_question_restated_is_no_answer(solver: SympySolver) -> None:
    assert judge(solver, "What is 6/4?", "6/4", "3/2") == 0.0
    assert judge(solver, "What is 6/4?", "12/8", "3/2") == 1.0
    assert judge(solver, "What is 2^10?", "2^10", "1024") == 0.0
    assert judge(solver, "What is 12 + 34?", "12 + 34 = 46", "46") == 1.0


SOLVED = [
    ("12+34=?", "46"), ("What is 45 - 17?", "28"), ("7*8", "56"), ("Solve x + 5 = 12.", "7"), ("9 times 6", "54"),
    ("12 + 34", "46"),
    ("What is 12 + 34?", "46"), ("12+34 = ?", "12 + 34 = 46"), ("Compute 7 times 8.", "56"), ("6 * 7 =", "= 42"),
    ("x - 7 = 3, x = ?", "x = 10"),
    ("2x+3=11", "4"), ("If x + 4 = 9, what is x?", "x=5"), ("Solve for y: 2y = 5", "2.5"),
    ("Solve 2x+3=11 for x", "4"), ("$\\frac{1}{2}+\\frac{1}{3}$", "5/6"),
    ("Evaluate \\(3 \\cdot 4\\).", "12"), ("What is 3 x 4?", "12"), ("What is 15% of 80?", "12"),
    ("What is 100 divided by 8?", "12.5"),
    ("x^2 - 5x + 6 = 0", "2 or 3"), ("x^2 - 5x + 6 = 0", "{2, 3}"), ("x^2 - 5x + 6 = 0", "x = 2, x = 3"),
    ("x^2 = 9", "±3"), ("x^2+2x+1=0", "-1"),
    ("(x^2 - 3x)/x = 0", "3"), ("6/x = 2", "3"), ("x² = 2", "±√2"), ("x^2 = 2x + 1", "1+\\sqrt{2}, 1-\\sqrt{2}"),
    ("sin(30 degrees)", "1/2"), ("What is sqrt(8)?", "2√2"),
    ("What is 3 + 5!?", "123"), ("2^12", "4096"), ("1/3", "\\frac{1}{3}"), ("5 - -3", "8"), ("-2^2", "-4"),
    ("What is 7 squared?", "49"), ("12 + 34 = x", "x = 46"),
    ("What is 2.5 + 2.5?", "5"), ("1,000 + 1", "1,001"), ("Find x: 3x = 12", "\\boxed{4}"),
    ("What is the sum of 3 and 4?", "7"), ("What is 10^20 + 1?", "100000000000000000001"),
]  # fmt: skip
UNSOLVED_WRONG = [
    ("12 + 34", "12 + 34"), ("12 + 34", "12+34"), ("12 + 34", "34+12"), ("12 + 34", "45 + 1"),
    ("12 + 34", "46 = 46"), ("12 + 34", "4.6"), ("12 + 34", ""),
    ("12 + 34", "The sum 46"), ("12 + 34", "46, 46"), ("12 + 34", "92/2"), ("8/2", "8/2"), ("6/4", "6/4"),
    ("x + 5 = 12", "x + 5 = 12"), ("x + 5 = 12", "x = 12 - 5"),
    ("x + 5 = 12", "y = 7"), ("x + 5 = 12", "12 - 5"), ("x^2 - 5x + 6 = 0", "2"), ("x^2 - 5x + 6 = 0", "2, 4"),
    ("x^2 - 5x + 6 = 0", "2, 3, 4"), ("x^2=2", "√2"),
    ("x^2=2", "±1.41421356"), ("sin(30 degrees)", "1/3"), ("sqrt(16)", "sqrt(16)"), ("2^12", "2^12"),
    ("12 + 34", "12 + 34 = 47"), ("7*8", "78"), ("12 + 34", "(46, 46)"),
]  # fmt: skip
NO_MEANING = [
    "", "Hello", "7", "-5", "1/0", "1 - 1/(2-2)", "x = x", "0x = 3", "x + y = 3", "x^2 = -1", "8/2(2+2)",
    "12 + 34 = 46", "x^5 - x = 1", "(x^2-1)/(x-1) = 2", "1/x = 0",
    "Tom has 3 apples and buys 4 more. How many?", "What is 3 + 4 and 5 + 6?", "x + 2", "log(100)", "100 + 10%",
    "12 + 34 < 50", "2 3", "1 +", "9" * 3000, "(" * 400, "9^9^9^9",
    "What is the capital of France?", "12 + 34 (the answer is 5)", "0^0", "\\int e^{-x^2} dx",
]  # fmt: skip


@pytest.mark.parametrize(("query", "answer"), SOLVED)
def test_queries_are_solved(solver: SympySolver, query: str, answer: str) -> None:
    assert judge(solver, query, answer) == 1.0


@pytest.mark.parametrize(("query", "answer"), UNSOLVED_WRONG)
def test_wrong_answers_to_solved_queries(solver: SympySolver, query: str, answer: str) -> None:
    assert judge(solver, query, answer) == 0.0


@pytest.mark.parametrize("query", NO_MEANING)
def test_no_unique_meaning_is_nan(solver: SympySolver, query: str) -> None:
    assert math.isnan(judge(solver, query, "5"))


@given(
    a=st.integers(0, 10**6),
    b=st.integers(0, 10**6),
    form=st.sampled_from(["{}+{}=?", "What is {} + {}?", "{} plus {}"]),
)
def test_sums(solver: SympySolver, a: int, b: int, form: str) -> None:
    query, total = form.format(a, b), a + b
    assert judge(solver, query, str(total)) == 1.0
    wrong = [
        str(total + 1),
        str(total - 1),
        f"{a}+{b}",
        f"{a} + {b}",
        f"{b}+{a}",
        f"{total + 1}%",
        f"{total} = {total}",
    ]
    for swapped in (str(total)[::-1], str(total)[1:] + str(total)[0]):
        if int(swapped) != total:
            wrong.append(swapped)
    assert [judge(solver, query, answer) for answer in wrong] == [0.0] * len(wrong)


@given(a=st.integers(2, 99), root=st.integers(-99, 99), b=st.integers(0, 99))
def test_linear_equations(solver: SympySolver, a: int, root: int, b: int) -> None:
    query = f"Solve {a}x + {b} = {a * root + b}."
    assert [judge(solver, query, answer) for answer in (str(root), f"x = {root}")] == [1.0, 1.0]
    wrong = [str(root + 1), str(root - 1), f"x = {root + 1}", query, f"y = {root}", f"{root}, {root + 1}"]
    assert [judge(solver, query, answer) for answer in wrong] == [0.0] * len(wrong)


@given(first=st.integers(-50, 50), second=st.integers(-50, 50))
def test_quadratic_equations(solver: SympySolver, first: int, second: int) -> None:
    query = f"x^2 - ({first + second})x + ({first * second}) = 0"
    assert judge(solver, query, f"x = {first} or x = {second}") == 1.0
    assert judge(solver, query, f"{{{second}, {first}}}") == 1.0
    assert judge(solver, query, f"{first}, {second + 1}") == (1.0 if {first, second + 1} == {first, second} else 0.0)
    if first != second:
        assert judge(solver, query, str(first)) == 0.0


@given(text=st.text(max_size=200))
def test_any_text_is_judged(solver: SympySolver, text: str) -> None:
    assert judge(solver, "12 + 34", text) in (0.0, 1.0)


@given(text=st.text(alphabet="0123456789+-*/^(){}[]=<>,. x\\%!|_$&", max_size=60))
def test_any_query_is_judged(solver: SympySolver, text: str) -> None:
    assert judge(solver, text, "") != 1.0  # neither raises nor rewards an empty answer


HOSTILE = ["9^9^9^9", "(" * 1999, "9" * 1999, "-" * 1999 + "1", "2^" * 900 + "2", "sin " * 499 + "1", "1+" * 900 + "1",
           "√" * 1999 + "2",
           "\\frac{1}" * 200, "\\boxed{" * 250, "<think>" * 280, "((9^9999)^9999)", "9999999!!!!", "1e99999",
           "x^" * 500, "answer" + " " * 1900,
           "m" * 1999, "1 ± 1" + "+1" * 400, "{" * 1000 + "}" * 1000, "|" * 1000, "log_" * 400 + "2",
           "1," * 900 + "1"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_answers_and_queries(solver: SympySolver, text: str) -> None:
    assert judge(solver, "12 + 34", text) == 0.0
    assert judge(solver, "", text, "46") != 1.0
    assert judge(solver, text, "46") != 1.0


def test_no_text_is_run(solver: SympySolver, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for code in (
        f"__import__('os').system('touch {mark}')",
        f"(lambda: open('{mark}', 'w'))()",
        f"[c for c in ().__class__.__base__.__subclasses__()][0] or open('{mark}', 'w')",
        f"Symbol('x').subs(open('{mark}','w'), 1)",
        f"\\write18{{touch {mark}}}",
    ):
        for case in ((code, "1", ""), ("12 + 34", code, ""), ("", "1", code), ("", code, "1"), ("", code, "\\sqrt{2}")):
            assert judge(solver, *case) != 1.0
    assert not mark.exists()


def test_a_hang_is_nan_and_counted() -> None:
    solver = SympySolver(deadline=0.05)
    deep = "+".join(f"\\sin(x^{{{k}}})^{{9999}}" for k in range(2, 14))
    score = judge(solver, "", f"{deep} + 10^{{-5000}}", deep)
    counts = solver.metrics()
    assert math.isnan(score) and counts["timeouts"] == 1.0
    assert solver.metrics()["timeouts"] == 0.0
    solver.close()


def test_metrics_count_and_reset() -> None:
    solver = SympySolver()
    judge(solver, "Hello", "5")
    judge(solver, "12 + 34", "???")
    assert solver.metrics() == {"timeouts": 0.0, "worker_deaths": 0.0, "unsolved": 1.0, "unreadable_answers": 1.0}
    assert not any(solver.metrics().values())


def test_the_trainer_never_imports_sympy() -> None:
    code = (
        "import sys; from verifiers.sympy_solver import SympySolver; s = SympySolver();"
        "print(s([dict(query='12+34', answer='46', reference=''), dict(query='', answer='1/2', reference='0.5')]));"
        "print([name for name in ('sympy', 'mpmath') if name in sys.modules], s._worker.pids)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[1.0, 1.0]", "[] ()"]


@pytest.mark.parametrize(
    "module", sorted((Path(__file__).resolve().parent.parent / "verifiers" / "maths").glob("*.py"))
)
def test_nothing_is_evaluated_as_code(module: Path) -> None:
    source = module.read_text()
    for banned in ("parse_expr", "sympify", "lambdify", "eval(", "exec(", "signal.alarm", "import pickle"):
        assert banned not in source


@pytest.mark.parametrize("reference", ["==", "%\n=", "so\n= "])
def test_a_reference_that_says_nothing_is_nan(solver: SympySolver, reference: str) -> None:
    assert math.isnan(judge(solver, "", "5", reference))
