"""Programs whose function ``f`` takes and gives Python literals: run in the sandbox, proved by a second run, compared.

Inputs, outputs and answers are text here, and only a jail ever parses it.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from selfplay.deadline import DeadlinePassed, check, remaining
from verifiers.code_cases import MAX_SOURCE
from verifiers.sandbox import Limits, Program, Result, Sandbox

BANNED = (
    "calendar", "datetime", "hashlib", "hmac", "logging", "multiprocessing", "open", "os", "pathlib", "print",
    "random", "secrets", "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
)  # fmt: skip
"""Words that a proposed program may not hold anywhere: chance, clocks, processes, files and the screen."""

MAX_OUTPUT = 2_048
"""Characters of one output: somebody is to write it out."""
MEMORY = 2_048
"""Proofs that are kept, so that a program is not run again for each who asks."""

_BANNED = re.compile(rf"(?<!\w)(?:{'|'.join(BANNED)})(?!\w)")
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,299})", re.ASCII)
_CALLED = "literal_of_f"
_DRIVER = f"""


def {_CALLED}(text):
    import ast

    def show(value):
        kind = type(value)
        if kind in (bool, int, float, complex, str, bytes, type(None)):
            return repr(value)
        if kind in (set, frozenset):
            return "{{" + ", ".join(sorted(map(show, value))) + "}}" if value else "set()"
        if kind is dict:
            return "{{" + ", ".join(show(key) + ": " + show(item) for key, item in value.items()) + "}}"
        if kind is list:
            return "[" + ", ".join(map(show, value)) + "]"
        if kind is tuple:
            return "(" + ", ".join(map(show, value)) + ("," if len(value) == 1 else "") + ")"
        raise TypeError("f gave a " + kind.__name__ + ", which is no literal")

    shown = show(f(*ast.literal_eval("(" + text.strip().removesuffix(",") + "\\n,)")))
    ast.literal_eval(shown)
    return shown
"""
"""Stands behind a program in its jail. What a program does to it spoils that program alone: only text comes out."""
_SAME = """
import ast


def same(left, right):
    try:
        return bool(ast.literal_eval(left.strip()) == ast.literal_eval(right.strip()))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False
