"""What a sandboxed run costs: latency, throughput beside a plain ``python -I -S`` per program, and kill overshoot."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from verifiers.sandbox import Limits, Program, Sandbox, probe

SOURCE = "def solve(n):\n    return sum(i * i for i in range(n))\n"
SCRIPT = SOURCE + "print(solve(100))\n"
SPINS = {
    "Python": "while True:\n    pass\n",
    "C": "sum(range(10 ** 12))\n",
    "threads": "import threading\ndef spin():\n    while True: pass\n"
    "for _ in range(4):\n    threading.Thread(target=spin).start()\n",
}


def latency(backend: str, runs: int) -> tuple[float, float]:
    """Median and 95th percentile of a warm run, milliseconds."""
    with Sandbox(backend, workers=1) as sandbox:
        times: list[float] = []
        for _ in range(runs + 10):
            began = time.perf_counter()
            assert sandbox.run(SOURCE, "solve", [[100]]).values == (328_350,)
            times.append(1e3 * (time.perf_counter() - began))
    cuts = statistics.quantiles(times[10:], n=20)
    return statistics.median(times[10:]), cuts[-1]


def throughput(backend: str, workers: int, programs: int) -> float:
    """Programs per second in one call."""
    with Sandbox(backend, workers=workers) as sandbox:
        sandbox.run_many([Program(SOURCE, "solve", ([100],))] * (2 * workers))
        began = time.perf_counter()
        results = sandbox.run_many([Program(SOURCE, "solve", ([100],))] * programs)
        seconds = time.perf_counter() - began
    assert all(result.values == (328_350,) for result in results)
    return programs / seconds


def plain(programs: int) -> float:
    """Programs per second of a fresh interpreter each, one after the other: no isolation, no start kept warm."""
    began = time.perf_counter()
    for _ in range(programs):
        done = subprocess.run([sys.executable, "-I", "-S", "-c", SCRIPT], capture_output=True, check=True)
        assert done.stdout == b"328350\n"
    return programs / (time.perf_counter() - began)


def overshoot(backend: str) -> dict[str, float]:
    """CPU seconds past a limit of 0.5 when the program was dead."""
    with Sandbox(backend, workers=1) as sandbox:
        results = {name: sandbox.run(source, limits=Limits(cpu_s=0.5)) for name, source in SPINS.items()}
    assert all(result.outcome == "timeout_cpu" for result in results.values())
    return {name: result.cpu_s - 0.5 for name, result in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--programs", type=int, default=1000)
    options = parser.parse_args()
    alone = plain(max(20, options.programs // 5))
    print(f"plain python -I -S: {alone:.0f} programs/s, no isolation")
    rows: list[dict[str, Any]] = []
    for report in probe():
        if not report.holds:
            print(f"{report.backend}: does not hold here: {report.reason}")
            continue
        median, late = latency(report.backend, 200)
        one, two = (throughput(report.backend, workers, options.programs) for workers in (1, 2))
        over = overshoot(report.backend)
        rows.append({
            "backend": report.backend, "median_ms": median, "p95_ms": late, "per_s_1": one, "per_s_2": two,
            "plain_per_s": alone, "ratio_1": one / alone, "ratio_2": two / alone, "overshoot_s": over,
        })  # fmt: skip
        print(
            f"{report.backend}: warm {median:.1f} ms median, {late:.1f} ms p95; {one:.0f} and {two:.0f} programs/s "
            f"with 1 and 2 workers ({one / alone:.1f}x and {two / alone:.1f}x plain); killed at most "
            f"{1e3 * max(over.values()):.0f} ms of CPU late"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
