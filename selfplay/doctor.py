"""``mode=doctor``: what holds on this machine, what is missing and what it would add, and what would be slow.

Every line is a fact that was looked up or tried just now. Nothing is changed, and nothing is installed.
"""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.text import Text

from selfplay.compose import ROOT, ConfigError
from selfplay.machine import Machine, import_apart, look, look_at_torch
from selfplay.plugins import Plugin, find_plugins
from selfplay.screen import harmless

Mark = Literal["ok", "note", "slow", "lacks", "BROKEN", "FATAL"]
COLOURS = {"ok": "green", "note": "cyan", "slow": "yellow", "lacks": "dim", "BROKEN": "red", "FATAL": "bold red"}

ADDS = {
    "datasketch": "verifier=novelty",
    "math-verify": "verifier=math_verify",
    "pyarrow": "parquet files in a seat (agent=dataset)",
    "z3-solver": "the proof checker shown with verifier=external",
}
"""What an optional package is for."""

TOOLS = {
    "cc": (
        "kernels for this processor: a step takes a third less time; the C checker of verifier=external",
        "apt-get install gcc",
    ),
    "bwrap": ("one more sandbox for programs that a model wrote", "apt-get install bubblewrap"),
}
"""A program -> what it is for, and how Debian and its kin install it."""

GIB = 1 << 30
LOW_MEMORY, LOW_DISK = 4 * GIB, 5 * GIB
BF16 = ("avx512_bf16", "amx_bf16")
"""Processors with one of these multiply bfloat16 at full speed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``FATAL`` means that Sparring cannot run here."""

    mark: Mark
    subject: str
    told: str


