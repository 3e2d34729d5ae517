"""What an answer looks like, apart from its value: a finished value, or a sum that was left to the reader."""

from __future__ import annotations

import math

from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.tree import Node, symbols


def is_literal(node: Node) -> bool:
    """Whether the node is a finished rational: integer, decimal, mixed number, m * 10^n, or a fraction in lowest
    terms."""
    if node.op in ("num", "rat"):
        return True
    if node.op in ("neg", "percent"):
        return is_literal(node.args[0])
    if node.op == "div":
        texts = [child.args[0].text if child.op == "neg" else child.text for child in node.args]
        if not all(text.isdigit() for text in texts):
            return False
        top, bottom = map(int, texts)
        return bottom > 1 and math.gcd(top, bottom) == 1
    if node.op == "mul":
        left, right = node.args
        ten = right.op == "pow" and right.args[0] == Node("num", "10")
        return ten and left.op == "num" and right.args[1].op in ("num", "neg") and is_literal(right.args[1])
    return False


def is_unfinished(node: Node) -> bool:
    """Whether arithmetic on numerals is left undone: ``12+34``, ``6*7``, ``\\sqrt{9+16}``.

    Fractions, powers, functions and m * 10^n are accepted ways to write a value; so is anything with symbols.
    """
    return not symbols(node) and _unfinished(node)


def _unfinished(node: Node) -> bool:
    if node.op in ("add", "mul", "mod"):
        terms = _flatten(node, node.op)
        if node.op == "mul":
            terms = [term for term in terms if term.op != "pow"]
        if sum(_is_rational(term) for term in terms) > 1:
            return True
    return any(_unfinished(child) for child in node.args)


def _flatten(node: Node, op: str) -> list[Node]:
    if node.op != op:
        return [node]
    return [term for child in node.args for term in _flatten(child, op)]


def _is_rational(node: Node) -> bool:
    try:
        rational(node)
    except NotRational:
        return False
    except (TooBig, Undefined):
        return True
    return True
