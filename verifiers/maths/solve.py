"""Equations in one unknown, linear and quadratic, exactly: ratios of polynomials over the rationals."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from verifiers.maths.exact import NotRational, TooBig, Undefined, rational, root, size
from verifiers.maths.tree import Node, ratio, symbols

Poly = tuple[Fraction, ...]
"""Coefficients, constant first, no zero at the end: 0 is ()."""
MAX_DEGREE = 6
MAX_BITS = 2_048
_ONE: Poly = (Fraction(1),)


class NoAnswer(ValueError):
    """The equation has no unique meaning here: an identity, no root among the real numbers, or too high a degree."""


def roots(left: Node, right: Node, unknown: str) -> tuple[Fraction, ...] | tuple[Node, ...]:
    """All real roots of left = right: rationals, or trees with a square root. Raises ``NoAnswer``."""
    try:
        top, bottom = _add(_ratio(left, unknown), _scale(_ratio(right, unknown), Fraction(-1)))
    except (NotRational, TooBig, Undefined) as error:
        raise NoAnswer(str(error)) from error
    if len(top) not in (2, 3):
        raise NoAnswer(f"an equation of degree {len(top) - 1} is not solved here")
    if len(top) == 2:
        found = {-top[0] / top[1]}
    else:
        c, b, a = top
        discriminant = b * b - 4 * a * c
        if discriminant < 0:
            raise NoAnswer("no real root")
        try:
            half = root(discriminant, 2) / (2 * a)
        except NotRational:
            # Irrational roots are no roots of the denominator, unless it shares the whole factor.
            if len(bottom) > 1:
                raise NoAnswer("irrational roots of a fraction are not solved here") from None
            middle, spread = -b / (2 * a), discriminant / (4 * a * a)
            square = Node("fn", "sqrt", (ratio(spread),))
            sides = (square, Node("neg", "", (square,)))
            return tuple(Node("add", "", (ratio(middle), side)) for side in sides)
        found = {-b / (2 * a) + half, -b / (2 * a) - half}
    found = {value for value in found if _value(bottom, value) != 0}
    if not found:
        raise NoAnswer("every root makes a denominator zero")
    return tuple(sorted(found))


def _ratio(node: Node, unknown: str) -> tuple[Poly, Poly]:
    """Numerator and denominator; common factors stay, so that a root which is no number on the way is found out."""
    if not symbols(node):
        value = rational(node, MAX_BITS)
        return _trim((value,)), _ONE
    if node == Node("sym", unknown):
        return (Fraction(0), Fraction(1)), _ONE
    if node.op == "pow":
        exponent = rational(node.args[1])
        if exponent.denominator != 1 or not 1 <= exponent <= MAX_DEGREE:
            raise NotRational("the unknown is raised to a power that is not small and whole")
        base = result = _ratio(node.args[0], unknown)
        for _ in range(exponent.numerator - 1):
            result = _multiply(result, base)
        return result
    if node.op not in ("add", "mul", "div", "neg"):
        raise NotRational(f"the unknown is inside {node.op} {node.text}")
    parts = [_ratio(child, unknown) for child in node.args]
    if node.op == "neg":
        return _scale(parts[0], Fraction(-1))
    if node.op == "div":
        if not parts[1][0]:
            raise Undefined("division by zero")
        # 1/(1/x): the inner denominator stays in the outer one, so x = 0 is still refused.
        flipped = (_times(parts[1][1], parts[1][1]), _times(parts[1][0], parts[1][1]))
        return _multiply(parts[0], flipped)
    combine: Callable[[tuple[Poly, Poly], tuple[Poly, Poly]], tuple[Poly, Poly]]
    combine = _add if node.op == "add" else _multiply
    return combine(parts[0], parts[1])


def _trim(poly: Poly) -> Poly:
    while poly and poly[-1] == 0:
        poly = poly[:-1]
    if len(poly) > MAX_DEGREE + 1:
        raise NotRational(f"a degree above {MAX_DEGREE}")
    if any(size(coefficient) > MAX_BITS for coefficient in poly):
        raise TooBig(f"coefficients above {MAX_BITS} bits")
    return poly


def _plus(a: Poly, b: Poly) -> Poly:
    length = max(len(a), len(b))
    zero = Fraction(0)
    a, b = a + (zero,) * (length - len(a)), b + (zero,) * (length - len(b))
    return _trim(tuple(x + y for x, y in zip(a, b, strict=True)))


def _times(a: Poly, b: Poly) -> Poly:
    if not a or not b:
        return ()
    if len(a) + len(b) > MAX_DEGREE + 2:
        raise NotRational(f"a degree above {MAX_DEGREE}")
    product = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return _trim(tuple(product))


def _add(a: tuple[Poly, Poly], b: tuple[Poly, Poly]) -> tuple[Poly, Poly]:
    if a[1] == b[1]:
        return _plus(a[0], b[0]), a[1]
    return _plus(_times(a[0], b[1]), _times(b[0], a[1])), _times(a[1], b[1])


def _multiply(a: tuple[Poly, Poly], b: tuple[Poly, Poly]) -> tuple[Poly, Poly]:
    return _times(a[0], b[0]), _times(a[1], b[1])


def _scale(a: tuple[Poly, Poly], by: Fraction) -> tuple[Poly, Poly]:
    return tuple(x * by for x in a[0]), a[1]


def _value(poly: Poly, at: Fraction) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(poly):
        total = total * at + coefficient
    return total
