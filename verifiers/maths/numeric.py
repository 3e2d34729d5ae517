"""Values of trees at many digits with mpmath: how two expressions are told apart at random points (worker only)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import mpmath  # pyright: ignore[reportMissingTypeStubs]

from verifiers.maths.exact import (
    FULL_BITS,
    NotRational,
    TooBig,
    Undefined,
    rational,
    size,
)
from verifiers.maths.tree import Node, walk

mp = cast("Any", mpmath).mp  # untyped library
DIGITS = 50
_GUARD = 15
_ONE: Mapping[str, Any] = {
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc, "arcsin": mp.asin,
    "arccos": mp.acos, "arctan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "sqrt": mp.sqrt,
    "log": mp.log10, "abs": abs, "floor": mp.floor, "ceil": mp.ceil, "factorial": mp.factorial,
}  # fmt: skip


def digits(*trees: Node) -> int:
    """Digits that tell these trees apart: ``DIGITS`` beyond the smallest and largest rationals that are in them.

    Without this 1 + 10^-60 and 1 would agree to 50 digits. Raises ``TooBig`` above the worker's bit budget.
    """
    bits = sum(_bits(node) for tree in trees for node in walk(tree) if node.op in ("num", "rat", "pow"))
    if bits > FULL_BITS:
        raise TooBig("numbers too long to compare")
    return DIGITS + bits * 3 // 10


def _bits(node: Node) -> int:
    try:
        return size(rational(node, FULL_BITS))
    except NotRational:
        return 0


class Spread:
    """How far apart the sizes of values are that were met on the way, as exponents of two."""

    def __init__(self) -> None:
        self.low = self.high = 0

    def meet(self, value: Any) -> None:
        if value:
            size = int(mp.mag(value))
            self.low, self.high = min(self.low, size), max(self.high, size)

    @property
    def digits(self) -> int:
        """Decimal digits between the smallest and the largest: what is needed to see one beside the other."""
        return (self.high - self.low) * 3 // 10


def evaluate(node: Node, point: Mapping[str, Any], real: bool, spread: Spread | None = None) -> Any:
    """The value at ``point``. ``real`` refuses what leaves the real line on the way, as school algebra does.

    Raises ``Undefined`` where there is no finite value, ``NotRational`` for kinds that are not one number.
    """
    values = [evaluate(child, point, real, spread) for child in node.args]
    try:
        result = _apply(node, values, point, real)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:  # TypeError: floor(i)
        raise Undefined(f"{node.op} {node.text} has no value here") from error
    if not mp.isfinite(result):
        raise Undefined("infinite on the way")
    if spread is not None:
        spread.meet(result)
    if isinstance(result, mp.mpc):
        if abs(result.imag) <= abs(result.real) * mp.mpf(10) ** (-mp.dps + _GUARD):
            return result.real
        if real:
            raise Undefined("leaves the real line")
    return result


def _apply(node: Node, values: list[Any], point: Mapping[str, Any], real: bool) -> Any:
    match node.op:
        case "num" | "rat":
            exact = rational(node, FULL_BITS)
            return mp.mpf(exact.numerator) / exact.denominator
        case "sym":
            return point[node.text]
        case "const":
            return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1), "inf": mp.inf}[node.text]
        case "add":
            return values[0] + values[1]
        case "mul":
            return values[0] * values[1]
        case "neg":
            return -values[0]
        case "div":
            return values[0] / values[1]
        case "mod":
            return mp.fmod(values[0], values[1])
        case "percent":
            return values[0] / 100
        case "deg":
            return values[0] * mp.pi / 180
        case "pow":
            if values[0] == 0 and not mp.re(values[1]) > 0:
                raise Undefined("zero to a power that is not positive")
            return mp.power(values[0], values[1])
        case "fn":
            return _function(node.text, values)
        case _:
            raise NotRational(f"{node.op} is not one number")


def _function(name: str, values: list[Any]) -> Any:
    if name in _ONE:
        near = mp.mpf(10) ** (-mp.dps + _GUARD)
        # tan 90 degrees is 10^50 in floating point and no number in mathematics.
        if name in ("tan", "sec") and abs(mp.cos(values[0])) < near:
            raise Undefined("a pole")
        if name in ("cot", "csc") and abs(mp.sin(values[0])) < near:
            raise Undefined("a pole")
        if name in ("floor", "ceil", "factorial"):
            nearest = mp.nint(values[0])
            if abs(values[0] - nearest) < near:
                values = [nearest]
            elif name == "factorial":
                raise Undefined("factorial takes whole numbers")
        if name == "factorial" and not 0 <= values[0] <= 10_000:
            raise Undefined("factorial is out of range")
        return _ONE[name](values[0])
    if name == "logb":
        return mp.log(values[0]) / mp.log(values[1])
    if name == "root":
        degree = int(values[1])
        if degree != values[1] or not 1 <= degree <= 10_000:
            raise Undefined("a root has a whole degree")
        negative = not isinstance(values[0], mp.mpc) and values[0] < 0
        return -mp.root(-values[0], degree) if negative and degree % 2 else mp.root(values[0], degree)
    if name == "binom":
        return mp.binomial(values[0], values[1])
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    raise NotRational(f"{name} is not known to numeric evaluation")
