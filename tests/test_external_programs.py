"""The programs that are shipped for ``verifier=external``: a C compiler, and z3 twice."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from selfplay.testing import NASTY
from selfplay.types import Case
from tests.test_external import PROGRAMS, case, counts
from verifiers.external import External


def judged(program: str, *cases: Case) -> list[float]:
    """All cases by one program."""
    return External(str(PROGRAMS / f"{program}.py"), batch=True, timeout=60.0)(cases)


def block(source: str) -> Case:
    return case(f"Here it is:\n```c\n{source}\n```\nThat is all.")


C_GOLDS = (
    "int main(void) { return 0; }",
    '#include <stdio.h>\n#include <sys/types.h> // two\n#pragma once\nint main(void) { puts("#1"); return 0; }',
    "// include the sum\nint include = 1;",
)
C_WRONG = (
    "int main(void) { return 0 }",
    "int f(void) { return undeclared(); }",
    "x = 1;",
    "void f(int *p) { char *c = p; }",
    "",
)
C_OPENS = (
    '#include "/etc/passwd"',
    "#include </etc/passwd>",
    "#include <../../etc/passwd>",
    '#inc\\\nlude "/dev/zero"',
    '#inc\\  \nlude "/dev/zero"',
    '#in??/\x0aclude "/dev/zero"',
    '%:include "/dev/zero"',
    '??=include "/dev/zero"',
    '# /* x */ include "/dev/zero"',
    '#/*\n*/include "/dev/zero"',
    '#define A "/dev/zero"\n#include A',
    "#if __has_include(</etc/passwd>)\n#endif",
    '_Pragma("GCC dependency \\"/etc/passwd\\"")',
    '#pragma GCC dependency "/etc/passwd"',
    '#embed "/etc/passwd"',
    '#import "/dev/zero"',
    '#include_next "/dev/zero"',
)


needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler called cc on this machine")


@needs_cc
def test_a_c_compiler_as_verifier() -> None:
    """A block that would open a file of its own choice is refused before the compiler sees it, though it compiles
    otherwise: `int a;` follows each."""
    assert judged("compiles_c", *map(block, C_GOLDS)) == [1.0] * len(C_GOLDS)
    assert judged("compiles_c", *map(block, C_WRONG)) == [0.0] * len(C_WRONG)
    opening = [block(f"{line}\nint a;") for line in C_OPENS]
    assert judged("compiles_c", *opening) == [0.0] * len(opening)
    two = case("```c\nint a\n```\nNo:\n```C\nint a;\n```")
    others = [case(""), case("int a;"), case("```python\nint a;\n```"), case("```c\nint a;"), *map(case, NASTY)]
    assert judged("compiles_c", two, *others) == [1.0] + [0.0] * len(others)


@needs_cc
def test_reading_a_block_takes_linear_time() -> None:
    """Fences without end, comments without end, many comments: an expression that tries again would take minutes, and
    the score would be nan for what is the answer's fault."""
    hostile = ["```c\n" * 10_000, "```c\n" + "#/*" * 15_000 + "\n```", "```c\n#" + "/**/" * 10_000 + "x\n```"]
    hostile += ["```c\n" + "\\   " * 10_000 + "\n```", " " * 50_000 + "```c", "```c\n" + " " * 40_000 + "\n" + "`" * 9]
    program = External(str(PROGRAMS / "compiles_c.py"), batch=True, timeout=20.0)
    assert program([case(answer) for answer in hostile]) == [0.0] * len(hostile)


