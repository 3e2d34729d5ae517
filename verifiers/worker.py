"""A killable worker: a fresh interpreter that answers JSON requests, each under a deadline that the parent enforces.

The parent holds ``Worker``; the program in the child calls ``serve``. The child is exec'ed, never a fork of the
trainer's memory, and runs isolated (``python -I``) with an empty environment, its own process group, no core dumps and
limits on memory and CPU. It contains accidents and hostile *data*; it is no jail for hostile *code* by itself.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NoReturn, cast

from verifiers.run_program import has_ended

MAX_REPLY = 1 << 20
"""Default bound on one reply, bytes."""
MAX_LOG = 1 << 20
"""What a child may have printed, bytes, before it is forgotten."""
START_SECONDS = 120.0
"""How long the child may take to import and say that it is ready; a loaded machine is slow, not broken."""

# Limits are set in the child before any of the program is imported: preexec_fn would run Python between fork and exec,
# which is unsafe beside threads. A strict worker bounds its address space and, for the log on stderr, files to 1 MiB; a
# trusted one bounds only what it writes to (libraries like torch map far more address space than they use).
_BOOTSTRAP = """
import resource, runpy, sys
memory, strict, root, program = int(sys.argv[1]), sys.argv[2] == "strict", sys.argv[3], sys.argv[4]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if strict:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
resource.setrlimit(resource.RLIMIT_AS if strict else resource.RLIMIT_DATA, (memory, memory))
sys.path.insert(0, root)
sys.argv = sys.argv[4:]
runpy.run_path(program, run_name="__main__")
"""


class WorkerError(RuntimeError):
    """No reply came: the request is undecided, and the next one gets a fresh worker."""


class WorkerTimeout(WorkerError):
    """The deadline passed; the worker was killed."""


class WorkerDied(WorkerError):
    """The worker ended, or broke the protocol and was killed; the message holds the end of its log."""


class WorkerStartError(RuntimeError):
    """The program never became ready: the installation is at fault, not a request."""


class _Process:
    """One child with its pipes. Not for sharing between threads."""

    def __init__(self, program: Path, args: Sequence[str], memory_mib: int, trusted: bool) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        root = Path(__file__).resolve().parent.parent
        limits = [str(memory_mib << 20), "trusted" if trusted else "strict"]
        command = [sys.executable, "-I", "-c", _BOOTSTRAP, *limits, str(root), str(program), *args]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=None if trusted else {},
            cwd=None if trusted else "/", start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self.child.stdin is not None and self.child.stdout is not None
        self.stdin, self.stdout = self.child.stdin, self.child.stdout
        os.set_blocking(self.stdin.fileno(), False)
        os.set_blocking(self.stdout.fileno(), False)
        self.owner = os.getpid()
        self.ready = False

    def exchange(self, message: bytes, until: float, max_reply: int) -> bytes:
        """Write ``message``, read one line. Raises ``WorkerTimeout`` at ``until`` (monotonic) or ``WorkerDied``."""
        poller = select.poll()
        poller.register(self.stdout, select.POLLIN | select.POLLHUP)
        pending = memoryview(message)
        if pending:
            poller.register(self.stdin, select.POLLOUT)
        received = bytearray()
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise WorkerTimeout("no reply before the deadline")
            events = poller.poll(min(left, 1.0) * 1000)
            if not events and has_ended(self.child):  # a child of its own holds the reply pipe open
                raise self._died("ended without a reply")
            for descriptor, _event in events:
                if descriptor == self.stdin.fileno():
                    try:
                        pending = pending[os.write(descriptor, pending[:65_536]) :]
                    except BrokenPipeError:
                        raise self._died("closed its input") from None
                    if not pending:
                        poller.unregister(self.stdin)
                else:
                    chunk = os.read(descriptor, 65_536)
                    if not chunk:
                        raise self._died("ended without a reply")
                    received += chunk
                    if len(received) > max_reply:
                        raise self._died(f"replied with more than {max_reply} bytes")
                    if received.endswith(b"\n"):
                        if self.log.seek(0, os.SEEK_END) > MAX_LOG:  # the place in the file is shared with the child
                            self.log.seek(0)
                            self.log.truncate()
                        return bytes(received)

    def _died(self, what: str) -> WorkerDied:
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 2_000))
        tail = self.log.read().decode(errors="replace").strip()
        return WorkerDied(f"the worker {what}" + (f"; its log ends with:\n{tail}" if tail else ""))

    def kill(self) -> None:
        """Kill the group, reap the child, close the pipes. In a fork of the owner only the descriptors are closed."""
        if os.getpid() == self.owner:
            # Even if the child has ended, for it may have left others behind; and before it is reaped: until then its
            # number is nobody else's.
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # nobody, or only what waits to be reaped
                self.child.kill()
            self.child.wait()
        for pipe in (self.stdin, self.stdout, self.log):
            pipe.close()


class Worker:
    """A program behind a deadline. Started at the first request; a spare then warms up, so that a kill costs little.

    ``program`` is a Python file that ends in ``serve(handle)``; ``args`` reach it as ``sys.argv[1:]``. ``deadline`` is
    in seconds per request, from the moment the request is written; starting and importing do not count. ``memory_mib``
    bounds the address space; a ``trusted`` program, which is a user's own code, keeps the environment and the working
    directory, may write files, and has its private memory bounded instead. Any thread may call; requests wait for one
    another.
    """

    def __init__(
        self,
        program: Path,
        args: Sequence[str] = (),
        *,
        deadline: float,
        memory_mib: int = 1024,
        spare: bool = True,
        max_reply: int = MAX_REPLY,
        trusted: bool = False,
    ) -> None:
        if not deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, not {deadline}")
        if memory_mib < 64:
            raise ValueError(f"memory_mib must be at least 64 (the interpreter itself), not {memory_mib}")
        self.program, self.args = program, tuple(args)
        self.deadline, self.memory_mib, self.max_reply = deadline, memory_mib, max_reply
        self.trusted = trusted
        self._wanted = 2 if spare else 1
        self._processes: list[_Process] = []  # the first one serves
        self._requests = 0
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _kill_all, self._processes)  # at collection and at exit

    def ask(self, request: object, deadline: float | None = None) -> object:
        """The program's reply to a JSON value, within ``deadline`` seconds instead of the worker's own if given.

        Raises ``WorkerTimeout`` past the deadline, ``WorkerDied`` if the worker ends or breaks the protocol (both leave
        a fresh worker for the next request), ``WorkerStartError`` if the program does not start.
        """
        with self._lock:
            process = self._serving()
            self._requests += 1
            number = self._requests
            seconds = self.deadline if deadline is None else deadline
            message = json.dumps([number, seconds, request]).encode() + b"\n"
            try:
                reply = process.exchange(message, time.monotonic() + seconds, self.max_reply)
                return _content(reply, number)
            except BaseException:  # an interrupt too leaves a reply under way that nobody will read
                self._processes.remove(process)
                process.kill()
                self._refill()
                raise

    def close(self) -> None:
        """Kill and reap what runs. A later request starts afresh."""
        with self._lock:
            _kill_all(self._processes)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids, the serving one first."""
        return tuple(process.child.pid for process in self._processes)

    def _refill(self) -> None:
        while len(self._processes) < self._wanted:
            self._processes.append(_Process(self.program, self.args, self.memory_mib, self.trusted))

    def _serving(self) -> _Process:
        if self._processes and self._processes[0].owner != os.getpid():  # we are a fork: these are our parent's
            _kill_all(self._processes)
        dead = [process for process in self._processes if has_ended(process.child) and process.ready]
        for process in dead:
            self._processes.remove(process)
            process.kill()
        self._refill()
        process = self._processes[0]
        if not process.ready:
            try:
                process.exchange(b"", time.monotonic() + START_SECONDS, self.max_reply)
            except WorkerError as error:
                _kill_all(self._processes)
                raise WorkerStartError(f"{self.program.name} did not start: {error}") from error
            process.ready = True
        return process


