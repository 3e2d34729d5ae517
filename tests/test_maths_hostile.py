"""No text runs as code, none hangs the trainer, none takes more memory than the worker has; in every slot."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.maths_hostile import CANARY, CODE, HANGING_QUERIES, HANGS
from verifiers.sympy_solver import SympySolver

DEADLINE = 0.2
GRACE = 20.0
"""Seconds for a loaded machine to start another worker; the benchmark prints what a hang really costs."""


@pytest.fixture(scope="module")
def solver() -> Iterator[SympySolver]:
    made = SympySolver(deadline=DEADLINE)
    yield made
    made.close()


def slots(text: str) -> list[dict[str, str]]:
    """The text as query, as answer and as reference, alone and beside something that needs the worker."""
    rows = [(text, "1", ""), ("12 + 34", text, ""), ("", "1", text), ("", text, "1"), ("", text, "\\sqrt{2}")]
    rows += [
        ("derivative of x^2", text, ""),
        ("derivative of " + text, "1", ""),
        ("Solve x + y = 1, x - y = " + text, "1", ""),
    ]
    return [{"query": query, "answer": answer, "reference": reference} for query, answer, reference in rows]


def test_the_lists_are_long() -> None:
    assert len(set(CODE)) >= 40 and len(set(HANGS)) >= 30


@pytest.mark.parametrize("code", CODE)
def test_no_text_is_run(solver: SympySolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "mark", Path("mark")):
        assert 1.0 not in solver(slots(code.replace(CANARY, str(path))))
    assert list(tmp_path.iterdir()) == []


def took(solver: SympySolver, case: Mapping[str, str]) -> tuple[float, float]:
    started = time.monotonic()
    return solver([case])[0], time.monotonic() - started


@pytest.mark.parametrize("text", HANGS, ids=lambda text: text[:24])
def test_no_expression_hangs(solver: SympySolver, text: str) -> None:
    for case in (
        {"query": "", "answer": "\\sqrt{2}+x", "reference": text},
        {"query": text, "answer": "3+\\sqrt{2}", "reference": ""},
    ):
        score, seconds = took(solver, case)
        assert score != 1.0 and seconds < DEADLINE + GRACE


@pytest.mark.parametrize("query", HANGING_QUERIES, ids=lambda text: text[:24])
def test_no_query_hangs(solver: SympySolver, query: str) -> None:
    score, seconds = took(solver, {"query": query, "answer": "5", "reference": ""})
    assert score != 1.0 and seconds < 2 * DEADLINE + GRACE


@pytest.mark.parametrize(
    "unit",
    ["find ", "solve ", "a, ", "the value of ", "derivative of x at x = ", "from 1 to ", "x, y = ", "= ", "x=1, ",
     "for x, y, z ", "one and ", "two hundred and ", "{x|=", "\\frac ", "1 x 10", "<answer>", "thus the total is ",
     "what is x if ", "d/dx ", "1 hour "],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "derivative of ", "integrate ", "solve x=", "x=1, y=2, "])
def test_no_pattern_backtracks_without_end(solver: SympySolver, unit: str, start: str) -> None:
    """A repeated phrase is what makes a careless regular expression exponential: "find find find ..."."""
    for length in (390, 1_990):
        text = (start + unit * length)[:length]
        assert took(solver, {"query": text, "answer": "1", "reference": ""})[1] < DEADLINE + GRACE
        score, seconds = took(solver, {"query": "", "answer": text, "reference": "z^7"})
        assert score == 0.0 and seconds < DEADLINE + GRACE


def test_one_late_query_costs_one_deadline(solver: SympySolver) -> None:
    """Eight answers to one query that is not solved in time: it is tried once in a call, and all eight are nan."""
    query = "\\int \\frac{x^9 \\sin(x) e^{x^3}}{\\ln(x) + x} dx"
    solver.metrics()
    scores = solver([{"query": query, "answer": f"x^{n} + \\sqrt{{2}}", "reference": ""} for n in range(8)])
    assert all(map(math.isnan, scores)) and solver.metrics()["timeouts"] <= 2.0


def test_memory_is_bounded_and_a_death_is_no_score() -> None:
    """The kernel holds the worker's address space to ``memory_mib``; a worker that dies harms no other case."""
    solver = SympySolver(deadline=20.0, memory_mib=512)
    easy = {"query": "", "answer": "2\\sqrt{2}", "reference": "\\sqrt{8}"}
    fatal = {"query": "", "answer": "x+\\sqrt{2}", "reference": "\\arctan(\\tan(10^{999}))"}  # sympy 1.14 raises in it
    assert solver([easy]) == [1.0]
    limits = Path(f"/proc/{solver._worker.pids[0]}/limits").read_text(encoding="ascii")
    assert str(512 << 20) in next(line for line in limits.splitlines() if line.startswith("Max address space"))
    scores = solver([fatal, easy])
    assert scores[0] != 1.0 and scores[1] == 1.0
    solver.close()