"""

Call = tuple[str, tuple[str, ...]]
"""A program, and for each of its calls the arguments as they would stand between the brackets of ``f(...)``."""


class Ran(NamedTuple):
    """What became of a call: an output for each input, or a ``fault``.

    Faults are the sandbox's outcomes (``crash``, ``timeout_cpu``, ..., ``infra`` for our own) and, of a proposal,
    ``banned``, ``differs`` (two runs did not give the same) and ``nothing`` (it gave None).
    """

    outputs: tuple[str, ...] = ()
    fault: str = ""


class Runner:
    """Runs programs that define ``f``, in a sandbox with ``cpu_s`` seconds and ``memory_mib`` for all inputs of one.

    Outputs are written in one way each (sets sorted), so that equal texts mean equal values; what is no literal of at
    most 2,048 characters is a ``crash`` or ``output_limit``. Any thread may call. Raises ``SandboxUnavailable`` where
    no back end holds; calls raise ``SandboxError`` and ``DeadlinePassed``, as the sandbox does.
    """

    def __init__(
        self, backend: str = "auto", workers: int | None = None, cpu_s: float = 2.0, memory_mib: int = 256
    ) -> None:
        limits = Limits(
            cpu_s=cpu_s, memory_mib=memory_mib, value_bytes=6 * MAX_OUTPUT + 2
        )  # a character takes six at most, as JSON
        self.sandbox = Sandbox(backend, workers=workers, limits=limits)
        self._other = Sandbox(backend, workers=workers, limits=limits, hash_seed=1)  # its workers start when needed
        self._proofs: OrderedDict[Call, Ran] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, calls: Sequence[Call], again: bool = False) -> list[Ran]:
        """Run each once, in a jail of its own; ``again`` with other hashes of texts, so another order of sets."""
        sandbox = self._other if again else self.sandbox
        distinct = [call for call in dict.fromkeys(calls) if len(call[0]) <= MAX_SOURCE]
        programs = [Program(source + _DRIVER, _CALLED, tuple([text] for text in texts)) for source, texts in distinct]
        ran = dict(zip(distinct, map(_ran, sandbox.run_many(programs)), strict=True))
        return [ran.get(call, Ran(fault="rejected")) for call in calls]

    def prove(self, calls: Sequence[Call]) -> list[Ran]:
        """What proposed programs give, if they are sound: no banned word, the same from two runs, and not None.

        The two runs differ in the hashes of texts: what goes by the order of a set of texts does not give the same.
        """
        with self._alone():
            fresh = [call for call in dict.fromkeys(calls) if call not in self._proofs]
            proofs = {call: Ran(fault="banned") for call in fresh if _BANNED.search(call[0])}
            todo = [call for call in fresh if call not in proofs]
            for call, once, again in zip(todo, self.run(todo), self.run(todo, again=True), strict=True):
                proofs[call] = _agreed(once, again)
            told = [proofs[call] if call in proofs else self._proofs[call] for call in calls]
            self._proofs |= {call: proof for call, proof in proofs.items() if proof.fault != "infra"}
            while len(self._proofs) > MEMORY:
                self._proofs.popitem(last=False)
        return told

    def same(self, pairs: Sequence[tuple[str, str]]) -> list[int | None]:
        """1 where output and answer, a pair, are literals of equal value as Python has it, else 0; None: no telling."""
        known = {pair: _same_by_sight(pair[0], pair[1].strip()) for pair in pairs}
        asked = [pair for pair, found in known.items() if found is None]
        results = self.sandbox.run_many([Program(_SAME, "same", (list(pair),)) for pair in asked])
        for pair, result in zip(asked, results, strict=True):
            known[pair] = None if result.outcome == "infra" else 1 if result.values == (True,) else 0
        return [known[pair] for pair in pairs]

    def close(self) -> None:
        """End the sandbox's workers; a later call starts new ones."""
        self.sandbox.close()
        self._other.close()

    @contextmanager
    def _alone(self) -> Generator[None, None, None]:
        """One proof at a time: who asks for the same thing finds it done."""
        check()
        if not self._lock.acquire(timeout=min(remaining(), threading.TIMEOUT_MAX)):
            raise DeadlinePassed("another call's programs were still running")
        try:
            yield
        finally:
            self._lock.release()


@lru_cache
def runner(backend: str = "auto", workers: int | None = None, cpu_s: float = 2.0, memory_mib: int = 256) -> Runner:
    """The one ``Runner`` of this process with these settings, so that several parts share its workers and proofs."""
    return Runner(backend, workers, cpu_s, memory_mib)


def _same_by_sight(output: str, answer: str) -> int | None:
    """What needs no jail: equal texts, whole numbers, and answers that are nothing or endless."""
    if output == answer:
        return 1
    if not answer or len(answer) > MAX_SOURCE:
        return 0
    if _INTEGER.fullmatch(output) and _INTEGER.fullmatch(answer):
        return 1 if int(output) == int(answer) else 0
    return None


def _ran(result: Result) -> Ran:
    if result.outcome != "pass":
        return Ran(fault=result.outcome)
    texts = tuple(value for value in result.values if isinstance(value, str))
    if len(texts) < len(result.values):
        return Ran(fault="crash")
    return Ran(texts) if all(len(text) <= MAX_OUTPUT for text in texts) else Ran(fault="output_limit")


def _agreed(once: Ran, again: Ran) -> Ran:
    for ran in (once, again):
        if ran.fault:
            return ran
    if once != again:
        return Ran(fault="differs")
    return Ran(fault="nothing") if "None" in once.outputs else once
