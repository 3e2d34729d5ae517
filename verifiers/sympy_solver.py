"""The maths verifier: right, wrong or cannot tell, decided by exact rationals here and by algebra in a worker."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal

from selfplay.deadline import check, remaining
from verifiers.maths.asked import (
    CONSTANTS,
    Solved,
    asked,
    assignments,
    reference_tree,
    right_of,
    solve,
    unfinished,
    with_roots,
    without_label,
)
from verifiers.maths.compare import Rational, Undecided, bare, same
from verifiers.maths.differentiate import derivative, substitute
from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.extract import candidates
from verifiers.maths.shape import is_literal, is_unfinished
from verifiers.maths.tasks import Task
from verifiers.maths.tree import Node, Unreadable, from_json, symbols
from verifiers.maths.values import read
from verifiers.worker import Worker, WorkerDied, WorkerTimeout

RIGHT, WRONG, CANNOT_TELL = 1.0, 0.0, float("nan")
_PROGRAM = Path(__file__).resolve().parent / "maths" / "program.py"
_INTEGER = re.compile(r"-?\d{1,300}", re.ASCII)
_RATIONAL = Rational()
_COUNTERS = ("timeouts", "worker_deaths", "unsolved", "unreadable_answers")
_KEPT = 4_096


class _NoReply(Exception):
    """The worker was killed at the deadline, or died; it is counted."""


class _Case(threading.local):
    """The time that the case under way, in this thread, still has of the worker; None before it needed it."""

    left: float | None = None


class SympySolver:
    """Score answers to maths: 1.0 right, 0.0 wrong, nan cannot tell.

    Where a case has a ``reference``, the answer is compared with it; otherwise the query itself is solved: arithmetic,
    equations and systems of them, derivatives and integrals. A query or reference that cannot be read, or has no
    unique meaning, is nan; an answer that cannot be read is 0.0. The policy is in ``docs/maths.md``.

    Rational arithmetic is decided in this process under budgets that bound it by construction. Roots, functions and
    symbols go to a worker with sympy, ``deadline`` seconds per case and ``memory_mib`` MiB of address space: a case
    that is not decided in time is nan and counted. Equal cases of a call are decided, and counted, once. Raises
    ``WorkerStartError`` if that worker cannot start. Several threads may call.
    """

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"

    def __init__(self, deadline: float = 2.0, memory_mib: int = 1024) -> None:
        self._worker = Worker(_PROGRAM, deadline=deadline, memory_mib=memory_mib)
        self._counts = Counter[str]()
        self._solutions: dict[Task, Node | None] = {}
        self._case = _Case()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        decided: dict[tuple[str, str, str], float] = {}
        late = set[Task]()  # what the worker did not solve in time is not asked again in this call
        for case in cases:
            check()
            key = case["query"], case["answer"], case["reference"]
            if key not in decided:
                self._case.left = None
                try:
                    decided[key] = self._score(*key, late)
                except _NoReply:
                    decided[key] = CANNOT_TELL
        return [decided[case["query"], case["answer"], case["reference"]] for case in cases]

    def metrics(self) -> dict[str, float]:
        """Counts since the last call: ``timeouts`` and ``worker_deaths`` of the worker, ``unsolved`` (nan for another
        reason), ``unreadable_answers`` (scored 0)."""
        counts = {name: float(self._counts[name]) for name in _COUNTERS}
        self._counts.clear()
        return counts

    def close(self) -> None:
        """End the worker now, rather than at garbage collection."""
        self._worker.close()

    def _score(self, query: str, answer: str, reference: str, late: set[Task]) -> float:
        if reference.strip():
            target = reference_tree(reference)
            return self._unsolved() if target is None else self._matches(target, query, answer)
        solved = solve(query)
        if solved is None:
            return self._unsolved()
        if solved.task is not None:
            return self._fulfils(solved, solved.task, answer, late)
        # The common case first: one integer, against one rational.
        if not solved.asked.unknown and solved.rationals and _INTEGER.fullmatch(answer):
            return RIGHT if int(answer) in solved.rationals else WRONG
        given = self._read(answer)
        return WRONG if given is None else self._answers(solved, given)

    def _unsolved(self) -> float:
        self._counts["unsolved"] += 1
        return CANNOT_TELL

    def _read(self, answer: str, clean: Callable[[str], str] = str) -> Node | None:
        for text in candidates(answer):
            try:
                return read(clean(text))
            except Unreadable:
                continue
        self._counts["unreadable_answers"] += 1
        return None

    def _answers(self, solved: Solved, given: Node) -> float:
        """Judge against a solved query: only finished values count, for the query restated is equal to itself."""
        question = solved.asked
        given = right_of(given, question.left) if question.right is None else bare(given, question.unknown)
        given = bare(given) if question.right is None else given
        parts = given.args if question.right is not None and given.op in ("list", "set") else (given,)
        if solved.rationals:
            if not all(is_literal(part) for part in parts):
                return WRONG
            try:
                return RIGHT if frozenset(map(rational, parts)) == solved.rationals else WRONG
            except (TooBig, Undefined):
                return WRONG
        if given == question.left:
            return self._unsolved()  # sqrt(2) may be its own simplest form, or a question restated
        if solved.tree is None or any(is_unfinished(part) for part in parts):
            return WRONG
        if given.op == "set":
            given = Node("list", "", given.args)
        return self._decide(solved.tree, given)

    def _fulfils(self, solved: Solved, task: Task, answer: str, late: set[Task]) -> float:
        """Judge against a task: the answer is read first, for what is no answer needs no solution."""
        given = self._read(answer, lambda text: without_label(text, task))
        if given is None:
            return WRONG
        if task.kind == "expression":
            fair = symbols(given) <= set(task.names)
            return self._equals(task.args[0], bare(given)) if fair else WRONG
        if task.kind == "antiderivative" and self._derives_to(task, bare(given)) == RIGHT:
            return RIGHT
        found = self._solution(task, late)
        if found is None:
            return self._unsolved()
        if task.kind == "antiderivative":
            return WRONG
        if task.kind == "integral":
            return self._equals(found, bare(given))
        if task.kind == "roots":
            values = [_exact(root) for root in found.args]
            if any(isinstance(value, Node) for value in values):
                return self._answers(Solved(solved.asked, tree=found), given)
            return self._answers(with_roots(solved.asked, values), given)
        if task.wanted is not None:
            return self._wanted(task.wanted, found, task.names, bare(given))
        rows = assignments(given, task.names)
        return WRONG if rows is None or unfinished(rows) else self._compare(found, rows)

    def _derives_to(self, task: Task, given: Node) -> float:
        """Whether the derivative of the answer is the integrand: then they differ by a constant."""
        integrand, name = task.args[0], task.names[0]
        if not symbols(given) <= {name} | symbols(integrand) | CONSTANTS:
            return WRONG
        try:
            return self._compare(integrand, derivative(given, name))
        except (NotRational, TooBig):  # floor and its kin, and sets: no antiderivative
            return WRONG

    def _wanted(self, wanted: Node, rows: Node, names: tuple[str, ...], given: Node) -> float:
        """Judge the value of one expression of a system's unknowns, if all solutions agree on it."""
        first, *others = [substitute(wanted, dict(zip(names, row.args, strict=True))) for row in rows.args]
        if any(self._compare(first, other) != RIGHT for other in others):
            return self._unsolved()
        return self._equals(first, given)

    def _equals(self, target: Node, given: Node) -> float:
        """Judge one value: a rational must be finished, other values must not leave arithmetic undone."""
        try:
            value = rational(target)
        except Undefined:
            return self._unsolved()
        except (NotRational, TooBig):
            return WRONG if unfinished(given) else self._compare(target, given)
        try:
            return RIGHT if is_literal(given) and rational(given) == value else WRONG
        except (TooBig, Undefined):
            return WRONG

    def _matches(self, target: Node, query: str, answer: str) -> float:
        given = self._read(answer)
        if given is None:
            return WRONG
        question = asked(query)
        if question is not None and question.right is None:
            given = right_of(given, question.left)
            if given == question.left and given != target and not is_literal(given):
                return WRONG
        if unfinished(bare(given)) and not unfinished(bare(target)):
            return WRONG
        return self._compare(target, given)

    def _compare(self, target: Node, given: Node) -> float:
        try:
            return RIGHT if same(target, given, _RATIONAL) else WRONG
        except Undecided:
            return self._decide(target, given)

    def _decide(self, target: Node, given: Node) -> float:
        reply = self._ask(["same", target, given])
        if reply == "unknown":
            return self._unsolved()
        return RIGHT if reply == "equal" else WRONG

    def _solution(self, task: Task, late: set[Task]) -> Node | None:
        """The worker's solution, kept for later calls; None where there is none, or where it was late in this one."""
        if task not in self._solutions and task not in late:
            try:
                reply = self._ask(["solve", task.kind, task.args, task.names])
            except _NoReply:
                late.add(task)
                raise
            if len(self._solutions) >= _KEPT:
                self._solutions.clear()
            self._solutions[task] = None if reply is None else from_json(reply)
        return self._solutions.get(task)

    def _ask(self, request: object) -> object:
        check()
        try:
            if self._case.left is None:
                self._worker.ask(["ready"])  # a worker that starts takes nothing from the case's time
                self._case.left = self._worker.deadline
            started = time.monotonic()
            reply = self._worker.ask(request, max(1e-3, min(self._case.left, remaining())))
            self._case.left -= time.monotonic() - started
            return reply
        except WorkerTimeout as error:
            check()  # the caller's deadline, rather than ours
            self._counts["timeouts"] += 1
            raise _NoReply from error
        except WorkerDied as error:
            self._counts["worker_deaths"] += 1
            raise _NoReply from error


def _exact(node: Node) -> Fraction | Node:
    """The rational value, or the tree as it is."""
    try:
        return rational(node)
    except (NotRational, TooBig):
        return node
