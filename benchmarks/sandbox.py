"""What a sandboxed run costs: latency, throughput beside a plain ``python -I -S`` per program, and kill overshoot."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.report import Report, parser
from verifiers.sandbox import Limits, Program, Sandbox, probe

COLUMNS = {
    "backend": ("back end", ""),
    "median_ms": ("warm ms, median", ".1f"),
    "p95_ms": ("p95", ".1f"),
    "per_s_1": ("programs/s, 1 worker", ".0f"),
    "per_s_2": ("2 workers", ".0f"),
    "ratio_1": ("x plain", ".1f"),
    "ratio_2": ("x plain", ".1f"),
    "late_ms": ("killed late by ms of CPU", ".0f"),
}
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


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--programs", type=int, default=1000)
    options = line.parse_args(words)
    report = Report("sandbox", "Sandboxed programs, beside a plain python -I -S for each", COLUMNS, options)
    alone = plain(max(20, options.programs // 5))
    report.add(backend="plain python -I -S, no isolation", per_s_1=alone, ratio_1=1.0)
    for found in probe():
        if not found.holds:
            report.note(f"{found.backend}: does not hold here: {found.reason}")
            continue
        median, late = latency(found.backend, min(200, options.programs))
        one, two = (throughput(found.backend, workers, options.programs) for workers in (1, 2))
        over = overshoot(found.backend)
        report.add(
            backend=found.backend, median_ms=median, p95_ms=late, per_s_1=one, per_s_2=two, ratio_1=one / alone,
            ratio_2=two / alone, late_ms=1e3 * max(over.values()), overshoot_s=over,
        )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    main()
