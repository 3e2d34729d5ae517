"""Derivatives of trees, by the rules of the calculus; the result is an expression, simplified only where a factor is 0
or 1."""

from __future__ import annotations

from verifiers.maths.exact import NotRational, TooBig
from verifiers.maths.tree import Node, integer, symbols

MAX_SIZE = 20_000
"""Nodes that a derivative may have: the product rule squares what it is given."""
_ZERO, _ONE, _TWO = integer(0), integer(1), integer(2)


def derivative(node: Node, name: str, order: int = 1) -> Node:
    """The derivative of this order with respect to the symbol ``name``.

    Raises ``NotRational`` for what has none by rule (floor, mod, factorial, max of the symbol), ``TooBig`` above
    ``MAX_SIZE`` nodes.
    """
    for _ in range(order):
        node = _derive(node, name)
        _check_size(node)
    return node


def substitute(node: Node, values: dict[str, Node]) -> Node:
    """The tree with these symbols replaced."""
    if node.op == "sym":
        return values.get(node.text, node)
    return Node(node.op, node.text, tuple(substitute(child, values) for child in node.args))


def _check_size(node: Node) -> None:
    stack, count = [node], 0
    while stack:
        count += 1
        if count > MAX_SIZE:
            raise TooBig(f"a derivative of more than {MAX_SIZE} nodes")
        stack.extend(stack.pop().args)


def _add(a: Node, b: Node) -> Node:
    return b if a == _ZERO else a if b == _ZERO else Node("add", "", (a, b))


def _sub(a: Node, b: Node) -> Node:
    return a if b == _ZERO else _add(a, Node("neg", "", (b,)))


def _mul(a: Node, b: Node) -> Node:
    if _ZERO in (a, b):
        return _ZERO
    return b if a == _ONE else a if b == _ONE else Node("mul", "", (a, b))


def _div(a: Node, b: Node) -> Node:
    return a if b == _ONE or a == _ZERO else Node("div", "", (a, b))


def _pow(a: Node, b: Node) -> Node:
    return _ONE if b == _ZERO else a if b == _ONE else Node("pow", "", (a, b))


def _fn(name: str, *args: Node) -> Node:
    return Node("fn", name, args)


def _derive(node: Node, name: str) -> Node:
    if name not in symbols(node):
        return _ZERO
    if node.op == "sym":
        return _ONE
    if node.op == "fn":
        return _function(node, name)
    args = node.args
    if node.op in ("neg", "percent", "deg"):
        return Node(node.op, "", (_derive(args[0], name),))
    if node.op == "pow":
        return _power(args[0], args[1], name)
    if node.op not in ("add", "mul", "div"):
        raise NotRational(f"no rule derives {node.op}")
    u, v = args
    du, dv = _derive(u, name), _derive(v, name)
    if node.op == "add":
        return _add(du, dv)
    if node.op == "mul":
        return _add(_mul(du, v), _mul(u, dv))
    if dv == _ZERO:
        return _div(du, v)
    return _div(_sub(_mul(du, v), _mul(u, dv)), _pow(v, _TWO))


def _power(u: Node, v: Node, name: str) -> Node:
    if name not in symbols(v):
        lower = integer(int(v.text) - 1) if v.op == "num" and v.text.isdigit() else _sub(v, _ONE)
        return _mul(_mul(v, _pow(u, lower)), _derive(u, name))
    logarithm = _ONE if u == Node("const", "e") else _fn("logb", u, Node("const", "e"))
    grown = _mul(logarithm, _derive(v, name))
    if name in symbols(u):
        grown = _add(grown, _div(_mul(v, _derive(u, name)), u))
    return _mul(Node("pow", "", (u, v)), grown)


def _function(node: Node, name: str) -> Node:
    """The chain rule: outer derivative at the argument, times the argument's."""
    u = node.args[0]
    if any(name in symbols(other) for other in node.args[1:]):
        if node.text != "logb":
            raise NotRational(f"no rule derives {node.text} of two unknowns")
        e = Node("const", "e")
        return _derive(_div(_fn("logb", u, e), _fn("logb", node.args[1], e)), name)
    square = _pow(u, _TWO)
    outer: Node
    match node.text:
        case "sin":
            outer = _fn("cos", u)
        case "cos":
            outer = Node("neg", "", (_fn("sin", u),))
        case "tan":
            outer = _pow(_fn("sec", u), _TWO)
        case "cot":
            outer = Node("neg", "", (_pow(_fn("csc", u), _TWO),))
        case "sec":
            outer = _mul(_fn("sec", u), _fn("tan", u))
        case "csc":
            outer = Node("neg", "", (_mul(_fn("csc", u), _fn("cot", u)),))
        case "arcsin":
            outer = _div(_ONE, _fn("sqrt", _sub(_ONE, square)))
        case "arccos":
            outer = Node("neg", "", (_div(_ONE, _fn("sqrt", _sub(_ONE, square))),))
        case "arctan":
            outer = _div(_ONE, _add(_ONE, square))
        case "sinh":
            outer = _fn("cosh", u)
        case "cosh":
            outer = _fn("sinh", u)
        case "tanh":
            outer = _sub(_ONE, _pow(node, _TWO))
        case "sqrt":
            outer = _div(_ONE, _mul(_TWO, node))
        case "root":
            outer = _div(node, _mul(node.args[1], u))
        case "abs":
            outer = _div(node, u)
        case "logb" | "log":
            base = node.args[1] if node.text == "logb" else integer(10)
            e = Node("const", "e")
            outer = _div(_ONE, u if base == e else _mul(u, _fn("logb", base, e)))
        case _:
            raise NotRational(f"no rule derives {node.text}")
    return _mul(outer, _derive(u, name))