def _kill_all(processes: list[_Process]) -> None:
    while processes:
        processes.pop().kill()


def _content(reply: bytes, number: int) -> object:
    try:
        value: object = json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise WorkerDied("the worker's reply is not JSON") from error
    parts = cast("list[object]", value) if isinstance(value, list) else []
    if len(parts) != 2 or parts[0] != number:
        raise WorkerDied(f"the worker's reply does not belong to request {number}")
    return parts[1]


def serve(handle: Callable[[object], object]) -> NoReturn:
    """The child's side: say ready, answer each request with ``handle(request)`` until the input ends.

    An exception in ``handle`` ends the process with its traceback in the log: the parent reports it and starts another.
    What the program prints goes to the log, so that nothing but replies is on the reply pipe; what it or a program that
    it starts reads is empty, so that nobody else takes a request.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    replies.write(b"ready\n")
    for line in requests:
        number, deadline, request = cast("tuple[int, float, object]", tuple(json.loads(line)))
        # The kernel's limit is for a child that has lost its parent: the parent's deadline comes first.
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(usage.ru_utime + usage.ru_stime + min(deadline, 1e6) * (os.cpu_count() or 1)) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        reply = json.dumps([number, handle(request)]).encode() + b"\n"
        view = memoryview(reply)
        while view:
            view = view[replies.write(view) :]
    end_group()


def end_group() -> NoReturn:
    """End this worker, without its atexit work, and what it has started: the parent is gone."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
