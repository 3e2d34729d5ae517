"""What a query or a reference comes down to, worked out once in the trainer, and what answers to a task look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from verifiers.maths.compare import Rational, Undecided, bare, same
from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.extract import candidates
from verifiers.maths.query import Question, question
from verifiers.maths.shape import is_unfinished
from verifiers.maths.solve import NoAnswer, roots
from verifiers.maths.tasks import Task, is_polynomial, task
from verifiers.maths.tree import Node, Unreadable
from verifiers.maths.values import read

CONSTANTS = frozenset({"C", "c", "K", "k", "C_1", "c_1"})
"""Names of a constant of integration."""
_LABEL = re.compile(
    r"(?:\\[dt]?frac\s*\{\s*d\s?\w*\s*\}\s*\{\s*d\s?\w+\s*\}|d\w?\s?/\s?d\w|[a-zA-Z]'{0,3}\s*(?:\(\s*[^()=]{1,20}\s*\))?)"
)
_CONSTANT = re.compile(r"\\text\s*\{\s*(?:constant|const\.?)\s*\}|\b(?:an? )?(?:arbitrary )?(?:constant|const)\b")
_RATIONAL = Rational()


class Solved(NamedTuple):
    """What a question asks and its answer: a value or all roots, as rationals, or as trees for the worker; or a task
    that the worker solves."""

    asked: Question
    rationals: frozenset[Fraction] = frozenset()
    tree: Node | None = None
    task: Task | None = None


@lru_cache(maxsize=4096)
def asked(query: str) -> Question | None:
    """The question, None where it cannot be read as one value or one equation."""
    try:
        return question(query)
    except Unreadable:
        return None


@lru_cache(maxsize=4096)
def asked_task(query: str) -> Task | None:
    """The task, None where the query is none that is known."""
    try:
        return task(query)
    except Unreadable:
        return None


@lru_cache(maxsize=4096)
def solve(query: str) -> Solved | None:
    """The query's answer, once for all answers that share it; None where it cannot be read or has no unique one."""
    found = asked(query)
    if found is None:
        given = asked_task(query)
        return None if given is None else Solved(Question(Node("word")), task=given)
    if found.right is not None:
        try:
            values = roots(found.left, found.right, found.unknown)
        except NoAnswer:
            if not (is_polynomial(found.left) and is_polynomial(found.right)):
                return None
            relation = Node("rel", "=", (found.left, found.right))
            return Solved(found, task=Task("roots", (relation,), (found.unknown,)))
        return with_roots(found, values)
    try:
        return Solved(found, frozenset([rational(found.left)]))
    except Undefined:
        return None
    except (NotRational, TooBig):
        return Solved(found, tree=found.left)


def with_roots(found: Question, values: Sequence[Fraction | Node]) -> Solved:
    """An equation with its roots: all rational, or else all as trees."""
    rationals = frozenset(value for value in values if isinstance(value, Fraction))
    if len(rationals) == len(values):
        return Solved(found, rationals)
    trees = tuple(value for value in values if isinstance(value, Node))
    return Solved(found, tree=Node("list", "", trees))


@lru_cache(maxsize=4096)
def reference_tree(text: str) -> Node | None:
    """The reference's tree; None where it cannot be read or is undefined, like 1/0."""
    try:
        node = read(next(candidates(text), ""))
    except Unreadable:
        return None
    try:
        return node if same(node, node, _RATIONAL) else None
    except Undecided:  # the worker tells
        return node


def right_of(given: Node, question_tree: Node) -> Node:
    """46 in ``12 + 34 = 46`` where the left side is the question, word for word."""
    if given.op == "rel" and given.text == "=" and given.args[0] == question_tree:
        return given.args[1]
    return given


def unfinished(node: Node) -> bool:
    """Whether any part of an answer is arithmetic left undone."""
    if node.op == "quantity":
        return is_unfinished(node.args[0])
    if node.op in ("list", "set", "bracket", "union", "matrix", "rel"):
        return any(unfinished(part) for part in node.args)
    return is_unfinished(node)


def without_label(text: str, wanted: Task) -> str:
    """``3x^2`` in ``f'(x) = 3x^2``, ``dy/dx = 3x^2`` and ``\\frac{d}{dx} x^3 = 3x^2``; other texts as they are."""
    if wanted.kind == "antiderivative":
        text = _CONSTANT.sub("C", text)
    left, sign, right = text.partition("=")
    if not sign or "=" in right or wanted.kind not in ("expression", "antiderivative", "integral"):
        return text
    label = left.strip(" $")
    return right if _LABEL.fullmatch(label) or asked_task(label) == wanted else text


def assignments(given: Node, names: tuple[str, ...]) -> Node | None:
    """The tuples of values that an answer gives to ``names``, as a set of brackets; None where it does not say which
    value is whose.

    ``x = 3, y = 2`` in any order, ``(3, 2)`` in the order of the alphabet, ``(x, y) = (3, 2)``, and several of these.
    """
    parts = list(given.args) if given.op in ("list", "set") else [given]
    rows: list[Node] = []
    open_row: dict[str, Node] = {}
    for part in parts:
        if not open_row and (row := _tuple(part, names)) is not None:
            rows.append(row)
        elif part.op == "rel" and part.text == "=" and part.args[0].op == "sym" and part.args[0].text in names:
            if part.args[0].text in open_row:
                return None
            open_row[part.args[0].text] = part.args[1]
            if len(open_row) == len(names):
                rows.append(Node("bracket", "()", tuple(open_row[name] for name in names)))
                open_row = {}
        else:
            return None
    return None if open_row or not rows else Node("set", "", tuple(rows))


def _tuple(part: Node, names: tuple[str, ...]) -> Node | None:
    order = names
    if part.op == "rel" and part.text == "=" and part.args[0].op == "bracket":
        order = tuple(child.text for child in part.args[0].args if child.op == "sym")
        part = part.args[1]
    if part.op != "bracket" or part.text != "()" or sorted(order) != list(names) or len(part.args) != len(names):
        return None
    values = [bare(value, name) for value, name in zip(part.args, order, strict=True)]
    by_name = dict(zip(order, values, strict=True))
    return Node("bracket", "()", tuple(by_name[name] for name in names))
