"""Equality with algebra: exact, structural, at random points, then a bounded simplify (only in the worker)."""

from __future__ import annotations

import random
from typing import Any, cast

import sympy as untyped_sympy  # pyright: ignore[reportMissingTypeStubs]

from verifiers.maths.compare import Undecided
from verifiers.maths.exact import FULL_BITS, NotRational, TooBig, Undefined, rational
from verifiers.maths.numeric import Spread, digits, evaluate, mp
from verifiers.maths.tree import Node, symbols, walk

sympy = cast("Any", untyped_sympy)
POINTS = 6
_TRIES = 40
_SLACK = 15  # digits of spread that the usual precision has room for
_MAX_SPREAD = 12_000
_INFINITE = Node("const", "inf")
_MAX_SIMPLIFY = 60  # nodes: above that simplify mostly meets its deadline
_SYMPY: dict[str, Any] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh,
    "tanh": sympy.tanh, "sqrt": sympy.sqrt, "abs": sympy.Abs, "floor": sympy.floor, "ceil": sympy.ceiling,
    "factorial": sympy.factorial, "binom": sympy.binomial, "root": sympy.real_root, "logb": sympy.log,
    "max": sympy.Max, "min": sympy.Min,
}  # fmt: skip


class Symbolic:
    """``compare.Leaf`` with algebra. ``Undecided`` where nothing settles the pair."""

    def equal(self, left: Node, right: Node) -> bool:
        if any(here == _INFINITE for tree in (left, right) for here in walk(tree)):
            return False  # infinity stands alone or bounds an interval: 1/oo is no number
        try:
            return rational(left, FULL_BITS) == rational(right, FULL_BITS)
        except Undefined:
            return False
        except NotRational:
            pass
        except TooBig as error:
            raise Undecided from error
        if not symbols(left) | symbols(right):
            structural = _structural(left, right)
            if structural is not None:
                return structural
        verdict = self._points(left, right)
        return _simplified(left, right) if verdict is None else verdict

    def multiple(self, left: Node, right: Node) -> int:
        ratios: list[Any] = []
        tolerance = mp.mpf(0)
        for a, b, near in _samples(left, right):
            tolerance = max(tolerance, near)
            if abs(a) < near and abs(b) < near:
                continue
            if abs(b) < near or isinstance(a, mp.mpc) or isinstance(b, mp.mpc):
                return 0
            ratios.append(a / b)
        if not ratios:
            raise Undecided
        first = ratios[0]
        if first == 0 or any(abs(each - first) > abs(first) * tolerance for each in ratios):
            return 0
        return 1 if first > 0 else -1

    @staticmethod
    def _points(left: Node, right: Node) -> bool | None:
        """False at the first point that differs, True when all agree, None where no point defines both."""
        met = False
        for a, b, near in _samples(left, right):
            met = True
            if abs(a - b) > max(abs(a), abs(b)) * near:
                return False
        return True if met else None


def _pair(left: Node, right: Node, point: dict[str, Any], real: bool) -> tuple[Any, Any, Any]:
    """Both values and the relative tolerance, with so many digits that the smallest number on the way shows beside the
    largest: (x + 1)^9999 and (x + 1)^9999 + 1 part at the 6,000th digit only."""
    spread = Spread()
    values = [evaluate(side, point, real, spread) for side in (left, right)]
    if spread.digits > _MAX_SPREAD:
        raise Undefined("numbers too far apart to compare")
    if spread.digits > _SLACK:
        mp.dps += spread.digits  # and so for the points after this one
        values = [evaluate(side, point, real) for side in (left, right)]
    return values[0], values[1], mp.mpf(10) ** (-mp.dps + 20)


def _samples(left: Node, right: Node) -> list[tuple[Any, Any, Any]]:
    """Values of both, and the tolerance, at points where both are defined: one for constants, ``POINTS`` for the rest
    (or none)."""
    names = sorted(symbols(left) | symbols(right))
    imaginary = any(here == Node("const", "i") for tree in (left, right) for here in walk(tree))
    real = bool(names) and not imaginary
    try:
        mp.dps = digits(left, right) + 20
    except TooBig as error:
        raise Undecided from error
    except Undefined:
        return []
    generator = random.Random(20_240_229)
    found: list[tuple[Any, Any, Any]] = []
    for attempt in range(_TRIES if names else 1):
        # Positive points first, for that is where roots and logarithms live; then both signs.
        low = 0.1 if attempt < POINTS // 2 else -3.0
        point = {name: mp.mpf(generator.randrange(int(low * 10**9), 3 * 10**9)) / 10**9 for name in names}
        try:
            found.append(_pair(left, right, point, real))
        except Undefined:
            continue
        except NotRational as error:
            raise Undecided from error
        if len(found) == POINTS:
            break
    return found if not names or len(found) >= POINTS - 1 else []


def build(node: Node) -> Any:
    """The sympy object of a tree. Raises ``NotRational`` for what has none, ``Undefined`` for ``\\max i``."""
    match node.op:
        case "num" | "rat":
            value = rational(node, FULL_BITS)
            return sympy.Rational(value.numerator, value.denominator)
        case "sym":
            return sympy.Symbol(node.text)
        case "const":
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}[node.text]
        case "fn" if node.text == "log":
            return sympy.log(build(node.args[0]), 10)
        case "fn" if node.text in ("factorial", "binom") and not symbols(node):
            value = rational(node, FULL_BITS)  # under the budget, not by sympy
            return sympy.Rational(value.numerator, value.denominator)
        case "fn" if node.text in _SYMPY:
            arguments = [build(child) for child in node.args]
            try:
                return _SYMPY[node.text](*arguments)
            except ValueError as error:  # the largest of numbers that have no order
                raise Undefined from error
        case "pow":
            try:  # a rational power is computed under the budget, not by sympy
                value = rational(node, FULL_BITS)
                return sympy.Rational(value.numerator, value.denominator)
            except NotRational:
                return build(node.args[0]) ** build(node.args[1])
        case "percent" | "deg":
            unit = sympy.Rational(1, 100) if node.op == "percent" else sympy.pi / 180
            return build(node.args[0]) * unit
        case "neg":
            return -build(node.args[0])
        case "add" | "mul" | "div" | "mod":
            left, right = (build(child) for child in node.args)
            if node.op == "div":
                return left / right
            return left + right if node.op == "add" else left * right if node.op == "mul" else left % right
        case _:
            raise NotRational(f"{node.op} has no expression")


def _structural(left: Node, right: Node) -> bool | None:
    """Exact answers for constants: their difference is a rational after sympy's automatic evaluation, or None."""
    try:
        values = [build(left), build(right)]
    except (NotRational, TooBig):
        return None
    except (Undefined, ZeroDivisionError):
        return False
    if any(value.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo) for value in values):
        return False
    difference = values[0] - values[1]
    return bool(difference == 0) if difference.is_Rational else None


def _simplified(left: Node, right: Node) -> bool:
    if sum(1 for tree in (left, right) for _ in walk(tree)) > _MAX_SIMPLIFY:
        raise Undecided
    try:
        values = [build(left), build(right)]
    except (NotRational, TooBig) as error:
        raise Undecided from error
    except (Undefined, ZeroDivisionError):
        return False
    if any(value.has(sympy.zoo, sympy.nan, sympy.oo) for value in values):
        return False
    if not symbols(left) | symbols(right):
        return False  # a constant that has no value at any precision is undefined
    difference = sympy.simplify(values[0] - values[1], ratio=1)
    if difference == 0:
        return True
    raise Undecided
