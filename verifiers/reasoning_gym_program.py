"""The program of ``verifiers.reasoning_gym``'s worker: a sealed entry and an answer in, the library's score out.

A word in place of a score is the name of what went wrong: ``unread_references``, ``broken_scorers``, or
``worker_deaths`` for a case that ended its process.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import struct
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

from verifiers.sandbox.calls import ALWAYS, machine
from verifiers.sandbox.seccomp import assemble, restrict
from verifiers.worker import serve

gym: Any = import_module("reasoning_gym")
_NO_NEW_PRIVS = 38
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_BREAKS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
           SyntaxError, TypeError, ValueError)  # fmt: skip
"""What the library's scorers raise over answers that they did not foresee; some evaluate the answer."""


@lru_cache(maxsize=64)
def scorer(task: str, options: str) -> Any:
    """The task's data set, which holds its scorer. Raises what the library raises over an unknown task."""
    dealt = gym.create_dataset(task, seed=0, size=1, **json.loads(options))
    entry = dealt[0]
    dealt.score_answer(entry["answer"], entry)  # here, not in every process anew: it imports as it goes
    return dealt


def answer(request: object) -> float | str:
    """The score of ``[reference, answer]``, reckoned in a process that may reckon and nothing else."""
    reference, given = (str(text) for text in cast("list[object]", request))
    try:
        sealed = json.loads(reference)
        task = scorer(str(sealed["task"]), json.dumps(sealed["options"]))
        entry = sealed["entry"]
    except (AssertionError, LookupError, TypeError, ValueError):
        return "unread_references"
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        shut_in(tells)
        os.write(tells, json.dumps(judge(task, given, entry)).encode())
        os._exit(0)
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        words = pipe.read(64)
    os.waitpid(child, 0)
    try:
        score = json.loads(words)
    except ValueError:
        return "worker_deaths"
    number = isinstance(score, float | int) and math.isfinite(score)
    return float(score) if number else "broken_scorers"


def judge(task: Any, given: str, entry: Any) -> float | str:
    try:
        return float(task.score_answer(given, entry))
    except _BREAKS:
        return "broken_scorers"


def shut_in(tells: int) -> None:
    """From here on no process, no program, no connection and no change to a file, as the kernel holds it; of what is
    open only ``tells`` is left. Files may be read: a library imports most of itself as it goes."""
    os.closerange(0, tells)
    os.closerange(tells + 1, 1024)
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not let this process give up privileges")
    restrict(read_only(), os.getpid())
    restrict(assemble(scratch=False), os.getpid())  # the last: it lets nobody add another


def read_only() -> bytes:
    """A filter of system calls by which files are opened for reading alone (uapi/linux/seccomp.h)."""
    arch, column = machine()
    load, equal, any_of, stop = 0x20, 0x15, 0x45, 0x06
    allow, deny, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    number, architecture, first_argument = 0, 4, 16
    steps = [(load, 0, 0, architecture), (equal, 1, 0, arch), (stop, 0, 0, kill)]
    for name, place in (("open", 1), ("openat", 2)):
        if ALWAYS[name][column] >= 0:
            flags = first_argument + 8 * place
            steps += [(load, 0, 0, number), (equal, 0, 4, ALWAYS[name][column]), (load, 0, 0, flags)]
            steps += [(any_of, 0, 1, _WRITES), (stop, 0, 0, deny), (stop, 0, 0, allow)]
    return b"".join(struct.pack("<HBBI", *step) for step in (*steps, (stop, 0, 0, allow)))


def works() -> bool:
    """Whether a right answer is found right in such a process."""
    entry = gym.create_dataset("chain_sum", seed=0, size=1)[0]
    return answer([json.dumps({"task": "chain_sum", "options": {}, "entry": entry}), entry["answer"]]) == 1.0


if __name__ == "__main__":
    if not works():
        raise SystemExit("the kernel cannot shut a process in (seccomp)")
    serve(answer)
