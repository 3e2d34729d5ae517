"""From a copy of the worker to a jail: what a new process does before it reads the first byte of a program.

Runs in the child, between its birth and ``ready``; whatever fails here is our own fault and is told apart by that.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import math
import os
import resource
from dataclasses import dataclass
from typing import Literal

from verifiers.sandbox import kernel, landlock, seccomp, tree

IN, OUT, ERRORS, RESULT, CALLS = 0, 1, 2, 3, 4
"""A program's descriptors: its request and then its stdin; its stdout; nothing; lines for the trainer, and from it."""
READY = b"r\n"
_MORE_TASKS = 512  # than its user has when a worker starts, besides those of a program on every core
_MOST_TASKS = 1 << 16

Mode = Literal["linux-ns", "linux-landlock", "bwrap", "unsafe_local"]


@dataclass(frozen=True)
class Bounds:
    """Limits of one run as the worker is told them; see ``types.Limits``."""

    cpu_s: float
    wall_s: float
    idle_s: float
    memory_mib: int
    files_mib: int
    threads: int


class Warden:
    """What all jails of one worker share; made once, before any program is near.

    ``proc`` is a descriptor of the machine's /proc. ``scratch``: each program gets a file system of its own.
    """

    def __init__(self, mode: Mode, proc: int) -> None:
        self.mode, self.proc = mode, proc
        self.scratch = mode == "linux-ns"
        self.program = b"" if mode == "unsafe_local" else seccomp.assemble(self.scratch)
        self.landlock = 0 if mode == "unsafe_local" else landlock.abi()
        if mode == "linux-landlock" and not self.landlock:
            raise OSError("this kernel has no Landlock, or it is switched off")
        self.rules = -1
        if self.landlock and not self.scratch:  # opened once, while a library in a private home can still be reached
            self.rules = landlock.ruleset(self.landlock)
            for path, rights in _readable():
                landlock.allow(self.rules, self.landlock, path, rights)
        self.count_threads = self.scratch and _counts_threads()
        self.tasks = 0
        self.size, self.data = self._mapped()

    def count(self) -> None:
        """Find out how many tasks its user has, once that is who it will be."""
        if not self.count_threads and self.mode != "unsafe_local":
            self.tasks = _tasks() + _MORE_TASKS

    def enter(self, descriptors: tuple[int, ...], bounds: Bounds) -> None:
        """Put this process into its jail; ``descriptors`` become the first ones, all others are closed."""
        kernel.prctl(kernel.PDEATHSIG, 9)
        os.setsid()
        high = [_high(descriptor) for descriptor in descriptors]
        if self.scratch:
            kernel.call("unshare", kernel.NEWNS)
            flags = kernel.NOSUID | kernel.NODEV | kernel.NOEXEC
            kernel.mount("tmpfs", tree.SCRATCH, "tmpfs", flags, f"size={bounds.files_mib}m,nr_inodes=1024,mode=700")
            os.chdir(tree.SCRATCH)
        rules = self._rules()
        null = _high(os.open("/dev/null", os.O_WRONLY))
        kept = dict(zip((IN, OUT, RESULT, CALLS), high, strict=False)) | ({CALLS + 1: rules} if rules >= 0 else {})
        for place in range(CALLS + 2):
            if place in kept:
                os.dup2(kept[place], place, inheritable=False)
            elif place != ERRORS:
                _shut(place)
        self._limit(bounds)
        os.environ.clear()
        os.dup2(null, ERRORS, inheritable=False)  # until here our own failures are on the worker's log
        os.closerange(CALLS + 2, 1024)
        if self.mode != "unsafe_local":
            if self.scratch:
                kernel.drop_capabilities()
            kernel.prctl(kernel.NO_NEW_PRIVS, 1)
            if rules >= 0:
                landlock.restrict(CALLS + 1)
            seccomp.restrict(self.program, os.getpid())
        gc.enable()
        os.write(RESULT, READY)

    def _mapped(self) -> tuple[int, int]:
        """Bytes of address space, and of it private data, that the bare worker has."""
        file = os.open("self/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        fields = os.read(file, 256).split()
        os.close(file)
        page = resource.getpagesize()
        return int(fields[0]) * page, int(fields[5]) * page

    def _rules(self) -> int:
        """A Landlock rule set, or -1."""
        if self.scratch and self.landlock:
            rules = landlock.ruleset(self.landlock)
            landlock.allow(rules, self.landlock, "/", landlock.READ)
            landlock.allow(rules, self.landlock, tree.SCRATCH, landlock.SCRATCH)
            return _high(rules)
        return -1 if self.rules < 0 else _high(self.rules)

    def _limit(self, bounds: Bounds) -> None:
        more = bounds.memory_mib << 20
        seconds = math.ceil(bounds.cpu_s) + 1  # for a program that has lost its worker; the worker counts finer
        limits = {
            resource.RLIMIT_AS: self.size + more, resource.RLIMIT_DATA: self.data + more, resource.RLIMIT_CPU: seconds,
            resource.RLIMIT_FSIZE: bounds.files_mib << 20, resource.RLIMIT_NOFILE: 64, resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MEMLOCK: 0, resource.RLIMIT_STACK: min(more, 64 << 20),
            resource.RLIMIT_MSGQUEUE: 0, resource.RLIMIT_SIGPENDING: 64,
        }  # fmt: skip
        if self.count_threads:
            limits[resource.RLIMIT_NPROC] = bounds.threads + 4  # the main one, and the worker's
        elif self.tasks:  # counted with all others of this user, who may start more: far, but an end
            limits[resource.RLIMIT_NPROC] = self.tasks + (bounds.threads + 4) * (os.cpu_count() or 1)
        for name, value in limits.items():
            hard = resource.getrlimit(name)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            # The address space bounds the stack as well, so programs that ask for a larger one may have it.
            resource.setrlimit(name, (value, hard if name == resource.RLIMIT_STACK else value))


def _high(descriptor: int) -> int:
    """The same file at a number that no program knows as its own."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def _shut(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        os.close(descriptor)


def _readable() -> list[tuple[str, int]]:
    """Without a tree of our own: the library less what is installed beside it, shared libraries, harmless devices."""
    hidden = tree.foreign()
    above: list[str] = [place for place in tree.places() if any(_within(one, place) for one in hidden)]
    found = [(place, landlock.READ) for place in tree.places() if place not in above]
    for place in above:
        found += _around(place, hidden)
    return found + [(device, landlock.READ) for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")]


def _around(folder: str, hidden: list[str]) -> list[tuple[str, int]]:
    """A folder without the hidden ones: Landlock cannot subtract, so it is allowed piece by piece."""
    found = [(folder, landlock.LIST)] if folder == tree.library() else []
    for entry in os.scandir(folder):
        if entry.path in hidden or entry.is_symlink():
            continue
        if any(_within(one, entry.path) for one in hidden):
            found += _around(entry.path, hidden)
        elif _within(entry.path, tree.library()) or ".so" in entry.name:
            found.append((entry.path, landlock.READ))
    return found


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _tasks() -> int:
    """Processes and threads that the kernel counts for this user, seen or not: the least limit under which one more
    starts, found by halving. 0 for a user whom no limit holds."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        low, high = 0, _MOST_TASKS if hard == resource.RLIM_INFINITY else min(hard, _MOST_TASKS)
        while low < high:
            middle = (low + high) // 2
            resource.setrlimit(resource.RLIMIT_NPROC, (middle, hard))
            try:
                grandchild = os.fork()
            except OSError:
                low = middle + 1
                continue
            if not grandchild:
                os._exit(0)
            os.waitpid(grandchild, 0)
            high = middle
        os.write(theirs, b"%d" % low)
        os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    found = os.read(ours, 16)
    os.close(ours)
    return int(found)


def _counts_threads() -> bool:
    """Whether the kernel counts this worker's processes apart from all others of the same user (Linux 5.14)."""
    child = os.fork()
    if not child:
        kernel.drop_capabilities()
        resource.setrlimit(resource.RLIMIT_NPROC, (6, 6))
        try:
            grandchild = os.fork()
        except OSError:
            os._exit(1)
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
