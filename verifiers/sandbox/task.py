"""A program on its way through a worker: one jail, or two that are let speak with each other."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, cast

from verifiers.sandbox import typed
from verifiers.sandbox.run import Run
from verifiers.sandbox.types import Limits, Program, Result
from verifiers.sandbox.worker import Worker


@dataclass
class Single:
    """Calls of a function, or a script."""

    run: Run
    expected: int | None

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.run,)

    def step(self) -> None:
        """Nothing to carry."""

    def result(self) -> Result:
        return self.run.result(self.expected)


class Pair:
    """A solution, and the tests that call it: two strangers, who exchange typed values through the trainer alone."""

    def __init__(self, solution: Run, tests: Run) -> None:
        self.solution, self.tests = solution, tests
        self.runs = (solution, tests)
        self.waiting = False  # for the solution's answer to a call
        self.first: Run | None = None  # to end, by itself or by its fault

    def step(self) -> None:
        """Carry calls there and answers back, one at a time; when one side is over so is the other."""
        solution, tests = self.runs
        if self.first is None:
            self._carry()
            ended = [run for run in (tests, solution) if run.report is not None or run.fault is not None]
            if ended:
                self.first = ended[0]
                for run in self.runs:
                    if run.report is None:
                        run.worker.stop(run.number)

    def result(self) -> Result:
        solution, tests = self.runs
        told = solution.result(0)
        if self.first is tests:
            found = tests.result(0)
            if found.outcome not in ("pass", "wrong"):
                found = replace(found, detail=f"tests: {found.detail}")
        elif told.outcome in ("pass", "wrong"):
            found = replace(told, outcome="crash", detail="the program ended before its tests")
        else:
            found = told
        reports = [run.report for run in self.runs if run.report is not None]
        text = b"".join(bytes(run.stdout) for run in self.runs)[: solution.limits.output_bytes]
        return replace(
            found, values=(), stdout=text.decode(errors="replace"), cpu_s=sum(report["cpu"] for report in reports),
            memory=max((report["memory"] for report in reports), default=0),
        )  # fmt: skip

    def _carry(self) -> None:
        solution, tests = self.runs
        if (solution.values or solution.raised) and not self.waiting:
            solution.blame("crash", "it answered what nobody asked")
            return
        if self.waiting and solution.values:
            tests.answer(json.dumps(["v", solution.values.pop(0)]))
            self.waiting = False
        elif self.waiting and solution.raised:
            tests.answer(json.dumps(["e", *solution.raised.pop(0)]))
            self.waiting = False
        if tests.asked and not self.waiting:
            call = _call(tests.asked.pop(0))
            if call is None:
                tests.blame("crash", "an illegal call")
            else:
                solution.answer(call)
                self.waiting = True


Task = Single | Pair


def plan(program: Program, limits: Limits, number: int) -> Task:
    """A program's task; its runs are ``number`` and the next. Raises ``ValueError`` for one that makes no sense."""
    limits = program.limits or limits
    request: dict[str, Any] = {"source": program.source, "function": program.function, "inputs": []}
    if program.tests is not None:
        if program.function is None or program.inputs:
            raise ValueError("a program with tests needs a function, and has no inputs")
        # The tests' clock decides: the solution waits for them, and while they wait for it its work is theirs.
        patient = replace(limits, wall_s=2 * limits.backstop + 5, idle_s=math.inf)
        return Pair(
            Run(number, request | {"mode": "session"}, b"", patient),
            Run(number + 1, request | {"mode": "tests", "source": program.tests}, b"", limits, beside=number),
        )
    if program.function is None:
        texts = program.inputs or ("",)
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise ValueError("a script takes one text as its stdin, for instance inputs=('1 2\\n',)")
        return Single(Run(number, request | {"mode": "stdio"}, texts[0].encode(errors="replace"), limits), None)
    if not all(isinstance(arguments, list | tuple) for arguments in program.inputs):
        raise ValueError("each input is a list of arguments, for instance inputs=([1, 2],)")
    given = [list(arguments) for arguments in program.inputs]
    return Single(Run(number, request | {"mode": "call", "inputs": given}, b"", limits), len(given))


def begin(task: Task, worker: Worker) -> None:
    """Start its runs. Raises ``WorkerLost``."""
    for run in task.runs:
        run.start(worker)


def _call(text: str) -> str | None:
    try:
        found = typed.decode(text)
    except typed.IllegalValue:
        return None
    parts = cast("list[object]", found) if isinstance(found, list) else []
    fits = len(parts) == 2 and isinstance(parts[0], list) and isinstance(parts[1], dict)
    return json.dumps(parts) if fits else None
