"""The code verifier: runs a program in a jail and compares what comes out, here, with what was expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from verifiers.code_cases import (
    MAX_SOURCE,
    Asserts,
    Calls,
    Tests,
    UnreadableTests,
    block,
    equal,
    equal_text,
    read_tests,
)
from verifiers.sandbox import Limits, Program, Result, Sandbox

OUTCOMES = ("pass", "wrong", "timeout_cpu", "memory", "output_limit", "crash", "rejected", "infra")
_COUNTERS = (*OUTCOMES, "no_tests", "no_code")

_STUB = "def {function}(*arguments, **named):\n    raise NotImplementedError\n"
"""No solution: assertions that it passes assert nothing."""


class Job(NamedTuple):
    """A program, and its tests as the case has them: (reference, tests, function)."""

    source: str
    written: tuple[str, str, str]


class Verdict(NamedTuple):
    """What became of a case, by the name that counts it, and its score."""

    outcome: str
    score: float


_NO_TESTS, _INFRA = Verdict("no_tests", math.nan), Verdict("infra", math.nan)
_NO_CODE, _REJECTED = Verdict("no_code", 0.0), Verdict("rejected", 0.0)


class CodeExecutor:
    """Score programs by running them: 1.0 for all tests passed, 0.0 for the program's fault, nan for "cannot tell".

    The ``answer`` holds the program: its last Python block outside ``<think>``, or the whole text where there is no
    fence. The ``reference`` holds the sealed tests as JSON, of one kind:

    - ``{"function": "add", "inputs": [[1, 2]], "outputs": [3]}``: called once for each list of arguments;
    - ``{"stdin": ["1 2\\n"], "stdout": ["3\\n"]}``: run as a script, once for each text;
    - ``{"function": "add", "tests": "assert add(1, 2) == 3"}``: assertions, run in a second jail.

    Where it is blank the slot ``tests`` is taken (``read_tests`` says how). Assertions are first tried on a function
    that only raises: those that hold all the same, or fail before they call it, test nothing. Tests that are missing,
    unreadable or of no use are not the answer's fault: nan, counted as ``no_tests``.

    Expected values never enter the jail. What comes out is compared here, types included: True is not 1, 1 is not 1.0;
    with a ``tolerance`` numbers may differ by that much, relative above 1 and absolute below. ``score="share"`` gives
    the share of the tests that pass, each run by itself, instead of all or nothing; assertions are one test.

    ``cpu_s`` are CPU seconds for a program with all its inputs (``share`` and scripts: with each), ``memory_mib`` its
    memory; ``backend``, ``workers`` and ``program`` are the sandbox's. Raises ``SandboxUnavailable`` where no back end
    holds. The sandbox itself asks about the deadline, many times a second.
    """

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"

    def __init__(
        self,
        backend: str = "auto",
        workers: int | None = None,
        cpu_s: float = 2.0,
        memory_mib: int = 256,
        score: Literal["all", "share"] = "all",
        tolerance: float | None = None,
        program: str = "python",
    ) -> None:
        if score not in ("all", "share"):
            raise ValueError(f"score={score!r} is unknown: all (every test passes) or share (of the tests that pass)")
        if tolerance is not None and not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance must be a number from 0, or null for exact values, not {tolerance}")
        self.score, self.tolerance = score, tolerance
        limits = Limits(cpu_s=cpu_s, memory_mib=memory_mib)
        self.sandbox = Sandbox(backend, workers=workers, limits=limits, program=program)
        self._counts = Counter[str]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        read = [_read(case) for case in cases]
        verdicts = self._judge(list(dict.fromkeys(job for job in read if isinstance(job, Job))))  # equal ones once
        told = [verdicts[job] if isinstance(job, Job) else job for job in read]
        self._counts.update(verdict.outcome for verdict in told)
        return [verdict.score for verdict in told]

    def metrics(self) -> dict[str, float]:
        """Cases since the last call by outcome, besides ``no_tests`` (nan) and ``no_code`` (0); ``unsafe_local`` is 1
        while programs run without a jail."""
        counts = {name: float(self._counts[name]) for name in _COUNTERS}
        self._counts.clear()
        return counts | ({"unsafe_local": 1.0} if self.sandbox.backend == "unsafe_local" else {})

    def close(self) -> None:
        """End the sandbox's workers now, rather than at garbage collection."""
        self.sandbox.close()

    def _judge(self, jobs: Sequence[Job]) -> dict[Job, Verdict]:
        tests = {written: _tests(written) for written in {job.written: None for job in jobs}}
        useless = self._try_asserts(test for test in tests.values() if isinstance(test, Asserts))
        verdicts: dict[Job, Verdict] = {}
        todo: list[tuple[Job, Tests, list[Program]]] = []
        for job in jobs:
            test = tests[job.written]
            if test is None:
                verdicts[job] = _NO_TESTS
            elif isinstance(test, Asserts) and test in useless:
                verdicts[job] = useless[test]
            elif len(job.source) > MAX_SOURCE:
                verdicts[job] = _REJECTED
            else:
                todo.append((job, test, self._programs(job.source, test)))
        results = iter(self.sandbox.run_many([program for _, _, programs in todo for program in programs]))
        for job, test, programs in todo:
            outcomes = [self._outcome(test, unit, next(results)) for unit in range(len(programs))]
            verdicts[job] = self._verdict(outcomes)
        return verdicts

    def _try_asserts(self, tests: Iterable[Asserts]) -> dict[Asserts, Verdict]:
        """Those assertions that cannot tell a solution from none, and what their cases get."""
        asserts = list(dict.fromkeys(tests))
        stubs = [self._programs(_STUB.format(function=test.function), test)[0] for test in asserts]
        useless: dict[Asserts, Verdict] = {}
        for test, result in zip(asserts, self.sandbox.run_many(stubs), strict=True):
            if result.outcome != "wrong":
                useless[test] = _INFRA if result.outcome == "infra" else _NO_TESTS
        return useless

    def _programs(self, source: str, test: Tests) -> list[Program]:
        """What is to run: one program, or one for each test where they are counted or are scripts."""
        if isinstance(test, Asserts):
            return [Program(source, test.function, tests=test.tests)]
        if isinstance(test, Calls):
            parts = [(one,) for one in test.inputs] if self.score == "share" else [test.inputs]
            return [Program(source, test.function, inputs) for inputs in parts]
        return [Program(source, inputs=(text,)) for text in test.stdin]

    def _outcome(self, test: Tests, unit: int, result: Result) -> str:
        """The outcome of one program, once its values or its output are compared with what was expected."""
        if result.outcome != "pass" or isinstance(test, Asserts):
            return result.outcome
        if isinstance(test, Calls):
            expected = test.outputs[unit : unit + 1] if self.score == "share" else test.outputs
            return "pass" if equal(list(expected), list(result.values), self.tolerance) else "wrong"
        return "pass" if equal_text(test.stdout[unit], result.stdout, self.tolerance) else "wrong"

    def _verdict(self, outcomes: Sequence[str]) -> Verdict:
        """All or nothing: one fault decides, whatever else cannot be told. A share is told when every test is."""
        faults = [outcome for outcome in outcomes if outcome not in ("pass", "infra")]
        if "infra" in outcomes and (not faults or self.score == "share"):
            return _INFRA
        passed = outcomes.count("pass") / len(outcomes)
        return Verdict(faults[0] if faults else "pass", passed if self.score == "share" else float(not faults))


def _read(case: Mapping[str, str]) -> Job | Verdict:
    """The job of a case; a verdict where there is nothing to run. Without tests even no code is "cannot tell"."""
    written = (case["reference"], case.get("tests", ""), case.get("function", ""))
    if not written[0].strip() and not written[1].strip():
        return _NO_TESTS
    source = block(case["answer"])
    return Job(source, written) if source.strip() else _NO_CODE


def _tests(written: tuple[str, str, str]) -> Tests | None:
    try:
        return read_tests(*written)
    except UnreadableTests:
        return None
