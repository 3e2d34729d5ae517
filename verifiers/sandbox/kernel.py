"""System calls that Python has no name for, by ctypes. Every failure is an ``OSError`` that names the call."""

from __future__ import annotations

import ctypes
import os

from verifiers.sandbox.calls import number

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
"""clone(2): the kinds of namespaces."""

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, NOATIME, NODIRATIME = 1, 2, 4, 8, 32, 1024, 2048
BIND, MOVE, REC, PRIVATE, RELATIME = 4096, 8192, 16384, 1 << 18, 1 << 21
DETACH = 2
"""mount(2) and umount(2)."""

PDEATHSIG, DUMPABLE, CAPBSET_DROP, SET_SECCOMP, NO_NEW_PRIVS = 1, 4, 24, 22, 38
"""prctl(2)."""

_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_M_ARENA_MAX = -8

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the interpreter's lock: these calls are short
_libc.syscall.restype = ctypes.c_long
_libc.prctl.restype = ctypes.c_int


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """One system call of ``calls.OURS``."""
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    done: int = _libc.syscall(ctypes.c_long(number(name)), *given)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return done


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with numbers or addresses."""
    given = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    done: int = _libc.prctl(ctypes.c_int(option), *given)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")
    return done


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    call("mount", words[0], words[1], words[2], flags, words[3])


def read_only(target: str, *, device: bool = False, below: bool = True) -> None:
    """Make a mount read-only, by default with all that is mounted below it where the kernel can (5.12)."""
    flags = RDONLY | NOSUID | (0 if device else NODEV)
    how = _AT_RECURSIVE if below else 0
    attributes = b"".join(word.to_bytes(8, "little") for word in (flags, 0, 0, 0))  # struct mount_attr: same bits
    try:
        call("mount_setattr", _AT_FDCWD, os.fsencode(target), how, attributes, len(attributes))
        return
    except OSError:
        seen = os.statvfs(target).f_flag  # what a mount has may be locked: it is to be said again
    for bit, flag in ((8, NOEXEC), (1024, NOATIME), (2048, NODIRATIME), (4096, RELATIME)):
        flags |= flag if seen & bit else 0
    mount(None, target, None, REMOUNT | BIND | flags)


def drop_bounds() -> None:
    """Take every capability out of the bounding set, which children inherit."""
    for capability in range(64):
        try:
            prctl(CAPBSET_DROP, capability)
        except OSError:  # past the last one that this kernel knows, or none to drop
            break


def drop_capabilities() -> None:
    """Have none from now on."""
    header = (0x20080522).to_bytes(4, "little") + bytes(4)  # _LINUX_CAPABILITY_VERSION_3, this process
    call("capset", header, bytes(24))


def one_arena() -> None:
    """Let glibc's malloc keep one arena for all threads: each further one would reserve 64 MiB of address space."""
    mallopt = getattr(_libc, "mallopt", None)  # musl has none, and no arenas
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
