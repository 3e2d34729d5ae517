"""The trainer's side of one worker: start it, hand it runs, hear what became of them, kill it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from verifiers.sandbox.types import Limits, SandboxError

ROOT = Path(__file__).resolve().parent.parent.parent
# Our packages as empty modules with a path: the worker imports its own files and nothing of the trainer's.
_BOOT = """
import sys, types
for name in ("verifiers", "verifiers.sandbox"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
from verifiers.sandbox import zygote
zygote.main(int(sys.argv[2]), sys.argv[3], sys.argv[4])
"""
INTERPRETER = cast("str", getattr(sys, "_base_executable", sys.executable))
"""Not a virtual environment's: what is installed there is not for strangers."""
Report = dict[str, Any]


class WorkerLost(SandboxError):
    """The worker ended or never came to be; the message holds the end of its log."""


class Worker:
    """One worker process. Not for sharing between threads; in a fork of its owner it is closed, and left alone."""

    def __init__(
        self, mode: str, program: str, prefix: Sequence[str] = (), user: int | None = None, hash_seed: int = 0
    ) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log: IO[bytes] = open(os.memfd_create("sandbox-log"), "w+b")  # noqa: SIM115 - lives as long as the worker
        # As -I, less -E: the environment is only what stands here, and hashes are to be the same in every run.
        words = [INTERPRETER, "-s", "-S", "-P", "-B", "-c", _BOOT, str(ROOT), str(theirs.fileno()), mode, program]
        other: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with theirs:
            self.child = subprocess.Popen(
                [*prefix, *words], **other, env={"PYTHONHASHSEED": str(hash_seed)}, cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=self.log, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self.link.setblocking(False)
        self.owner = os.getpid()
        self.ready = False
        _ALL.add(self)

    def fileno(self) -> int:
        return self.link.fileno()

    def start(self, number: int, limits: Limits, descriptors: Sequence[int], beside: int) -> None:
        """Hand over a run; ``beside`` is the number of one that works for it, or its own. Raises ``WorkerLost``."""
        bounds = {
            "cpu_s": limits.cpu_s, "wall_s": limits.backstop, "idle_s": limits.idle, "memory_mib": limits.memory_mib,
            "files_mib": limits.files_mib, "threads": limits.threads,
        }  # fmt: skip
        message = json.dumps({"run": number, "bounds": bounds, "beside": beside}).encode()
        try:
            socket.send_fds(self.link, [message], list(descriptors))
        except OSError as error:
            raise self._lost(str(error)) from None

    def stop(self, number: int) -> None:
        """Have a run killed; its report comes as usual. Raises ``WorkerLost``."""
        self._tell({"kill": number})

    def excuse(self, number: int, seconds: float) -> None:
        """A run waited for the trainer, and did not sleep, for so long. Raises ``WorkerLost``."""
        self._tell({"excuse": number, "seconds": seconds})

    def hear(self) -> list[Report]:
        """What it has reported since. Raises ``WorkerLost``."""
        reports: list[Report] = []
        while True:
            try:
                message = self.link.recv(65_536)
            except BlockingIOError:
                return reports
            except OSError as error:
                raise self._lost(str(error)) from None
            if not message:
                raise self._lost("it ended")
            report = cast("Report", json.loads(message))
            if "failed" in report:
                raise WorkerLost(str(report["failed"]))
            if "ready" in report:
                self.ready = True
            else:
                reports.append(report)

    def kill(self) -> None:
        """End it and all that it runs, and reap it; in a fork of the owner, let go of it."""
        if os.getpid() == self.owner:
            if self.child.poll() is None:
                try:
                    os.killpg(self.child.pid, signal.SIGKILL)
                except ProcessLookupError:  # between its birth and setsid
                    self.child.kill()
            self.child.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close what this process holds of it."""
        _ALL.discard(self)
        self.link.close()
        self.log.close()
        if self.child.returncode is None:
            self.child.returncode = 0  # another process's child: nobody here is to wait for it

    def tail(self) -> str:
        """The end of its log."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 2_000))
        return self.log.read().decode(errors="replace").strip()

    def _tell(self, order: dict[str, float]) -> None:
        try:
            self.link.send(json.dumps(order).encode())
        except OSError as error:
            raise self._lost(str(error)) from None

    def _lost(self, why: str) -> WorkerLost:
        tail = self.tail()
        return WorkerLost(f"the worker is gone: {why}" + (f"; its log ends with:\n{tail}" if tail else ""))


_ALL: weakref.WeakSet[Worker] = weakref.WeakSet()


def _forked() -> None:
    """In a fork: without our copy of its socket a worker sees its trainer end, as it must."""
    for worker in list(_ALL):
        worker.let_go()


os.register_at_fork(after_in_child=_forked)
