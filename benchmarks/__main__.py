"""``make bench``: every benchmark in turn; tables on the screen, figures under benchmarks/results/."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    RESULTS.mkdir(exist_ok=True)
    names = ["loop_overhead", "sandbox", "maths", "trl_step"]
    if importlib.util.find_spec("trl") is None:
        names.remove("trl_step")
        print("trl is not installed: pip install -c constraints.txt trl, to compare with it")
    for name in names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(RESULTS / f"{name}.json")]
        if subprocess.run(command, check=False).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
