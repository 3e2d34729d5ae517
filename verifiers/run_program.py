"""One run of a trusted command-line program: bytes in, bytes out, under limits, with nothing left behind."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from selfplay.deadline import check, remaining

MAX_REPLY = 1 << 20
"""Bound on what a program may print, bytes."""

_STDERR_TAIL = 2_000

# The limits are set by a small interpreter that becomes the program: preexec_fn would run Python between fork and exec,
# which is unsafe beside threads. Private memory is bounded and not address space, of which runtimes map far more than
# they use; CPU time is for a program that has lost its parent. Python ignores SIGPIPE and SIGXFSZ, and a program should
# not inherit that.
_WRAPPER = """
import os, resource, signal, sys
def limit(what, amount):
    hard = resource.getrlimit(what)[1]
    amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(what, (amount, amount))
limit(resource.RLIMIT_CORE, 0)
limit(resource.RLIMIT_CPU, int(sys.argv[1]))
limit(resource.RLIMIT_DATA, int(sys.argv[2]))
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"{sys.argv[3]}: {error}")
"""


class ProgramFailed(RuntimeError):
    """A program gave nothing: ``kind`` is the failure's counter, the text says what happened, ``stderr`` is its end."""

    def __init__(self, kind: str, what: str, stderr: bytes = b"") -> None:
        super().__init__(what)
        self.kind, self.stderr = kind, stderr


class Programs:
    """Runs ``command`` as often as asked, from any thread, each time in a group of processes of its own.

    A group is killed when its program has ended or its time is up: only a process that leaves the group survives it.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str | None, memory_mib: int) -> None:
        self.command, self.env, self.cwd, self.memory_mib = list(command), dict(env), cwd, memory_mib
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def run(self, payload: bytes, seconds: float) -> bytes:
        """What the program prints when ``payload`` is its stdin, within ``seconds`` and the caller's deadline.

        Raises ``ProgramFailed`` (``timeouts``, ``bad_exit``, ``flooded``), and ``DeadlinePassed`` if it is too late to
        begin; a caller whose own time ran out meanwhile asks ``check`` again.
        """
        check()
        cpu = math.ceil(min(seconds, 1e6) * (os.cpu_count() or 1)) + 2
        wrapper = [sys.executable, "-I", "-S", "-c", _WRAPPER, str(cpu), str(self.memory_mib << 20)]
        child = subprocess.Popen(
            [*wrapper, *self.command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.env, cwd=self.cwd, start_new_session=True, bufsize=0,
        )  # fmt: skip
        with self._lock:
            self._running.add(child)
        talk = _Talk(child, payload)
        try:
            talk.go_on(time.monotonic() + min(seconds, remaining()))
        except ProgramFailed as failure:
            failure.stderr = bytes(talk.stderr)
            raise
        finally:
            with self._lock:
                self._running.discard(child)
            _kill(child)  # before it is reaped: until then nobody else can have its number
            child.wait()
            talk.close()
        if child.returncode:
            died = child.returncode < 0
            how = f"by signal {-child.returncode}" if died else f"with exit status {child.returncode}"
            raise ProgramFailed("bad_exit", f"ended {how}", bytes(talk.stderr))
        return bytes(talk.stdout)

    def kill(self) -> None:
        """End what runs; each ``run`` under way then raises ``ProgramFailed``."""
        with self._lock:
            for child in self._running:
                _kill(child)


class _Talk:
    """What goes into a program and comes out of it."""

    def __init__(self, child: subprocess.Popen[bytes], payload: bytes) -> None:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        self.child, self.pipes = child, (child.stdin, child.stdout, child.stderr)
        self.stdout, self.stderr = bytearray(), bytearray()
        self._pending = memoryview(payload)
        self._in, self._out, self._err = (pipe.fileno() for pipe in self.pipes)
        self._open = {self._out, self._err}
        self._poller = select.poll()
        for number in (self._in, *self._open):
            os.set_blocking(number, False)
            self._poller.register(number, select.POLLOUT if number == self._in else select.POLLIN)

    def go_on(self, until: float) -> None:
        """Until the program has ended and its pipes are read. Raises ``ProgramFailed`` at ``until`` or on a flood."""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise ProgramFailed("timeouts", "did not end in time")
            # A grandchild may hold the pipes open, so the end of the program is looked for as well.
            ended = has_ended(self.child)
            slice_ = 0.0 if ended else 0.05 if self._open else 0.002
            events = self._poller.poll(min(left, slice_) * 1000)
            read = [self._read(number) for number, _ in events if number != self._in]
            if any(number == self._in for number, _ in events):
                self._write()
            if ended and not any(read):
                return

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._in, self._pending[:65_536]) :]
        except BrokenPipeError:  # a program need not read all
            self._pending = self._pending[:0]
        if not self._pending:
            self._poller.unregister(self._in)
            self._in = -1  # once it is closed, another file may get its number
            self.pipes[0].close()

    def _read(self, number: int) -> bool:
        chunk = os.read(number, 65_536)
        if not chunk:
            self._poller.unregister(number)
            self._open.discard(number)
        elif number == self._out:
            self.stdout += chunk
            if len(self.stdout) > MAX_REPLY:
                raise ProgramFailed("flooded", f"printed more than {MAX_REPLY} bytes")
        else:
            self.stderr = (self.stderr + chunk)[-_STDERR_TAIL:]
        return bool(chunk)


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Without reaping it, so that its number and its group's stay its own."""
    if not hasattr(os, "waitid"):  # an old Python on macOS: the group is then killed a moment too late
        return child.poll() is not None
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The group: the program, if it runs, and what it left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
