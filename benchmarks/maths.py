"""The maths verifiers side by side over the strict pairs: both kinds of error, side effects, speed, longest hang."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import Report, parser
from tests.maths_hostile import CANARY, CODE, HANGING_QUERIES, HANGS
from tests.maths_pairs import PAIRS
from verifiers.math_verify import MathVerify
from verifiers.sympy_solver import SympySolver

DEADLINE = 2.0
PAUSE = 1.5
"""Seconds after a kill for the spare worker to warm up, so that a hang is measured and not a start."""

Verifier = Callable[[Sequence[Mapping[str, str]]], Sequence[float]]
COLUMNS = {
    "name": ("verifier", ""),
    "false_positives": ("wrong accepted", ""),
    "false_negatives": ("right refused", ""),
    "abstained": ("nan", ""),
    "files_written": ("files written", ""),
    "code_scored_right": ("code scored right", ""),
    "median_ms": ("median ms", ".2f"),
    "p95_ms": ("p95 ms", ".2f"),
    "longest_hang_s": ("longest hang, s", ".2f"),
}


@dataclass
class Figures:
    """What one verifier did; times in milliseconds and seconds."""

    name: str
    pairs: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    abstained: int = 0
    files_written: int = 0
    code_scored_right: int = 0
    median_ms: float = 0.0
    p95_ms: float = 0.0
    longest_hang_s: float = 0.0


def case(answer: str, reference: str, query: str = "") -> dict[str, str]:
    return {"query": query, "answer": answer, "reference": reference}


def pairs(verifier: Verifier, figures: Figures) -> None:
    """Errors, and the time of each pair once the worker is warm."""
    verifier([case("2\\sqrt{2}", "\\sqrt{8}")])
    times: list[float] = []
    for pair in PAIRS:
        started = time.perf_counter()
        (score,) = verifier([case(pair.answer, pair.reference)])
        times.append(1000 * (time.perf_counter() - started))
        figures.pairs += 1
        figures.abstained += math.isnan(score)
        figures.false_positives += score == 1.0 and not pair.right
        figures.false_negatives += score != 1.0 and pair.right
    figures.median_ms, figures.p95_ms = median(times), sorted(times)[int(0.95 * len(times))]


def side_effects(verifier: Verifier, figures: Figures) -> None:
    """Code as query, answer and reference, in a folder where every file that appears is counted."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for code in CODE:
            for path in ("mark", str(Path(folder, "mark"))):
                text = code.replace(CANARY, path)
                cases = [case(text, "1"), case("1", text), case("1", "", text), case(text, "", "12 + 34")]
                figures.code_scored_right += sum(score == 1.0 for score in verifier(cases))
        figures.files_written = len(list(Path(folder).iterdir()))
        os.chdir(before)


def hangs(verifier: Verifier, figures: Figures) -> None:
    """The longest that one case took, a warm worker standing by."""
    cases = [case("x+\\sqrt{2}", text) for text in HANGS] + [case(text + "+1", text) for text in HANGS]
    cases += [case("5", "", query) for query in HANGING_QUERIES]
    for each in cases:
        started = time.monotonic()
        verifier([each])
        seconds = time.monotonic() - started
        figures.longest_hang_s = max(figures.longest_hang_s, seconds)
        if seconds > DEADLINE / 2:
            time.sleep(PAUSE)


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__).parse_args(words)
    right = sum(pair.right for pair in PAIRS)
    title = f"{len(PAIRS) - right} wrong and {right} right answers, {DEADLINE:g} s deadline"
    report = Report("maths", title, COLUMNS, options)
    for verifier in (SympySolver(DEADLINE), MathVerify(DEADLINE)):
        figures = Figures(type(verifier).__name__)
        for measure in (pairs, side_effects, hangs):
            measure(verifier, figures)
        verifier.close()
        report.add(**asdict(figures))
    report.finish()


if __name__ == "__main__":
    main()
