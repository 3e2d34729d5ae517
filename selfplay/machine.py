"""Facts of the machine that a run would have: cores, memory, disk, load, instructions, and what torch sees.

What a system does not tell is None: nothing here is guessed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = {"cpu": ("cpu.max", "cpu/cpu.cfs_quota_us"), "memory": ("memory.max", "memory/memory.limit_in_bytes")}

# torch is imported in a process of its own: where its libraries do not fit the machine it can end the interpreter, and
# whoever looks for faults must survive them.
_TORCH = """
import json, time
began = time.perf_counter()
import torch
seconds = time.perf_counter() - began
devices = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        devices.append({"name": facts.name, "bytes": facts.total_memory, "bf16": torch.cuda.is_bf16_supported()})
mps = torch.backends.mps.is_available()
print(json.dumps({"version": torch.__version__, "seconds": seconds, "devices": devices, "mps": mps,
                  "cuda": torch.version.cuda, "threads": torch.get_num_threads()}))
"""
_IMPORT = """
import importlib, json, sys
modules, sys.path[:] = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
"""
TORCH_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes, cores, and the load of the last minute; ``quota`` is the share of cores that a container may use."""

    cores_seen: int
    cores_usable: int
    quota: float | None
    load: float | None
    memory: int | None
    memory_free: int | None
    disk_free: int
    flags: frozenset[str] | None

    @property
    def cores(self) -> float:
        """Those that this process can really keep busy."""
        return min(self.cores_usable, self.quota or self.cores_usable)


def threads_asked() -> int:
    """CPU threads that the environment asks for by OMP_NUM_THREADS, as torch reads it; 0 where it does not."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # more numbers: of nested regions
    return int(asked) if asked.isdecimal() else 0


def cores_usable() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def look(folder: Path, proc: Path = Path("/proc"), cgroup: Path = _CGROUP) -> Machine:
    """This machine; ``folder`` is where runs are written, or will be."""
    seen = os.cpu_count() or 1
    table = _memory(proc / "meminfo")
    bound = _bytes(cgroup)
    memory = min((size for size in (table.get("MemTotal"), bound) if size is not None), default=None)
    free = table.get("MemAvailable")
    while not folder.exists():
        folder = folder.absolute().parent
    return Machine(
        cores_seen=seen,
        cores_usable=cores_usable(),
        quota=_quota(cgroup),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory=memory,
        memory_free=free if free is None or memory is None else min(free, memory),
        disk_free=shutil.disk_usage(folder).free,
        flags=_flags(proc / "cpuinfo"),
    )


def look_at_torch(seconds: float = TORCH_SECONDS) -> dict[str, Any] | str:
    """What torch says of itself and of its accelerators; a sentence if it cannot be imported."""
    command = [sys.executable, "-c", _TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"importing torch took more than {seconds:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"importing torch ended with status {done.returncode}: {last}"
    return cast("dict[str, Any]", json.loads(done.stdout.strip().splitlines()[-1]))


def import_apart(modules: Sequence[str], seconds: float = 60.0) -> str:
    """Import modules in a process of their own; what went wrong, ``""`` if nothing did."""
    told = json.dumps([list(modules), sys.path])
    command = [sys.executable, "-c", _IMPORT, told]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"importing {', '.join(modules)} took more than {seconds:.0f} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"the import ended with status {done.returncode}"])[-1]


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _memory(file: Path) -> dict[str, int]:
    """``MemTotal`` and its like, in bytes."""
    lines = [line.split() for line in (_text(file) or "").splitlines()]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3 and words[2] == "kB"}


def _flags(file: Path) -> frozenset[str] | None:
    """The instructions that the processor knows (x86); None where they are not listed."""
    for line in (_text(file) or "").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return None


def _quota(cgroup: Path) -> float | None:
    """Cores by the container's limit, of either version of control groups; None without one."""
    now, before = (_text(cgroup / name) for name in _LIMITS["cpu"])
    if now is not None:
        quota, period = (*now.split(), "100000")[:2]
        return None if quota == "max" else int(quota) / int(period)
    period = _text(cgroup / "cpu/cpu.cfs_period_us")
    return int(before) / int(period) if before and period and int(before) > 0 else None


def _bytes(cgroup: Path) -> int | None:
    """The container's memory limit; None without one (the older groups say a number near 2^63)."""
    for name in _LIMITS["memory"]:
        told = (_text(cgroup / name) or "").strip()
        if told.isdigit():
            return int(told) if int(told) < 1 << 60 else None
    return None
