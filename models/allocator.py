"""Memory that was freed stays with the process: on Linux, handing pages back costs more than the arithmetic on them.

glibc maps every allocation above 32 MiB afresh and returns it when it is freed, so each large tensor is paid for with
thousands of page faults, one by one. Kept, it is there the next time.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes, the largest value that an `int` takes here without overflow
_NEVER = (1 << 31) - 1


@cache
def keep_freed_memory() -> bool:
    """Ask for it, once per process; whether this C library has such a setting."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):  # musl has neither
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST) and library.mallopt(_TRIM_THRESHOLD, _NEVER))
