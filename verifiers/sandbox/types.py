"""What goes into the sandbox and what comes out: values only, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class SandboxError(RuntimeError):
    """The sandbox itself failed; it says nothing about any program."""


class SandboxUnavailable(SandboxError):
    """No back end that was asked for holds on this machine."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one program, all its inputs together."""

    cpu_s: float = 2.0
    """CPU seconds of all threads."""
    wall_s: float | None = None
    """A backstop, not a verdict: past it the outcome is "infra". By default ``max(4 * cpu_s, cpu_s + 10)``."""
    idle_s: float | None = None
    """Seconds in which it neither runs nor waits for a core; more is "timeout_cpu". By default ``max(2 * cpu_s, 3)``:
    a program that sleeps is ended well before the backstop, on a loaded machine too, and one that works is not."""
    memory_mib: int = 256
    """Memory that the program may map beyond the bare interpreter."""
    output_bytes: int = 65_536
    """Bytes on stdout; more is "output_limit"."""
    value_bytes: int = 1 << 20
    """Bytes of the values as JSON; more is "output_limit"."""
    files_mib: int = 16
    """The scratch file system and working directory; in ``linux-landlock`` there is none, nothing can be written."""
    threads: int = 32
    """Threads besides the main one. In ``linux-landlock`` the kernel cannot count those of one program: there memory
    bounds them, and all programs of this user together may have some 500 threads."""

    def __post_init__(self) -> None:
        for name in ("cpu_s", "memory_mib", "output_bytes", "value_bytes", "files_mib", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}")
        for name in ("wall_s", "idle_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0 seconds or null, not {value!r}")

    @property
    def backstop(self) -> float:
        """Seconds by the clock after which a program is given up."""
        return self.wall_s if self.wall_s is not None else max(4 * self.cpu_s, self.cpu_s + 10)

    @property
    def idle(self) -> float:
        """Seconds that a program may sleep, all in all."""
        return self.idle_s if self.idle_s is not None else max(2 * self.cpu_s, 3.0)


@dataclass(frozen=True)
class Program:
    """A stranger's program and how to run it.

    With ``function``: it is called once for each of ``inputs``, a list of JSON arguments each. Without: the program is
    run as a script, and ``inputs[0]`` is what it reads from stdin. With ``tests``: a second stranger's program, which
    asserts things about ``function``; it runs in a jail of its own and its calls are carried to the first one's.
    """

    source: str
    function: str | None = None
    inputs: tuple[Any, ...] = ()
    tests: str | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class Result:
    """What became of a program.

    | outcome | |
    |---|---|
    | pass | it gave one value for each input; or ended by itself as a script; or held all assertions |
    | wrong | an assertion failed, or the solution raised in one |
    | timeout_cpu | it used up its CPU time, or slept for too long on a machine that had time for it |
    | memory | it wanted more memory than it may have |
    | output_limit | stdout or the values are too long |
    | crash | an exception, a signal, an early exit, no such function, too few values, values that JSON does not know |
    | rejected | the source does not compile |
    | infra | our own fault or the machine's: nothing is known about the program |

    ``values`` are what the calls returned: bool, int, float (nan and infinities too), str, None, list, dict with str
    keys, nothing else; tuples have become lists. ``cpu_s`` in seconds, ``memory`` the peak in bytes, interpreter
    included. ``detail`` is one line for people.
    """

    outcome: str
    values: tuple[Any, ...] = ()
    stdout: str = ""
    cpu_s: float = 0.0
    memory: int = 0
    detail: str = ""
