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
import math
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from verifiers.sandbox import kernel, tree
from verifiers.sandbox.jail import Bounds, Mode, Warden

PROGRAMS = {"python": "verifiers.sandbox.python"}
"""Name -> the module that runs programs of that language; its docstring says what such a module must offer."""
_LONGEST, _SHORTEST = 0.1, 0.003  # seconds between two looks at a program's clock
_MOST = 0.5  # seconds between two looks that may count as sleep
_SPARE = 4  # threads beyond the bound: the main one, and those that are just ending
_IDLE = 0.5  # who neither ran nor waited for a core for this share of its time has slept, however busy it was between


class Language(Protocol):
    def warm(self, cut_off: bool) -> None: ...
    def run(self) -> None: ...


@dataclass
class _Job:
    """One running program. ``beside``: the number of another that works for it, or it itself."""

    number: int
    pid: int
    watch: int
    bounds: Bounds
    began: float
    beside: int
    why: str = ""
    idle: float = 0.0  # seconds in which neither it nor the one beside it ran or waited for a core
    excused: float = 0.0  # seconds of them that the trainer took upon itself
    looked: float = 0.0
    since: float = 0.0  # idle time is known up to here
    stood_still: float = 0.0  # seconds since then in which nobody looked: the machine did, or hardly ran
    used: float = 0.0  # CPU seconds up to there
    delays: dict[str, float] = field(default_factory=dict[str, float])  # of each thread, for a core
    ran: dict[str, int] = field(default_factory=dict[str, int])  # of each thread, when it was looked at
    tasks: int = 0

    @property
    def clock(self) -> int:
        """The kernel's number for its CPU clock."""
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
        self.warden.count()
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
        if "excuse" in order:
            job = self.jobs.get(order["excuse"])
            if job is not None:
                job.excused += order["seconds"]
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
        began = time.monotonic()
        job = _Job(order["run"], pid, watch, bounds, began, order["beside"], looked=began, since=began)
        self.jobs[job.number] = job

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
            return
        now = time.monotonic()
        late = now - job.began >= job.bounds.wall_s
        if job.bounds.idle_s < math.inf and (late or now - job.looked >= _LONGEST / 2):
            self._time(job, now)
        if job.tasks > job.bounds.threads + _SPARE:
            self._kill(job, "threads")
        idle = job.idle - job.excused
        if idle >= job.bounds.idle_s or (late and idle > _IDLE * job.bounds.wall_s):
            self._kill(job, "slept")
        elif late:
            self._kill(job, "wall")

    def _time(self, job: _Job, now: float) -> None:
        """Add to its idle time what it slept since the last look: whoever neither ran nor waited for a core, although
        the machine had time, waits for something by its own will.

        The kernel counts a wait for a core when it is over: while a thread is in one for longer than from look to look
        nothing is added yet, and a shorter one is taken off later.
        """
        job.stood_still += max(0.0, now - job.looked - _MOST)
        job.looked = now
        both = {id(one): one for one in (job, self.jobs.get(job.beside, job))}.values()
        threads = [self._threads(one) for one in both]
        if not any(waits for waits, _ in threads):
            idle = now - job.since - job.stood_still
            for one, (_, delays) in zip(both, threads, strict=True):
                before, one.used = one.used, self._used(one)
                # Of several threads the longest wait: the sum is more than the time where many wait at once.
                waits = [waited - one.delays.get(thread, 0.0) for thread, waited in delays.items()]
                idle -= one.used - before + max(waits, default=idle)
                one.delays = delays
            job.idle = max(0.0, job.idle + idle)
            job.since, job.stood_still = now, 0.0

    def _threads(self, job: _Job) -> tuple[bool, dict[str, float]]:
        """Whether one of its threads has waited for a core since the last look, and still does; and how many seconds
        each has waited for one in its life. Nothing where the kernel does not count that."""
        waits, delays, before, job.ran = False, dict[str, float](), job.ran, {}
        with contextlib.suppress(OSError, StopIteration, ValueError):
            host = next(line for line in self._read(f"self/fdinfo/{job.watch}").splitlines() if line.startswith("Pid:"))
            place = f"{host.split()[1]}/task"
            folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
            try:
                names = os.listdir(folder)
            finally:
                os.close(folder)
            job.tasks = len(names)
            for name in names:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    ran, waited = map(int, self._read(f"{place}/{name}/schedstat").split()[:2])
                    ready = self._read(f"{place}/{name}/stat").rpartition(")")[2].split()[0] == "R"
                    waits |= ready and before.get(name) == ran
                    job.ran[name] = ran
                    delays |= {name: waited / 1e9} if ran else {}  # a kernel that does not count says 0
        return waits, delays

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
            "run": job.number, "why": job.why, "excused": job.excused, "status": os.waitstatus_to_exitcode(status),
            "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss << 10,
        }  # fmt: skip
        self.link.send(json.dumps(report).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), cast("Mode", sys.argv[2]), sys.argv[3])
