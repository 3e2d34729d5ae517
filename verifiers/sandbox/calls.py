"""System calls by number, for the architectures we know: what we use, and what a program in a jail may use.

x86_64 from arch/x86/entry/syscalls/syscall_64.tbl, aarch64 from include/uapi/asm-generic/unistd.h of Linux; -1: the
architecture has no such call.
"""

from __future__ import annotations

import platform

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine -> its audit architecture (uapi/linux/audit.h), and its column below."""


def _table(text: str) -> dict[str, tuple[int, int]]:
    rows = (row.split() for row in text.replace("\n", ",").split(",") if row.strip())
    return {name: (int(x86), int(arm)) for name, x86, arm in rows}


ALWAYS = _table("""
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70
lseek 8 62, close 3 57, close_range 436 436, dup 32 23, dup2 33 -1, dup3 292 24, pipe 22 -1, pipe2 293 59
open 2 -1, openat 257 56, stat 4 -1, fstat 5 80, lstat 6 -1, newfstatat 262 79, statx 332 291, access 21 -1
faccessat 269 48, faccessat2 439 439, readlink 89 -1, readlinkat 267 78, getcwd 79 17, chdir 80 49, fchdir 81 50
getdents 78 -1, getdents64 217 61, statfs 137 43, fstatfs 138 44, fadvise64 221 223, fsync 74 82, fdatasync 75 83
umask 95 166, poll 7 -1, ppoll 271 73, select 23 -1, pselect6 270 72, epoll_create 213 -1, epoll_create1 291 20
epoll_ctl 233 21, epoll_wait 232 -1, epoll_pwait 281 22, eventfd2 290 19
brk 12 214, mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, msync 26 227
futex 202 98, futex_waitv 449 449, set_robust_list 273 99, rseq 334 293, sched_yield 24 124, membarrier 324 283
getcpu 309 168, nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114
gettimeofday 96 169, time 201 -1, times 100 153, getrusage 98 165, sysinfo 99 179, uname 63 160, getrandom 318 278
getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177
getgroups 115 158, getresuid 118 148, getresgid 120 150, getpgrp 111 -1, getrlimit 97 163
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigsuspend 130 133
rt_sigtimedwait 128 137, sigaltstack 131 132, pause 34 -1, alarm 37 -1, setitimer 38 103, getitimer 36 102
restart_syscall 219 128, wait4 61 260, waitid 247 95, exit 60 93, exit_group 231 94
recvfrom 45 207, shutdown 48 210, getsockname 51 204, getpeername 52 205, getsockopt 55 209
""")
"""Allowed whatever the arguments: the process itself, and files as the jail's tree and Landlock let it."""

FILES = _table("""
truncate 76 45, ftruncate 77 46, fallocate 285 47, mkdir 83 -1, mkdirat 258 34, rmdir 84 -1, unlink 87 -1
unlinkat 263 35, rename 82 -1, renameat 264 38, renameat2 316 276, link 86 -1, linkat 265 37, symlink 88 -1
symlinkat 266 36, chmod 90 -1, fchmod 91 52, fchmodat 268 53, utimensat 280 88, utimes 235 -1, flock 73 32
""")
"""Allowed where there is a scratch file system. Landlock does not know modes and times, so nowhere else."""

SOME = _table("""
clone 56 220, clone3 435 435, kill 62 129, tgkill 234 131, prctl 157 167, prlimit64 302 261, ioctl 16 29, fcntl 72 25
socketpair 53 199, sendto 44 206, getpgid 121 155, getsid 124 156, sched_getaffinity 204 123
""")
"""Allowed for some arguments: see seccomp.py."""

OURS = _table("""
unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, capset 126 91, mount_setattr 442 442
landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446
""")
"""Used by us to build a jail, never allowed inside."""


def machine() -> tuple[int, int]:
    """Audit architecture and column of this machine. Raises ``OSError`` for one that we do not know."""
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise OSError(f"system calls of {platform.machine()!r} are not known here") from None


def number(name: str) -> int:
    """The number of a call that we make ourselves."""
    return OURS[name][machine()[1]]
