"""The maths verifier: right, wrong or cannot tell, decided by exact rationals here and by algebra in a worker."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from verifiers.maths.compare import Rational, Undecided, bare, same
from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.extract import candidates
from verifiers.maths.query import Question, question
from verifiers.maths.shape import is_literal, is_unfinished
from verifiers.maths.solve import NoAnswer, roots
from verifiers.maths.tree import Node, Unreadable
from verifiers.maths.values import read
from verifiers.worker import Worker, WorkerDied, WorkerTimeout

RIGHT, WRONG, CANNOT_TELL = 1.0, 0.0, float("nan")
_PROGRAM = Path(__file__).resolve().parent / "maths" / "program.py"
_INTEGER = re.compile(r"-?\d{1,300}", re.ASCII)
_RATIONAL = Rational()
_COUNTERS = ("timeouts", "worker_deaths", "unsolved", "unreadable_answers")


class _Solved(NamedTuple):
    """What a question asks and its answer: a value or all roots, as rationals, or as trees for the worker."""

    asked: Question
    rationals: frozenset[Fraction] = frozenset()
    tree: Node | None = None


class SympySolver:
    """Score answers to maths: 1.0 right, 0.0 wrong, nan cannot tell.

    Where a case has a ``reference``, the answer is compared with it; otherwise the query itself is solved: arithmetic,
    or one linear or quadratic equation in one unknown. A query or reference that cannot be read, or has no unique
    meaning, is nan; an answer that cannot be read is 0.0. The policy is in ``docs/maths.md``.

    Rational arithmetic is decided in this process under budgets that bound it by construction. Roots, functions and
    symbols go to a worker with sympy, ``deadline`` seconds per case and ``memory_mib`` MiB of address space: a pair
    that is not decided in time is nan and counted. Raises ``WorkerStartError`` if that worker cannot start.
    """

    def __init__(self, deadline: float = 2.0, memory_mib: int = 1024) -> None:
        self._worker = Worker(_PROGRAM, deadline=deadline, memory_mib=memory_mib)
        self._counts = Counter[str]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        return [self._score(case["query"], case["answer"], case["reference"]) for case in cases]

    def metrics(self) -> dict[str, float]:
        """Counts since the last call: ``timeouts`` and ``worker_deaths`` of the worker, ``unsolved`` (nan for another
        reason), ``unreadable_answers`` (scored 0)."""
        counts = {name: float(self._counts[name]) for name in _COUNTERS}
        self._counts.clear()
        return counts

    def close(self) -> None:
        """End the worker now, rather than at garbage collection."""
        self._worker.close()

    def _score(self, query: str, answer: str, reference: str) -> float:
        if reference.strip():
            target = _reference(reference)
            return self._unsolved() if target is None else self._matches(target, query, answer)
        solved = _solve(query)
        if solved is None:
            return self._unsolved()
        # The common case first: one integer, against one rational.
        if not solved.asked.unknown and solved.rationals and _INTEGER.fullmatch(answer):
            return RIGHT if int(answer) in solved.rationals else WRONG
        given = self._read(answer)
        if given is None:
            return WRONG
        return self._answers(solved, given)

    def _unsolved(self) -> float:
        self._counts["unsolved"] += 1
        return CANNOT_TELL

    def _read(self, answer: str) -> Node | None:
        for text in candidates(answer):
            try:
                return read(text)
            except Unreadable:
                continue
        self._counts["unreadable_answers"] += 1
        return None

    def _answers(self, solved: _Solved, given: Node) -> float:
        """Judge against a solved query: only finished values count, for the query restated is equal to itself."""
        asked = solved.asked
        given = _right_of(given, asked.left) if asked.right is None else bare(given, asked.unknown)
        given = bare(given) if asked.right is None else given
        parts = given.args if asked.right is not None and given.op in ("list", "set") else (given,)
        if solved.rationals:
            if not all(is_literal(part) for part in parts):
                return WRONG
            try:
                return RIGHT if frozenset(map(rational, parts)) == solved.rationals else WRONG
            except (TooBig, Undefined):
                return WRONG
        if given == asked.left:
            return self._unsolved()  # sqrt(2) may be its own simplest form, or a question restated
        if solved.tree is None or any(is_unfinished(part) for part in parts):
            return WRONG
        if given.op == "set":
            given = Node("list", "", given.args)
        return self._decide(solved.tree, given)

    def _matches(self, target: Node, query: str, answer: str) -> float:
        given = self._read(answer)
        if given is None:
            return WRONG
        asked = _question(query)
        if asked is not None and asked.right is None:
            given = _right_of(given, asked.left)
            if given == asked.left and given != target and not is_literal(given):
                return WRONG
        if _unfinished(bare(given)) and not _unfinished(bare(target)):
            return WRONG
        try:
            return RIGHT if same(target, given, _RATIONAL) else WRONG
        except Undecided:
            return self._decide(target, given)

    def _decide(self, target: Node, given: Node) -> float:
        try:
            reply = self._worker.ask([target, given])
        except WorkerTimeout:
            self._counts["timeouts"] += 1
            return CANNOT_TELL
        except WorkerDied:
            self._counts["worker_deaths"] += 1
            return CANNOT_TELL
        if reply == "unknown":
            return self._unsolved()
        return RIGHT if reply == "equal" else WRONG


def _right_of(given: Node, asked: Node) -> Node:
    """46 in ``12 + 34 = 46`` where the left side is the question, word for word."""
    if given.op == "rel" and given.text == "=" and given.args[0] == asked:
        return given.args[1]
    return given


def _unfinished(node: Node) -> bool:
    if node.op == "quantity":
        return is_unfinished(node.args[0])
    if node.op in ("list", "set", "bracket", "union", "matrix", "rel"):
        return any(_unfinished(part) for part in node.args)
    return is_unfinished(node)


@lru_cache(maxsize=4096)
def _question(query: str) -> Question | None:
    try:
        return question(query)
    except Unreadable:
        return None


@lru_cache(maxsize=4096)
def _solve(query: str) -> _Solved | None:
    """The query's answer, once for all answers that share it; None where it cannot be read or has no unique one."""
    asked = _question(query)
    if asked is None:
        return None
    if asked.right is not None:
        try:
            found = roots(asked.left, asked.right, asked.unknown)
        except NoAnswer:
            return None
        values = frozenset(value for value in found if isinstance(value, Fraction))
        trees = tuple(value for value in found if isinstance(value, Node))
        return _Solved(asked, values, Node("list", "", trees) if trees else None)
    try:
        return _Solved(asked, frozenset([rational(asked.left)]))
    except Undefined:
        return None
    except (NotRational, TooBig):
        return _Solved(asked, tree=asked.left)


@lru_cache(maxsize=4096)
def _reference(text: str) -> Node | None:
    """The reference's tree; None where it cannot be read or is undefined, like 1/0."""
    try:
        node = read(next(candidates(text)))
    except Unreadable:
        return None
    try:
        return node if same(node, node, _RATIONAL) else None
    except Undecided:  # the worker tells
        return node
