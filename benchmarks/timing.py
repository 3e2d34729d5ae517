"""Side by side: everything that is compared takes its turns in one run, so that the machine's mood hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, *, warmup: int = 1, budget: float = float("inf")
) -> dict[str, float]:
    """Median seconds of each side over ``repeats`` rounds, one call of each per round, after ``warmup`` rounds.

    No round begins after ``budget`` seconds, but one is always measured.
    """
    for _ in range(warmup):
        for call in sides.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    began = time.perf_counter()
    for number in range(repeats):
        if number and time.perf_counter() - began > budget:
            break
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(found) for name, found in seconds.items()}


def best(call: Callable[[], object], seconds: float = 0.2, least: int = 3) -> float:
    """The shortest of the calls that fit into ``seconds``, for what has no reason to vary but the machine."""
    call()
    shortest, began, count = float("inf"), time.perf_counter(), 0
    while count < least or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        call()
        shortest, count = min(shortest, time.perf_counter() - started), count + 1
    return shortest


def peak_mib() -> float:
    """The most memory that this process had resident since ``forget_peak``, or ever, MiB.

    Linux's own mark where there is one: ``ru_maxrss`` starts at what the parent had when it made the child.
    """
    if STATUS.is_file():
        return _status("VmHWM:")
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 1024


def forget_peak() -> float:
    """Let ``peak_mib`` start anew, where the system can, and return what is resident now, MiB."""
    if not STATUS.is_file():
        return peak_mib()
    CLEAR.write_text("5")
    return _status("VmRSS:")


def _status(name: str) -> float:
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{STATUS} has no line {name}")
