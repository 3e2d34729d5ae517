"""The worker: a fresh interpreter that shuts itself in and then starts one jailed process for each run.

It reads orders and descriptors from the trainer and never a byte from a program: a request, its answer and its output
go past it, through pipes that the trainer made. What it says of a run is what the kernel says: the wait status, the CPU
time, the peak of memory, and why it ended it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any, Protocol, cast

from verifiers.sandbox import kernel, tree
from verifiers.sandbox.jail import Bounds, Mode, Warden

PROGRAMS = {"python": "verifiers.sandbox.python"}
"""Name -> the module that runs programs of that language; its docstring says what such a module must offer."""
_LONGEST, _SHORTEST = 0.1, 0.003  # seconds between two looks at a program's clock
_IDLE = 0.5  # who neither ran nor waited for a core for this share of its time has slept, however busy it was between


class Language(Protocol):
    def warm(self, cut_off: bool) -> None: ...
    def run(self) -> None: ...


@dataclass
class _Job:
    """One running program. ``clock`` is the kernel's number for its CPU clock."""

    number: int
    pid: int
    watch: int
    bounds: Bounds
    began: float
    why: str = ""

    @property
    def clock(self) -> int:
        return ((~self.pid) << 3) | 2  # CPUCLOCK_SCHED of all its threads, as the kernel makes such numbers


def main(control: int, mode: Mode, program: str) -> None:
    """Serve until the trainer hangs up. What goes wrong at the start is told in one sentence."""
    link = socket.socket(fileno=control)
    try:
        language = cast("Language", importlib.import_module(PROGRAMS[program]))
        language.warm(
            cut_off=mode == "linux-landlock" and os.geteuid() == 0
        )  # it becomes nobody, who may reach nothing
        zygote = _Zygote(link, language, mode)
    except OSError as error:
        link.send(json.dumps({"failed": str(error)}).encode())
        return
    link.send(b'{"ready": true}')
    zygote.serve()


class _Zygote:
    def __init__(self, link: socket.socket, language: Language, mode: Mode) -> None:
        self.link, self.language, self.mode = link, language, mode
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
            if signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        kernel.one_arena()
        kernel.drop_bounds()
        self.cores = len(os.sched_getaffinity(0))
        if mode == "linux-ns":
            self.proc = tree.isolate()
            self.spaces = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        else:
            self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.spaces = -1
            if mode == "linux-landlock":
                readable = Warden(mode, self.proc)  # it looks for the library while it may
                if os.geteuid() == 0:
                    tree.become_nobody()
                kernel.prctl(kernel.DUMPABLE, 1)
                self.warden = readable
        if mode != "linux-landlock":
            self.warden = Warden(mode, self.proc)
        self.jobs: dict[int, _Job] = {}
        self.poller = select.poll()
        self.poller.register(link, select.POLLIN)
        gc.collect()
        gc.disable()
        gc.freeze()

    def serve(self) -> None:
        while True:
            wait = min((self._next(job) for job in self.jobs.values()), default=None)
            events = self.poller.poll(None if wait is None else 1000 * wait)
            ready = {descriptor for descriptor, _ in events}
            if self.link.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(self.link, 4096, 8)
                if not message:
                    break
                self._order(json.loads(message), descriptors)
            for job in list(self.jobs.values()):
                if job.watch in ready:
                    self._finish(job)
                else:
                    self._look(job)
        for job in self.jobs.values():
            os.kill(job.pid, signal.SIGKILL)
            os.waitpid(job.pid, 0)
        os._exit(0)

    def _order(self, order: dict[str, Any], descriptors: list[int]) -> None:
        if "kill" in order:
            job = self.jobs.get(order["kill"])
            if job is not None:
                self._kill(job, "told")
            return
        bounds = Bounds(**order["bounds"])
        if self.spaces >= 0:
            kernel.call("unshare", kernel.NEWPID)
        pid = os.fork()
        if not pid:
            try:
                self.warden.enter(tuple(descriptors), bounds)
            except BaseException:  # noqa: BLE001 - no copy of the worker may go on from here
                traceback.print_exc()
                os._exit(70)
            try:
                self.language.run()
            finally:
                os._exit(70)
        if self.spaces >= 0:
            kernel.call("setns", self.spaces, kernel.NEWPID)
        for descriptor in descriptors:
            os.close(descriptor)
        watch = os.pidfd_open(pid)
        self.poller.register(watch, select.POLLIN)
        self.jobs[order["run"]] = _Job(order["run"], pid, watch, bounds, time.monotonic())

    def _used(self, job: _Job) -> float:
        return time.clock_gettime(job.clock)

    def _next(self, job: _Job) -> float:
        """Seconds until this program could be over one of its limits."""
        if job.why:
            return _LONGEST
        left = min((job.bounds.cpu_s - self._used(job)) / self.cores, job.began + job.bounds.wall_s - time.monotonic())
        return min(_LONGEST, max(_SHORTEST, left))

    def _look(self, job: _Job) -> None:
        if job.why:
            return
        if self._used(job) >= job.bounds.cpu_s:
            self._kill(job, "cpu")
        elif time.monotonic() - job.began >= job.bounds.wall_s:
            self._kill(job, "slept" if self._slept(job) else "wall")

    def _slept(self, job: _Job) -> bool:
        """Whether it hardly ran although the machine had time for it: then it waits for something by its own will."""
        wall = time.monotonic() - job.began
        waited = 0.0
        try:
            host = next(line for line in self._read(f"self/fdinfo/{job.watch}").splitlines() if line.startswith("Pid:"))
            folder = os.open(f"{host.split()[1]}/task", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
            try:
                tasks = os.listdir(folder)
            finally:
                os.close(folder)
            for task in tasks:
                waited = max(waited, int(self._read(f"{host.split()[1]}/task/{task}/schedstat").split()[1]) / 1e9)
        except (OSError, StopIteration, ValueError, IndexError):
            return False  # a kernel that does not count it: nothing is known
        return wall - self._used(job) - waited > _IDLE * wall

    def _read(self, path: str) -> str:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            return os.read(file, 4096).decode()
        finally:
            os.close(file)

    def _kill(self, job: _Job, why: str) -> None:
        job.why = job.why or why
        os.kill(job.pid, signal.SIGKILL)
        self._sweep(job)

    def _sweep(self, job: _Job) -> None:
        """Where nothing keeps a program from starting others, end at least those that stay in its session's group."""
        if self.mode == "unsafe_local":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(job.pid, signal.SIGKILL)

    def _finish(self, job: _Job) -> None:
        self._sweep(job)
        _, status, usage = os.wait4(job.pid, 0)
        self.poller.unregister(job.watch)
        os.close(job.watch)
        del self.jobs[job.number]
        report = {
            "run": job.number, "why": job.why, "status": os.waitstatus_to_exitcode(status),
            "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss << 10,
        }  # fmt: skip
        self.link.send(json.dumps(report).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), cast("Mode", sys.argv[2]), sys.argv[3])
