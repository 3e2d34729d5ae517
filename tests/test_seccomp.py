"""The list of system calls, run by an interpreter of our own over every number: allowed is exactly what it names."""

from __future__ import annotations

import errno
import struct

import pytest

from verifiers.sandbox import seccomp
from verifiers.sandbox.calls import ALWAYS, FILES, SOME, machine

ALLOW, KILL, DENY = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
ARCH, COLUMN = machine()


def verdict(program: bytes, number: int, arch: int = ARCH, arguments: tuple[int, ...] = ()) -> int:
    """What the filter returns for a call; classic BPF as seccomp(2) defines it."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at, loaded = 0, 0
    while True:
        code, then, other, k = steps[at]
        at += 1
        if code == 0x20:
            loaded = struct.unpack_from("<I", data, k)[0]
        elif code == 0x54:
            loaded &= k
        elif code == 0x06:
            return k
        else:
            holds = {0x15: loaded == k, 0x25: loaded > k, 0x35: loaded >= k}[code]
            at += then if holds else other


def numbers(*tables: dict[str, tuple[int, int]]) -> set[int]:
    return {row[COLUMN] for table in tables for row in table.values()} - {-1}


@pytest.mark.parametrize("scratch", [True, False])
def test_exactly_the_listed_calls_are_allowed(scratch: bool) -> None:
    program = seccomp.assemble(scratch)
    listed = numbers(ALWAYS, FILES) if scratch else numbers(ALWAYS)
    looked_at = numbers(SOME)
    assert len(listed) > 100
    for number in set(range(1_500)) - looked_at:
        assert verdict(program, number) == (ALLOW if number in listed else DENY), number


def test_another_architectures_numbers_end_the_program() -> None:
    """The 32-bit calls of the same machine, and x32's."""
    program = seccomp.assemble(True)
    assert verdict(program, 1, 0x40000003) == KILL
    assert verdict(program, 0x40000001) == KILL


def test_what_is_looked_at_more_closely() -> None:
    """A thread and no process; a signal to oneself and to nobody else; limits read and not set."""
    program = seccomp.assemble(True).replace(struct.pack("<I", seccomp._PID), struct.pack("<I", 7))
    call = {name: row[COLUMN] for name, row in SOME.items()}
    thread, process = 0x003D0F00, 0x01200011  # what the C library asks for: pthread_create, fork
    assert verdict(program, call["clone"], arguments=(thread,)) == ALLOW
    assert verdict(program, call["clone"], arguments=(process,)) == DENY
    assert verdict(program, call["clone"], arguments=(thread | 0x10000000,)) == DENY, "a user namespace"
    assert verdict(program, call["clone3"]) == 0x00050000 | errno.ENOSYS
    assert verdict(program, call["kill"], arguments=(7, 15)) == ALLOW
    assert verdict(program, call["kill"], arguments=(8, 15)) == DENY
    assert verdict(program, call["kill"], arguments=(7, 9)) == DENY, "so that a SIGKILL was never its own"
    assert verdict(program, call["kill"], arguments=(0xFFFFFFFF, 15)) == DENY
    assert verdict(program, call["prlimit64"], arguments=(0, 7, 0)) == ALLOW
    assert verdict(program, call["prlimit64"], arguments=(0, 7, 1)) == DENY
    assert verdict(program, call["prlimit64"], arguments=(0, 7, 1 << 32)) == DENY, "the high half of a pointer"
    assert verdict(program, call["socketpair"], arguments=(1, 1)) == ALLOW
    assert verdict(program, call["socketpair"], arguments=(2, 1)) == DENY
