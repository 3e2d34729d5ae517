"""Two whole answers, part by part: kinds must agree, and every pair of plain expressions goes to one ``leaf`` test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from verifiers.maths.exact import NotRational, TooBig, Undefined, rational
from verifiers.maths.tree import Node, symbols, walk
from verifiers.maths.values import COMPOSITES, RELATIONS

_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OPTIONAL = frozenset({"usd", "eur", "gbp", "unit"})
_INF = Node("const", "inf")
_MINUS_INF = Node("neg", "", (_INF,))


class Undecided(Exception):
    """Rational arithmetic does not decide this pair."""


class Leaf(Protocol):
    """How plain expressions are compared. Both may raise ``Undecided``."""

    def equal(self, left: Node, right: Node) -> bool: ...

    def multiple(self, left: Node, right: Node) -> int:
        """Sign of c where left = c * right for a constant c, else 0."""
        ...


class Rational:
    """The test of the trainer: exact rationals, or ``Undecided``."""

    def equal(self, left: Node, right: Node) -> bool:
        try:
            return rational(left) == rational(right)
        except Undefined:
            return False
        except (NotRational, TooBig) as error:
            # The same polynomial twice needs no algebra; roots, quotients and functions might be undefined.
            if left == right and all(here.op in ("num", "rat", "sym", "add", "mul", "neg") for here in walk(left)):
                return True
            raise Undecided from error

    def multiple(self, left: Node, right: Node) -> int:
        if self.equal(left, right):
            return 1
        raise Undecided


def same(reference: Node, answer: Node, leaf: Leaf) -> bool:
    """Whether the answer is the reference. Raises ``Undecided`` where ``leaf`` does."""
    reference, answer = unlabel(_named_first(reference), _named_first(answer))
    kinds = {reference.op, answer.op}
    if "word" in kinds:
        return _words(reference, answer, leaf)
    if "quantity" in kinds:
        return _quantities(reference, answer, leaf)
    if kinds & {"rel", "list"} and kinds & {"bracket", "union"}:
        pair = [_as_tuple(_as_interval(side)) for side in (reference, answer)]
        reference, answer = pair
        kinds = {reference.op, answer.op}
    if not kinds & COMPOSITES:
        if _INF in (reference, answer) or _MINUS_INF in (reference, answer):
            return reference == answer
        return leaf.equal(reference, answer)
    if len(kinds) > 1 and kinds & {"list", "set"}:
        reference, answer = _only(reference), _only(answer)  # {5} and 5
        if reference.op != answer.op and {reference.op, answer.op} != {"list", "set"}:
            return not {reference.op, answer.op} & {"list", "set"} and same(reference, answer, leaf)
        kinds = {reference.op, answer.op}
    if kinds <= {"list", "set"} or (kinds == {"union"}):
        return _unordered(_elements(reference), _elements(answer), leaf)
    if len(kinds) > 1 or reference.text != answer.text:
        return kinds == {"rel"} and _relations(reference, answer, leaf)
    if reference.op == "rel":
        return _relations(reference, answer, leaf)
    return _ordered(reference.args, answer.args, leaf)


def _named_first(node: Node) -> Node:
    """``5 = x`` as ``x = 5``."""
    turned = node.op == "rel" and node.text == "=" and node.args[1].op == "sym" and not symbols(node.args[0])
    return Node("rel", "=", node.args[::-1]) if turned else node


def unlabel(reference: Node, answer: Node) -> tuple[Node, Node]:
    """Take the name off ``x = 5`` where the other side has none: a relation is compared with a relation only."""
    if reference.op != "rel" or answer.op != "rel":
        reference, answer = reference if _curve(reference) else bare(reference), bare(answer)
    return reference, answer


def bare(node: Node, name: str | None = None) -> Node:
    """``x = 5`` as 5 and ``x = 2, x = 3`` or ``x = 2 or 3`` as a list, where one name (or ``name``) is used."""
    labels = {label for part in (node.args if node.op == "list" else (node,)) if (label := _label(part))}
    if len(labels) != 1 or (name is not None and labels != {name}):
        return node
    if node.op == "list":
        return Node("list", "", tuple(part.args[1] if _label(part) else part for part in node.args))
    return node.args[1]


def _curve(node: Node) -> bool:
    """Whether ``y = 2x + 1`` is asked for as an equation: a name from x, y, z for an expression in the others."""
    axes = {"x", "y", "z"}
    return node.op == "rel" and _label(node) in axes and bool(symbols(node.args[1]) & axes)


def _label(node: Node) -> str:
    """The name in ``x = value``, ``f(x) = value`` or ``x in set``, where the value does not use it; else ""."""
    if node.op != "rel" or node.text not in ("=", "in"):
        return ""
    left = node.args[0]
    if left.op == "mul" and left.args[0].text in ("f", "g", "h") and left.args[1].op == "sym":
        return f"{left.args[0].text}({left.args[1].text})"
    if left.op == "sym":
        name = left.text
        if name not in symbols(node.args[1]) and node.args[1].op != "rel":
            return name
    return ""


def _words(reference: Node, answer: Node, leaf: Leaf) -> bool:
    if reference.op == answer.op:
        return reference.text == answer.text
    word, other = (reference, answer) if reference.op == "word" else (answer, reference)
    if len(word.text) > 3 or not word.text.isalpha() or other.op not in ("mul", "pow"):
        return False
    product = Node("sym", word.text[0])  # "ab" is a product only beside something that shows itself to be algebra
    for letter in word.text[1:]:
        product = Node("mul", "", (product, Node("sym", letter)))
    return leaf.equal(product, other)


def _quantities(reference: Node, answer: Node, leaf: Leaf) -> bool:
    """Same dimension and same size. Beside a bare number, a unit is tolerated in the answer if it can be nothing else,
    and in the reference if it is a currency or a thing that is counted."""
    turns = [_turn(side) for side in (reference, answer)]
    if turns[0] is not None and turns[1] is not None and (reference.text != answer.text or "rad" in reference.text):
        return leaf.equal(turns[0], turns[1])
    if reference.op == answer.op:
        if reference.text != answer.text:
            return False
        sides = [Node("mul", "", side.args[:2]) for side in (reference, answer)]
        return leaf.equal(sides[0], sides[1])
    quantity, other = (reference, answer) if reference.op == "quantity" else (answer, reference)
    if other.op in COMPOSITES:
        return False
    if len(quantity.args) == 3 and symbols(other):
        algebra = quantity.args[2]
        return leaf.equal(algebra, other)
    turn = _turn(quantity)
    if turn is not None and (quantity.text == "rad" or quantity is reference):
        return leaf.equal(turn, other)  # radians are plain numbers
    if quantity is reference and quantity.text not in _OPTIONAL and not quantity.text.startswith("~"):
        return False
    return len(quantity.args) == 2 and leaf.equal(other, quantity.args[0])


def _turn(node: Node) -> Node | None:
    """An angle as a plain number, in radians; None for what is no angle."""
    if node.op != "quantity" or node.text not in ("deg", "rad"):
        return None
    return Node("deg", "", node.args[:1]) if node.text == "deg" else node.args[0]


def _only(node: Node) -> Node:
    return node.args[0] if node.op in ("list", "set") and len(node.args) == 1 else node


def _elements(node: Node) -> list[Node]:
    if node.op == "union":
        return [part for child in node.args for part in (_elements(child) if child.op == "union" else [child])]
    return list(node.args)


def _unordered(left: Sequence[Node], right: Sequence[Node], leaf: Leaf) -> bool:
    """Equal as sets. Equality is an equivalence, so the first match is as good as any."""
    unmatched = list(right)
    for item in left:
        found = next((other for other in unmatched if same(item, other, leaf)), None)
        if found is None:
            return False
        unmatched.remove(found)
    return not unmatched


def _ordered(left: Sequence[Node], right: Sequence[Node], leaf: Leaf) -> bool:
    return len(left) == len(right) and all(same(a, b, leaf) for a, b in zip(left, right, strict=True))


def _relations(reference: Node, answer: Node, leaf: Leaf) -> bool:
    if not symbols(answer):
        return False  # 5 = 5 says nothing
    if "in" in (reference.text, answer.text) and reference.text != answer.text:  # x in (0, 1) and 0 < x < 1
        intervals = _as_interval(reference), _as_interval(answer)
        return (
            symbols(reference) == symbols(answer)
            and "rel" not in (intervals[0].op, intervals[1].op)
            and same(*intervals, leaf)
        )
    if len(reference.args) != len(answer.args):
        return False
    if len(reference.args) > 2:
        readings = [answer, Node("rel", " ".join(_flip(answer)), answer.args[::-1])]
        return any(reference.text == way.text and _ordered(reference.args, way.args, leaf) for way in readings)
    if reference.text not in RELATIONS or answer.text not in RELATIONS or "in" in (reference.text, answer.text):
        return reference.text == answer.text and _ordered(reference.args, answer.args, leaf)
    if any(side.op in COMPOSITES for side in (*reference.args, *answer.args)):
        return reference.text == answer.text and _ordered(reference.args, answer.args, leaf)
    if answer.text not in (reference.text, _FLIP.get(reference.text)):
        return False
    sign = leaf.multiple(_difference(reference), _difference(answer))
    if reference.text in _FLIP:
        return sign == (1 if reference.text == answer.text else -1)
    return sign != 0


def _difference(relation: Node) -> Node:
    return Node("add", "", (relation.args[0], Node("neg", "", (relation.args[1],))))


def _flip(relation: Node) -> list[str]:
    return [_FLIP.get(operator, operator) for operator in relation.text.split()[::-1]]


def _as_tuple(node: Node) -> Node:
    """``x = 3, y = 2`` and ``(y, x) = (2, 3)`` as (3, 2), in the order of the alphabet; other nodes as they are."""
    if node.op == "rel" and node.text == "=" and all(side.op == "bracket" and side.text == "()" for side in node.args):
        names, values = node.args[0].args, node.args[1].args
    elif node.op == "list" and all(part.op == "rel" and part.text == "=" for part in node.args):
        names, values = zip(*(part.args for part in node.args), strict=True)
    else:
        return node
    found = {name.text: value for name, value in zip(names, values, strict=False) if name.op == "sym"}
    if not len(found) == len(names) == len(values):
        return node
    return Node("bracket", "()", tuple(found[name] for name in sorted(found)))


def _as_interval(node: Node) -> Node:
    """``x > 3`` as (3, inf), ``1 < x <= 3`` as (1, 3], alternatives as a union; other nodes as they are."""
    if node == Node("list", "or", node.args) and len(symbols(node)) == 1:
        parts = [_as_interval(part) for part in node.args]
        if all(part.op == "bracket" for part in parts):
            first, *rest = parts
            for part in rest:
                first = Node("union", "", (first, part))
            return first
    if node.op != "rel":
        return node
    operators, sides = node.text.split(), node.args
    if operators == ["in"] and sides[0].op == "sym":
        return sides[1]
    if operators == ["!="] and sides[0].op == "sym":
        return Node(
            "union", "", (Node("bracket", "()", (_MINUS_INF, sides[1])), Node("bracket", "()", (sides[1], _INF)))
        )
    if operators[0] in (">", ">="):
        operators, sides = _flip(node), sides[::-1]
    if any(operator not in ("<", "<=") for operator in operators):
        return node
    if len(sides) == 2 and sides[0].op == "sym":
        return Node("bracket", "(" + ("]" if operators[0] == "<=" else ")"), (_MINUS_INF, sides[1]))
    if len(sides) == 2 and sides[1].op == "sym":
        return Node("bracket", ("[" if operators[0] == "<=" else "(") + ")", (sides[0], _INF))
    if len(sides) == 3 and sides[1].op == "sym":
        left, right = "[" if operators[0] == "<=" else "(", "]" if operators[1] == "<=" else ")"
        return Node("bracket", left + right, (sides[0], sides[2]))
    return node
