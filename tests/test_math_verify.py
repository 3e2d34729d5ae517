"""math-verify beside our own verifier: killable, never in the way, and named where it is missing."""

from __future__ import annotations

import importlib.util
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfplay.deadline import DeadlinePassed, deadline
from tests.maths_hostile import CANARY, CODE
from verifiers.math_verify import MathVerify

HANG = "9^{9^{9^{9}}}"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed: an optional extra"
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerify]:
    made = MathVerify(deadline=20.0)
    yield made
    made.close()


def judge(verifier: MathVerify, answer: str, reference: str) -> float:
    return verifier([{"query": "", "answer": answer, "reference": reference}])[0]


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("5", "5"), ("1/2", "0.5"), ("\\frac{1}{2}", "\\boxed{\\frac12}"), ("x^2-1", "$(x-1)(x+1)$"), ("2", "\\sqrt{4}")],
)
def test_golds(verifier: MathVerify, reference: str, answer: str) -> None:
    assert judge(verifier, answer, reference) == 1.0


@pytest.mark.parametrize(("reference", "answer"), [("5", "6"), ("1/2", "1/3"), ("x^2", "x^3"), ("5", ""), ("5", "  ")])
def test_near_misses(verifier: MathVerify, reference: str, answer: str) -> None:
    assert judge(verifier, answer, reference) == 0.0


def test_no_reference_is_nan(verifier: MathVerify) -> None:
    assert math.isnan(judge(verifier, "5", "")) and math.isnan(judge(verifier, "5", " \n"))


def test_a_hang_is_killed_and_counted() -> None:
    """Its own time-outs are off; past ours the worker is killed, the case nan, and the next one judged."""
    verifier = MathVerify(deadline=1.0)
    assert math.isnan(judge(verifier, "x+\\sqrt{2}", HANG))
    counts = verifier.metrics()
    assert counts["timeouts"] + counts["worker_deaths"] == 1.0
    assert not any(verifier.metrics().values())
    verifier.close()


def test_it_works_in_a_thread_and_leaves_signals_alone(verifier: MathVerify) -> None:
    before = signal.getsignal(signal.SIGALRM)
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(judge(verifier, "0.5", "1/2")))
    thread.start()
    thread.join()
    assert found == [1.0] and signal.getsignal(signal.SIGALRM) is before


def test_the_callers_deadline_is_let_through(verifier: MathVerify) -> None:
    assert judge(verifier, "5", "5") == 1.0  # the worker is up
    with deadline(0.3), pytest.raises(DeadlinePassed):
        judge(verifier, "x+\\sqrt{2}", HANG)


def test_no_text_is_run(verifier: MathVerify, tmp_path: Path) -> None:
    cases = [
        {"query": "", "answer": answer, "reference": reference}
        for code in CODE
        for text in [code.replace(CANARY, str(tmp_path / "mark"))]
        for answer, reference in ((text, "1"), (f"${text}$", "1"))
    ]
    verifier(cases)
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_never_imports_it() -> None:
    code = (
        "import sys; from verifiers.math_verify import MathVerify; v = MathVerify();"
        "print([name for name in ('math_verify', 'sympy') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_said_in_one_sentence() -> None:
    """In an interpreter that sees the standard library and our checkout only."""
    root = Path(__file__).resolve().parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from verifiers.math_verify import MathVerify\n"
        "try: MathVerify()\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "math-verify[antlr4_9_3]"' in done.stdout and done.stdout.count("\n") == 1