class Report(Protocol):
    """What a probe of one sandbox says: whether it held against the attacks that were tried."""

    @property
    def backend(self) -> str: ...
    @property
    def holds(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def attacks(self) -> Sequence[Any]: ...


Probe = Callable[[], Sequence[Report]]


def examine(probe: Probe | None, runs: str | Path, threads: int = 0) -> None:
    """Print the findings, each as soon as it is known. ``probe`` tries the sandboxes; ``runs`` is where runs are
    written. Raises ``ConfigError`` if Sparring cannot run here."""
    console = Console()
    fatal: list[str] = []
    for finding in findings(probe, Path(runs), threads):
        mark = (f"{finding.mark:<7}", COLOURS[finding.mark])
        told = harmless(finding.told, console, lines=True)
        console.print(Text.assemble(mark, (f"{finding.subject:<14}", "bold"), told), soft_wrap=True)
        if finding.mark == "FATAL":
            fatal.append(finding.told)
    if fatal:
        raise ConfigError(f"Sparring cannot run here: {'; '.join(fatal)}")


def findings(probe: Probe | None, runs: Path, threads: int) -> Iterator[Finding]:
    """All of them; what takes seconds comes last."""
    yield Finding("ok", "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from of_dependencies(ROOT)
    machine = look(runs)
    yield from of_machine(machine, threads)
    yield from of_extras(ROOT)
    yield from of_plugins(find_plugins())
    yield from of_torch(look_at_torch(), machine)
    yield from of_sandbox(probe)


def of_dependencies(root: Path) -> Iterator[Finding]:
    """What the run needs, against the least version (pyproject.toml) and the tested one (constraints.txt)."""
    needed: list[str] = _project(root)["dependencies"]
    tested, absent, other = _tested(root), list[str](), list[str]()
    for requirement in needed:
        name = _name(requirement)
        found = _installed(name)
        if found is None:
            absent.append(name)
        elif not _satisfies(found, requirement):
            yield Finding("FATAL", "dependencies", f"{name} {found} is not {requirement}: {_install(requirement)}")
        elif name in tested and _numbers(found) != _numbers(tested[name]):
            other.append(f"{name} {found} (tested: {tested[name]})")
    if absent:
        yield Finding(
            "FATAL", "dependencies", f"{', '.join(absent)} not installed: run `make play`, or {_install(*absent)}"
        )
    if other:
        yield Finding("note", "dependencies", f"another version than the tested one: {', '.join(other)}")
    if not absent and not other:
        yield Finding("ok", "dependencies", f"all {len(needed)} are there, in the tested versions")


def of_machine(machine: Machine, threads: int) -> Iterator[Finding]:
    """Cores, load, memory and disk."""
    used = threads or machine.cores_usable
    quota = f", of which the container may use {machine.quota:g}" if machine.quota else ""
    told = f"{machine.cores_usable} usable of {machine.cores_seen}{quota}; a run takes {used} threads"
    yield Finding("ok", "cores", f"{told} (runtime.threads)")
    if used > machine.cores:
        fewer = max(1, int(machine.cores))
        yield Finding("slow", "cores", f"{used} threads on {machine.cores:g} cores get in each other's way: "
                                       f"runtime.threads={fewer}")  # fmt: skip
    if machine.cores < 2:
        yield Finding("slow", "cores", "with one core, verifiers that work beside the model wait for it")
    if machine.load is not None and machine.load > machine.cores:
        told = f"{machine.load:.1f} processes share {machine.cores:g} cores: times will vary, and deadlines come sooner"
        yield Finding("slow", "load", told)
    if machine.memory is None or machine.memory_free is None:
        yield Finding("note", "memory", "this system does not say how much is free")
    else:
        told = f"{machine.memory_free / GIB:.1f} GiB free of {machine.memory / GIB:.1f}"
        low = machine.memory_free < LOW_MEMORY
        more = ": every verifier's worker wants some, runtime.verifier_memory_mib bounds it" if low else ""
        yield Finding("slow" if low else "ok", "memory", told + more)
    low = machine.disk_free < LOW_DISK
    more = ": a checkpoint takes about 12 bytes per parameter; runtime.keep_checkpoints=1 keeps fewer" if low else ""
    yield Finding(
        "slow" if low else "ok", "disk", f"{machine.disk_free / GIB:.1f} GiB free where runs are written{more}"
    )


def of_torch(facts: dict[str, Any] | str, machine: Machine) -> Iterator[Finding]:
    """The accelerator, and what its absence means."""
    if isinstance(facts, str):
        yield Finding("FATAL", "torch", facts)
        return
    yield Finding("ok", "torch", f"{facts['version']}, imported in {facts['seconds']:.1f} s")
    for device in facts["devices"]:
        told = f"{device['name']}, {device['bytes'] / GIB:.0f} GiB"
        yield Finding("ok" if device["bf16"] else "slow", "accelerator",
                      told if device["bf16"] else f"{told}, without bfloat16: model.dtype=float32")  # fmt: skip
    if facts["mps"]:
        yield Finding("ok", "accelerator", "Apple's MPS")
    if facts["devices"] or facts["mps"]:
        return
    told = "none: the embedded model is made for that; a model of a billion parameters is not practical to train"
    yield Finding("slow", "accelerator", told)
    if shutil.which("nvidia-smi"):
        why = "cannot use it" if facts["cuda"] else "was built without CUDA"
        yield Finding("BROKEN", "accelerator", f"there is an NVIDIA driver (nvidia-smi), but this torch {why}")
    if machine.flags is not None and not machine.flags & set(BF16):
        told = f"the processor has none of {', '.join(BF16)}: bfloat16 is slower than float32 here"
        yield Finding("slow", "processor", f"{told} (model.dtype=auto races the two)")


def of_extras(root: Path) -> Iterator[Finding]:
    """Optional packages and programs, and what each would add."""
    extras = _project(root)["optional-dependencies"]
    for requirement in (*extras["parquet"], *extras["verifiers"]):
        name = _name(requirement)
        found, adds = _installed(name), ADDS.get(name, "an optional part")
        if found is None:
            yield Finding("lacks", name, f"for {adds}: {_install(requirement)}")
        elif not _satisfies(found, requirement):
            yield Finding("BROKEN", name, f"{found} is too old for {adds}: {_install(requirement)}")
        else:
            yield Finding("ok", name, f"{found}, for {adds}")
    for tool, (adds, how) in TOOLS.items():
        found = shutil.which(tool)
        yield Finding("ok", tool, f"{found}, for {adds}") if found else Finding("lacks", tool, f"for {adds}: {how}")


def of_plugins(plugins: Sequence[Plugin]) -> Iterator[Finding]:
    """Each is imported, with the modules that its configurations name, in a process of its own."""
    if not plugins:
        yield Finding("ok", "plugins", "none installed (mode=new makes one)")
    for plugin in plugins:
        error = plugin.error or import_apart(_modules(plugin))
        told = f"{plugin.label}, {plugin.package}"
        yield Finding("BROKEN" if error else "ok", "plugin", f"{told}: {error}" if error else f"{told}, loads")


def _modules(plugin: Plugin) -> list[str]:
    """The plugin's package, and every module of it that a ``_target_`` of its files stands in."""
    top = plugin.package.split(".")[0]
    files = plugin.folder.rglob("*.yaml") if plugin.folder else ()
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    named = {target for text in texts for target in re.findall(r"_target_:\s*([\w.]+)\.\w+", text)}
    return sorted({top} | {module for module in named if module.split(".")[0] == top})


def of_sandbox(probe: Probe | None) -> Iterator[Finding]:
    """The back ends in order: the first that holds is the one that ``auto`` takes."""
    if probe is None:
        yield Finding("lacks", "sandbox", "there is none in this version: no program that a model wrote is ever run")
        return
    reports = list(probe())
    for report in reports:
        against = f"holds against {len(report.attacks)} attacks tried now"
        told = f"{report.backend} {against}" if report.holds else f"{report.backend} does not hold: {report.reason}"
        yield Finding("ok" if report.holds else "note", "sandbox", told)
    if not any(report.holds for report in reports):
        yield Finding("BROKEN", "sandbox", "none holds here, so verifiers that run a model's programs refuse to start")


def _project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _tested(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return {_name(name): pinned for name, _, pinned in pins}


def _name(requirement: str) -> str:
    """The distribution that a requirement names, in its canonical spelling."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(told: str) -> tuple[int, ...]:
    """1.27.0 -> (1, 27); a local part (2.13.0+cu130) and what follows the numbers do not count."""
    numbers = [int(part) for part in re.match(r"[\d.]*", told)[0].split(".") if part]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _satisfies(found: str, requirement: str) -> bool:
    """For the two kinds of bound that pyproject.toml uses, ``>=`` and ``<``."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", requirement)
    return all(
        _numbers(found) >= _numbers(bound) if sign == ">=" else _numbers(found) < _numbers(bound)
        for sign, bound in bounds
    )


def _install(*requirements: str) -> str:
    words = [sys.executable, "-m", "pip", "install", "-c", "constraints.txt", *requirements]
    return shlex.join(words)
