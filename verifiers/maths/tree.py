"""The syntax tree: plain tuples, so that trees compare, hash and travel as JSON at the speed of C."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, cast

MAX_NODES = 200
MAX_DEPTH = 50


class Unreadable(ValueError):
    """The text is not in the grammar, or is over a budget; the message says why."""


class Node(NamedTuple):
    """One node.

    ========== ============================== ===========================================
    op         text                           args
    ========== ============================== ===========================================
    num        decimal literal "12", "1.5e3"  none
    rat        "p/q", q > 0                   none (mixed numbers, repeating decimals)
    sym        name "x", "x_1"                none
    const      pi, e, i, inf                  none
    add, mul   ""                             two
    neg        ""                             one
    div, pow   ""                             two
    mod        ""                             two
    pm         ""                             two: first plus or minus second
    percent    ""                             one
    deg        ""                             one: degrees of arc
    fn         sqrt, sin, log, ...            its arguments
    rel        "=", "<", "<=", "!=", "in" ... n + 1 sides of a chain, operators joined by spaces
    list       "", or "or"                    values that were listed without braces, relations joined by "or"
    set        ""                             elements
    bracket    "()", "[)", "(]", "[]", ":"    two or more: tuple, interval or ratio
    union      ""                             two intervals or sets
    matrix     number of columns              entries, row by row
    quantity   dimension "m^2", thing "~egg"      value, rational factor, and the algebraic reading if there is one
    word       words, lower case              none
    ========== ============================== ===========================================
    """

    op: str
    text: str = ""
    args: tuple[Node, ...] = ()


def integer(value: int) -> Node:
    """A literal; negative values are negations, as the grammar makes them."""
    return Node("num", str(value)) if value >= 0 else Node("neg", "", (Node("num", str(-value)),))


def ratio(value: Fraction) -> Node:
    """A rational literal with sign in its text."""
    return Node("rat", f"{value.numerator}/{value.denominator}")


def repeating(text: str) -> Node:
    """``0.1o6``, which is how the tokenizer writes ``0.1\\overline{6}``, as the exact ratio 1/6."""
    head, _, cycle = text.partition("o")
    whole, _, fixed = head.partition(".")
    scale = 10 ** len(fixed)  # n repeating digits are worth themselves over 10^n - 1
    return ratio(Fraction(int((whole + fixed) or "0"), scale) + Fraction(int(cycle), (10 ** len(cycle) - 1) * scale))


def walk(node: Node) -> Iterator[Node]:
    """Every node, parents first."""
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        stack.extend(here.args)


def symbols(node: Node) -> set[str]:
    """Names of the free symbols."""
    return {here.text for here in walk(node) if here.op == "sym"}


def check_budgets(node: Node) -> None:
    """Raise ``Unreadable`` where the tree is over ``MAX_NODES`` or ``MAX_DEPTH``."""
    stack, count = [(node, 1)], 0
    while stack:
        here, depth = stack.pop()
        count += 1
        if count > MAX_NODES:
            raise Unreadable(f"more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise Unreadable(f"deeper than {MAX_DEPTH} levels")
        stack.extend((child, depth + 1) for child in here.args)


def from_json(value: object) -> Node:
    """The tree that ``json.dumps(node)`` wrote. Raises ``Unreadable`` for anything else."""
    if not isinstance(value, list) or len(cast("list[object]", value)) != 3:
        raise Unreadable("a node is a list of op, text and args")
    op, text, args = cast("list[object]", value)
    if not isinstance(op, str) or not isinstance(text, str) or not isinstance(args, list):
        raise Unreadable("a node is a list of op, text and args")
    return Node(op, text, tuple(from_json(child) for child in cast("list[object]", args)))
