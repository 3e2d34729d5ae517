"""Where a step of self-play spends its time: main.py itself with the embedded model, read from its timings.jsonl.

    python -m benchmarks.selfplay_step --steps 12 --verifier selfjudge sympy_solver

A Challenger asks 32 questions, a Solver answers each 8 times, the verifier judges, one update follows. "Other" is all
that is none of the three: the loop, the metrics, the record, the screen, checkpoints. The first step is left out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

from benchmarks.report import Report, parser
from selfplay.record import read

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("generate", "judge", "update", "other")
COLUMNS = {
    "verifier": ("verifier", ""),
    "branch": ("branch", ""),
    "total": ("step s", ".3f"),
    **{phase: (phase, ".1%") for phase in PHASES},
    "other_us_per_episode": ("other, us per episode", ".0f"),
    "tokens_per_s": ("tokens/s", ".0f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--verifier", nargs="+", default=["selfjudge", "sympy_solver"])
    line.add_argument("--branch", nargs=2, type=int, default=[32, 8], metavar=("N", "G"), help="queries, answers each")
    line.add_argument("--steps", type=int, default=12)
    line.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of main.py")
    options = line.parse_args(words)
    report = Report("selfplay_step", f"One step of self-play, {options.threads} threads (means)", COLUMNS, options)
    for verifier in options.verifier:
        report.add(verifier=verifier, **measure(verifier, options.branch, options.steps, options.threads, options.set))
    report.finish()


def measure(verifier: str, branch: list[int], steps: int, threads: int, more: list[str]) -> dict[str, object]:
    """The shares of the phases in ``steps`` steps, of which the first does not count."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable, "main.py", "env=lsp", f"verifier={verifier}", f"steps={steps}", f"run_dir={run}",
            f"branch={{challenger: {branch[0]}, solver: {branch[1]}}}", f"runtime.threads={threads}",
            "exam.path=null", *more,
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        # Row 0 is the look before any learning; what follows a step (record, screen, checkpoint) is told by the next.
        rows = read(run / "timings.jsonl")[2:]
    total = fmean(row["total"] for row in rows)
    seconds = {phase: fmean(row.get(phase, 0.0) for row in rows) for phase in PHASES}
    return {
        "branch": f"{branch[0]} x {branch[1]}",
        "total": total,
        **{phase: spent / total for phase, spent in seconds.items()},
        "other_us_per_episode": 1e6 * seconds["other"] / (branch[0] * branch[1]),
        "tokens_per_s": fmean(row["tokens_per_second"] for row in rows),
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
