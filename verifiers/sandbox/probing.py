"""Whether a back end holds on this machine, found out by attacking it: never from a version or a setting.

The attacks are few and quick; the long list is in tests/attacks. What they aim at is set up here: a secret, a file to
spoil, listeners, and the trainer itself.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifiers.sandbox.backends import BACKENDS, SAFE, Backend, named
from verifiers.sandbox.pool import Pool
from verifiers.sandbox.types import Limits, Program, SandboxError, SandboxUnavailable

_HEAD = """
import os, socket

def succeeds(attempt, *arguments):
    try:
        return attempt(*arguments)
    except (OSError, ImportError, RuntimeError):
        return None

"""
# Each returns what it got; anything but null has come through. Where one does, no harm is done: PTRACE_SEIZE does not
# stop the trainer, signal 0 is none, and only the probe's own files are written.
_ATTACKS = {
    "write outside": """
def attack(at):
    for path in (at["canary"], at["folder"] + "/new"):
        if succeeds(open, path, "a") is not None:
            return path
    if succeeds(lambda: os.chmod(at["canary"], 0o600) or True):
        return "chmod"
""",
    "read a secret": """
def attack(at):
    return succeeds(lambda: open(at["secret"]).read())
""",
    "connect": """
def attack(at):
    for family, place in ((socket.AF_INET, ("127.0.0.1", at["port"])), (socket.AF_UNIX, "\\0" + at["abstract"])):
        if succeeds(lambda: socket.socket(family).connect(place) or True):
            return str(place)
""",
    "start a process": """
def attack(at):
    pid = succeeds(os.fork)
    if pid == 0:
        os._exit(0)
    return pid
""",
    "run a program": """
def attack(at):
    return succeeds(os.execv, at["python"], [at["python"], "-c", ""])
""",
    "signal the trainer": """
def attack(at):
    for pid in (at["trainer"], at["worker"], os.getppid()):
        if pid > 0 and pid != os.getpid() and succeeds(lambda: os.kill(pid, 0) or True):
            return pid
""",
    "read the trainer": """
def attack(at):
    for pid in (at["trainer"], at["worker"]):
        for name in ("environ", "maps", "mem"):
            if pid != os.getpid() and succeeds(lambda: open("/proc/%d/%s" % (pid, name), "rb").read(1)):
                return name
""",
    "trace the trainer": """
def attack(at):
    def trace():
        import ctypes
        return ctypes.CDLL(None).ptrace(0x4206, at["trainer"], 0, 0) == 0 or None
    return succeeds(trace)
""",
    "change the machine": """
def attack(at):
    return succeeds(lambda: socket.sethostname(socket.gethostname()) or True) or succeeds(lambda: os.setuid(0) or True)
""",
}
_BOMBS = {
    "use up memory": ("def attack(at):\n    return len(bytearray(1 << 30))\n", "memory"),
    "use up the processor": ("def attack(at):\n    while True:\n        pass\n", "timeout_cpu"),
}
_LIMITS = Limits(cpu_s=0.2, wall_s=30.0, memory_mib=128)


@dataclass(frozen=True)
class Report:
    """What came of probing a back end. ``reason``: why it does not hold, or what it is; ``attacks``: those tried."""

    backend: str
    holds: bool
    reason: str
    attacks: tuple[str, ...] = ()


_known: dict[str, Report] = {}
_lock = threading.Lock()


def probe(backends: Sequence[str] | None = None) -> list[Report]:
    """Attack each of ``backends`` (by default all that may be chosen by "auto"); known results are not found again."""
    with _lock:
        for name in backends or SAFE:
            if name not in _known:
                _known[name] = _attack(named(name))
        return [_known[name] for name in backends or SAFE]


def choose(name: str) -> Backend:
    """The strongest back end that holds, or the one of that name if it holds. Raises ``SandboxUnavailable``."""
    if name == "unsafe_local":  # nothing to find out
        return BACKENDS[name]
    reports: list[Report] = []
    for one in SAFE if name == "auto" else (name,):
        reports += probe([one])
        if reports[-1].holds:
            return BACKENDS[one]
    reasons = "; ".join(f"{report.backend}: {report.reason}" for report in reports)
    raise SandboxUnavailable(
        f"no sandbox holds on this machine, so programs that a model wrote are not run ({reasons}); "
        "backend=unsafe_local runs them without one"
    )


def _attack(backend: Backend) -> Report:
    names = (*_ATTACKS, *_BOMBS)
    try:
        with _targets() as (at, links):
            fault = _try(backend, at) or _hit(at, links)
    except (SandboxError, OSError) as error:
        return Report(backend.name, False, " ".join(str(error).split())[-300:])
    return Report(backend.name, not fault, fault or backend.about, names)


def _try(backend: Backend, at: dict[str, Any]) -> str:
    """What went wrong when the programs were let loose, as they tell it themselves; "" if nothing did."""
    pool = Pool(backend, "python", 1)
    try:
        at["worker"] = pool.pids()[0]
        programs = [Program(_HEAD + attack, "attack", (({**at},),)) for attack in _ATTACKS.values()]
        programs += [Program(bomb, "attack", ((at,),)) for bomb, _ in _BOMBS.values()]
        programs.append(Program("def attack(at):\n    return at\n", "attack", ((at,),)))
        *results, honest = pool.run_many(programs, _LIMITS)
    finally:
        pool.close()
    for name, result in zip((*_ATTACKS, *_BOMBS), results, strict=True):
        wanted = ("pass", (None,)) if name in _ATTACKS else (_BOMBS[name][1], ())
        if (result.outcome, result.values) != wanted:
            told = f"{result.values[0]!r:.100}" if result.values else f"{result.outcome}, {result.detail}"
            return f"an attack was not stopped: {name} ({told})"
    return "" if honest.values == (at,) else f"an honest program does not pass ({honest.outcome}, {honest.detail})"


@contextmanager
def _targets() -> Generator[tuple[dict[str, Any], list[socket.socket]]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparring-probe-", dir=_place())))
        folder.chmod(0o777)
        (folder / "canary").write_text("alive", encoding="ascii")
        (folder / "canary").chmod(0o666)
        (folder / "secret").write_text(secrets.token_hex(8), encoding="ascii")
        (folder / "secret").chmod(0o644)
        abstract = f"sparring-{secrets.token_hex(8)}"
        links = [stack.enter_context(socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX)]
        for link, place in zip(links, (("127.0.0.1", 0), f"\0{abstract}"), strict=True):
            link.bind(place)
            link.listen()
        at: dict[str, Any] = {
            "folder": str(folder), "canary": str(folder / "canary"), "secret": str(folder / "secret"),
            "port": links[0].getsockname()[1], "abstract": abstract, "trainer": os.getpid(), "worker": 0,
            "python": os.path.realpath("/proc/self/exe"),
        }  # fmt: skip
        yield at, links


def _place() -> str:
    """Where a folder can be made: in memory, where the file systems of a container are read-only."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return "/dev/shm"


def _hit(at: dict[str, Any], links: list[socket.socket]) -> str:
    """What is not as it was, seen from outside; "" if all is."""
    if select.select(links, [], [], 0)[0]:
        return "a listener outside heard a program"
    folder = Path(at["folder"])
    if sorted(path.name for path in folder.iterdir()) != ["canary", "secret"]:
        return "a program left a file outside"
    canary = folder / "canary"
    unspoiled = canary.read_text(encoding="ascii") == "alive" and canary.stat().st_mode & 0o777 == 0o666
    return "" if unspoiled else "a program changed a file outside"