def test_without_a_compiler_nothing_is_scored(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    program = External(str(PROGRAMS / "compiles_c.py"))
    assert math.isnan(program([block("int a;")])[0])
    assert counts(program) == {"programs": 1.0, "bad_exit": 1.0} and "needs a C compiler" in caplog.text


@pytest.mark.parametrize(
    ("query", "right", "wrong"),
    [
        ("12 + 34 = ?", ["46", " 46.", "+46", "92/2", "46.0"], ["47", "12 + 34", "", "46 46", "x = 46", "forty-six"]),
        ("What is 7 - 12?", ["-5", "\u22125"], ["5"]),
        ("12 times 3?", ["36"], ["15"]),
        ("1 / 3 = ?", ["1/3"], ["0.333", "1/0", "0.(3)"]),
        ("0.1 + 0.2 = ?", ["0.3", "3/10"], ["0.30000000000000004"]),
        ("Solve x + 5 = 12.", ["7", "x = 7"], ["17", "y = 7"]),
        ("x - 5 = 12, x = ?", ["17"], ["7"]),
        ("99999999999 * 99999999999 = ?", ["9999999999800000000001"], ["9999999999800000000000"]),
        ("2 * (3 + 4) / 7 - -1 = ?", ["3"], ["1"]),
    ],
)
def test_z3_proves_answers(query: str, right: list[str], wrong: list[str]) -> None:
    scores = judged("proves", *(case(answer, query) for answer in (*right, *wrong)))
    assert scores == [1.0] * len(right) + [0.0] * len(wrong)


def test_z3_does_not_guess() -> None:
    """No question, none with a value, or none with one value: nobody's answer is at fault."""
    unclear = [
        "", "hello", "1 / 0 = ?", "1 / (2 - 2) = ?", "x * x = 4, x = ?", "x * x = 0 - 1, x = ?", "x + y = 3, x = ?",
        "2 = 2", "12 12 = ?", "12 + = ?", "((((1 = ?", "1 / x = 2, x = ?", "(" * 400, "9" * 400, *NASTY,
    ]  # fmt: skip
    assert all(math.isnan(score) for score in judged("proves", *(case("2", query) for query in unclear)))


LARGER = """(synth-fun larger ((x Int) (y Int)) Int)
(declare-var a Int) (declare-var b Int) ; for all of them
(define-fun known ((x Int) (y Int)) Int (ite (> x y) x y))
(constraint (and (>= (larger a b) a) (>= (larger a b) b)))
(constraint (or (= (larger a b) a) (= (larger a b) b)))
(check-synth)"""


def test_z3_proves_that_a_term_meets_a_specification() -> None:
    right = ["(ite (> x y) x y)", "Indeed:\n```smt2\n(ite (<= x y) y x)\n```", "(let ((m (> x y))) (ite m x y))"]
    wrong = ["x", "(ite (> x y) y x)", "(+ x y)", "5", ""]
    cheats = [
        "(known x y)", "(larger x y)", "a", "(ite (> a b) a b)", "x) (assert false", "x) (exit", "(> x y)", "|x|",
        "(ite (> x y) x", "x y", "(! x :named y)", "(forall ((z Int)) true)", '"x"', *NASTY,
    ]  # fmt: skip
    cases = [case(answer, reference=LARGER) for answer in (*right, *wrong, *cheats)]
    assert judged("meets_spec", *cases) == [1.0] * len(right) + [0.0] * (len(wrong) + len(cheats))


def test_a_faulty_specification_judges_nobody(tmp_path: Path) -> None:
    target = tmp_path / "written"
    head = "(synth-fun n () Int)"
    assert judged(
        "meets_spec", case("6", reference=head + "(declare-const k Int)(assume (= k 3))(constraint (= n (* 2 k)))")
    )
    faulty = [
        "", "n is six", head, "(constraint (= 1 1))", head + "(assert false)(constraint (= n 6))",
        head + "(assert (= n 5))(constraint (= n 6))", head + "(constraint (= m 6))", head + "(constraint 6)",
        head + "(define-fun m () Int n)(assert (= m 5))(constraint (= n 6))", head + head + "(constraint (= n 6))",
        f'(set-option :regular-output-channel "{target}"){head}(constraint (= n 6))', head + "(constraint (= n 6)",
    ]  # fmt: skip
    assert all(math.isnan(score) for score in judged("meets_spec", *(case("6", reference=text) for text in faulty)))
    assert not target.exists()


def test_shipped_programs_stand_alone() -> None:
    """They import nothing of ours, so that a user may copy one and begin there."""
    for file in PROGRAMS.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "from verifiers" not in text and "from selfplay" not in text, file.name
