"""``make bench``: every benchmark in turn; tables on the screen, figures under benchmarks/results/.

    python -m benchmarks
    python -m benchmarks --only generation update
    python -m benchmarks --quick          sizes that take seconds: does everything run here?

Minutes are those of two cores of an ordinary server; a laptop may take twice as long. Leave the machine alone while it
runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import installed

RESULTS = Path(__file__).parent / "results"


class Plan(NamedTuple):
    """A benchmark: rough minutes, and the words that make it quick."""

    minutes: float
    quick: str


PLANS = {
    "ceilings": Plan(3, "--size micro --square 64 --rows 1 4 --memory 1 --prompt 8 --max-tokens 4 --branch 2 2"),
    "generation": Plan(30, "--size micro --rows 1 4 --group 1 --prompt 8 --max-tokens 8"),
    "update": Plan(10, "--size micro --lengths equal --prompt 8 --max-tokens 4 --branch 2 2"),
    "kernels": Plan(1, "--rows 8 --positions 1100 --width 32 --vocab 64 --repeats 2"),
    "breakdown": Plan(3, "--size micro --prompt 8 --max-tokens 4 --branch 2 2"),
    "scaling": Plan(15, "--lengths 4 --groups 2 --size micro --base micro --rows 4 --prompt 8"),
    "memory": Plan(5, "--vocab 512 --parameters 100000 --prompt 8 --max-tokens 4 --branch 2 2"),
    "loop_overhead": Plan(1, "--games 64 --personas 2"),
    "selfplay_step": Plan(2, "--steps 3 --branch 4 2 --verifier sympy_solver"),
    "verifiers": Plan(1, "--cases 16 --only format sympy_solver"),
    "sandbox": Plan(2, "--programs 50"),
    "maths": Plan(2, ""),
    "trl_step": Plan(90, "--size micro --threads 1 --prompt 16 --max-tokens 8 --branch 2 2 --steps 1"),
    "methods": Plan(60, "--only grpo --tokens 200 --seeds 0 --jobs 1 --duels 8 --set exam.limit=5 branch.challenger=4"),
    "claims": Plan(60, "--only data --steps 2 --seeds 0 --jobs 1 --set exam.limit=5 branch.challenger=4"),
    "kuhn": Plan(4, "--seeds 0 --jobs 1 --steps 4 --set games=16"),
    "tictactoe": Plan(5, "--seeds 0 --jobs 1 --steps 2 --every 2 --games 6 --set games=8"),
    "personas": Plan(2, "--personas 2 --games 2 --repeats 1"),
    "others": Plan(20, "--first 1 --episodes 2 --steps 1"),
    "gpu": Plan(10, "--device cpu --size small --prompt 8 --max-tokens 4 --branch 2 2 --rows decode update"),
}
"""In the order in which they run."""


def main() -> int:
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--only", nargs="+", choices=PLANS, help="these benchmarks, and no others")
    line.add_argument("--quick", action="store_true", help="tiny sizes: to see that they run, not for figures")
    options = line.parse_args()
    names = options.only or [name for name in PLANS if options.quick or name != "gpu" or _has_cuda()]
    RESULTS.mkdir(exist_ok=True)
    if installed("trl") is None and "trl_step" in names:
        print("trl is not installed, trl_step measures Sparring alone: pip install -c constraints.txt trl datasets")
    failed: list[str] = []
    for number, name in enumerate(names, start=1):
        rest = sum(PLANS[later].minutes for later in names[number - 1 :])
        told = "" if options.quick else f", about {PLANS[name].minutes:g} min of the {rest:g} that are left"
        print(f"\n== {name} ({number} of {len(names)}{told})", flush=True)
        file = RESULTS / f"{name}{'.quick' * options.quick}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
        began = time.monotonic()
        if subprocess.run(command + PLANS[name].quick.split() * options.quick, check=False).returncode:
            failed.append(name)
        print(f"   {name} took {(time.monotonic() - began) / 60:.1f} min", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return bool(failed)


def _has_cuda() -> bool:
    """Asked of another process: a driver that torch has opened keeps memory of the card."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
