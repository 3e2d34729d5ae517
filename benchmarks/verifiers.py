"""How many cases a second each of the cheap verifiers judges, built and called as a run does.

    python -m benchmarks.verifiers --cases 256 --only sympy_solver selfjudge

A quarter of the answers is wrong. The first call is warm-up: workers start, a model loads. What the sandbox and the
maths readers cost in detail is told by ``benchmarks.sandbox`` and ``benchmarks.maths``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import hydra

import main as sparring
from benchmarks.report import Report, parser
from benchmarks.timing import interleaved
from selfplay.compose import register_resolvers

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("format", "length", "majority", "sympy_solver", "math_verify", "code_executor", "selfjudge")
COLUMNS = {
    "verifier": ("verifier", ""),
    "cases": ("cases", ""),
    "per_s": ("cases/s", ".0f"),
    "ms_per_case": ("ms per case", ".3f"),
    "judged": ("judged, not nan", ".0%"),
}


def cases(name: str, count: int, seed: int) -> list[dict[str, str]]:
    """Additions of the embedded model's world, four answers each, of which one is wrong; programs for what runs
    programs. Another seed gives other cases: some verifiers remember what they judged."""
    draw, made = random.Random(seed), []
    for number in range(count):
        if number % 4 == 0:
            a, b = draw.randrange(100), draw.randrange(100)
        slip = int(number % 4 == 3)
        if name == "code_executor":
            tests = {"function": "add", "inputs": [[a, b], [b, a]], "outputs": [a + b, a + b]}
            body = f"return x + y + {slip}  # {seed}-{number}"
            made.append({"query": "Add.", "answer": f"def add(x, y):\n    {body}\n", "reference": json.dumps(tests)})
        else:
            answer, right = str(a + b + slip), str(a + b)
            made.append({"query": f"What is {a} + {b}?", "answer": answer, "reference": right})
    return made


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    line.add_argument("--cases", type=int, default=256)
    line.add_argument("--repeats", type=int, default=3)
    options = line.parse_args(words)
    report = Report("verifiers", "Verdicts per second, one call (medians)", COLUMNS, options)
    register_resolvers()
    for name in options.only:
        if name == "math_verify" and importlib.util.find_spec("math_verify") is None:
            report.note("math_verify is left out: math-verify is not installed")
            continue
        report.add(verifier=name, **measure(name, options.cases, options.repeats, options.threads))
    report.finish()


def measure(name: str, count: int, repeats: int, threads: int) -> dict[str, Any]:
    """Cases per second of ``verifier=<name>`` in its seat."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose("config", overrides=[f"verifier={name}", f"runtime.threads={threads}"])
    if name == "selfjudge":
        sparring.set_threads(cfg)
    panel = sparring.seat_verifier(cfg, cfg.verifier)
    asked = iter([cases(name, count, seed) for seed in range(repeats + 1)])
    scores: list[float] = []

    def judge() -> None:
        scores[:] = [action.move["score"] for action in panel.act(next(asked), range(count))]

    seconds = interleaved({"": judge}, repeats)[""]
    panel.close()
    judged = sum(not math.isnan(score) for score in scores) / count
    return {"cases": count, "per_s": count / seconds, "ms_per_case": 1e3 * seconds / count, "judged": judged}


if __name__ == "__main__":
    sys.exit(main())
