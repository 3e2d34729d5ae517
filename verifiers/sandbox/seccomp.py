"""The list of system calls that a program in a jail may make, as a classic BPF program (uapi/linux/seccomp.h).

Everything else fails with EPERM, so that an honest program that tries something odd gets an exception and goes on. No
new process, no exec, no socket to anybody else, no signal to others nor the two to itself that nobody can catch: a
program that is found dead of SIGKILL was killed by us or by the machine.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from verifiers.sandbox.calls import ALWAYS, FILES, SOME, machine
from verifiers.sandbox.kernel import SET_SECCOMP, prctl

_LOAD, _AND, _EQUAL, _ABOVE, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_DENY = _ERRNO | errno.EPERM
_NUMBER, _ARCH, _X32 = 0, 4, 0x40000000
_PID = 0x5EC0_1D01  # stands for the program's own process id until that is known

_THREAD = 0x00010900  # CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
_CLONE_ODD = 0x7E020000 | 0x2000 | 0x4000  # new namespaces, CLONE_PTRACE, CLONE_VFORK
_STOPPING = (9, 19)  # SIGKILL, SIGSTOP
_NAMES = (15, 16)  # PR_SET_NAME, PR_GET_NAME
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)  # duplicates, flags, locks, F_GETPIPE_SZ; no F_SETOWN
_STACK = 3  # RLIMIT_STACK, the one limit that a program may set

Step = tuple[int, int, int, int]


def _step(code: int, k: int, then: int = 0, other: int = 0) -> Step:
    return code, then, other, k & 0xFFFFFFFF


def _argument(index: int, high: bool = False) -> Step:
    """Load half of an argument; both machines are little-endian."""
    return _step(_LOAD, 16 + 8 * index + 4 * high)


def _among(values: tuple[int, ...]) -> list[Step]:
    """Allow if what is loaded is one of these, else deny."""
    tests = [_step(_EQUAL, value, len(values) - at) for at, value in enumerate(values)]
    return [*tests, _step(_RETURN, _DENY), _step(_RETURN, _ALLOW)]


def _signal(at: int) -> list[Step]:
    """To itself only, and nothing that cannot be caught; argument ``at`` is the signal."""
    deny = [_step(_RETURN, _DENY)]
    tests = [_step(_EQUAL, number, len(_STOPPING) - n) for n, number in enumerate(_STOPPING)]
    return [
        _argument(0), _step(_EQUAL, _PID, 1), *deny,
        _argument(at), *tests, _step(_RETURN, _ALLOW), *deny,
    ]  # fmt: skip


def _some() -> dict[str, list[Step]]:
    own = [_argument(0), *_among((0,))]
    return {
        "clone": [_argument(0), _step(_AND, _THREAD | _CLONE_ODD), *_among((_THREAD,))],
        "clone3": [_step(_RETURN, _ERRNO | errno.ENOSYS)],  # its flags are in memory; the C library falls back on clone
        "kill": _signal(1), "tgkill": _signal(2),
        "prctl": [_argument(0), *_among(_NAMES)],
        "prlimit64": [  # its own limits: read all, set the stack's
            _argument(0), _step(_EQUAL, 0, 1), _step(_RETURN, _DENY),
            _argument(1), _step(_EQUAL, _STACK, 0, 1), _step(_RETURN, _ALLOW),
            _argument(2), _step(_EQUAL, 0, 1), _step(_RETURN, _DENY),
            _argument(2, high=True), *_among((0,)),
        ],
        "ioctl": [_argument(1), *_among(_IOCTL)],
        "fcntl": [_argument(1), *_among(_FCNTL)],
        "socketpair": [  # asyncio wakes itself through one; a stream between two ends cannot be sent elsewhere
            _argument(0), _step(_EQUAL, 1, 1), _step(_RETURN, _DENY), _argument(1), _step(_AND, 0xF), *_among((1,)),
        ],
        "sendto": [_argument(4), _step(_EQUAL, 0, 1), _step(_RETURN, _DENY), _argument(4, high=True), *_among((0,))],
        "getpgid": own, "getsid": own, "sched_getaffinity": own,
    }  # fmt: skip


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Sorted numbers as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def _search(ranges: list[tuple[int, int]], least: int = 0) -> list[Step]:
    """Allow a number in one of the ranges, else deny, by halving; it is known to be ``least`` or more.

    The kernel runs a new filter once for every system call that it has, so that a list gone through one by one costs
    each jail more than its fork's page tables.
    """
    if len(ranges) == 1:
        first, last = ranges[0]
        low = [_step(_AT_LEAST, first, 0, 2)] if first > least else []
        return [*low, _step(_ABOVE, last, 1), _step(_RETURN, _ALLOW), _step(_RETURN, _DENY)]
    middle = len(ranges) // 2
    upper = _search(ranges[middle:], ranges[middle][0])
    return [_step(_AT_LEAST, ranges[middle][0], 0, len(upper)), *upper, *_search(ranges[:middle], least)]


def assemble(scratch: bool) -> bytes:
    """The program for this machine; ``scratch``: the jail has files of its own to change."""
    arch, column = machine()
    steps = [
        _step(_LOAD, _ARCH), _step(_EQUAL, arch, 1), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL),
    ]  # fmt: skip
    for name, block in _some().items():
        if SOME[name][column] >= 0:
            steps += [_step(_EQUAL, SOME[name][column], 0, len(block)), *block]
    numbers = sorted({row[column] for row in (ALWAYS | (FILES if scratch else {})).values()} - {-1})
    steps += _search(_ranges(numbers))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def restrict(program: bytes, pid: int) -> None:
    """Hold this process to the list, for ever; ``pid`` is its own id. It must have NO_NEW_PRIVS."""
    program = program.replace(struct.pack("<I", _PID), struct.pack("<I", pid))
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    prctl(SET_SECCOMP, 2, ctypes.addressof(header))
