"""Exact rational values of trees, bounded: sizes are checked *before* a power or a product is computed."""

from __future__ import annotations

import math
from fractions import Fraction

from verifiers.maths.tree import Node

FAST_BITS = 4_096
"""Largest numerator or denominator in the trainer: worst case some 10 ms for a hostile tree, microseconds for sums."""
FULL_BITS = 33_220
"""Largest in the worker: 10^4 decimal digits."""
MAX_EXPONENT = 10_000


class NotRational(ValueError):
    """The tree has symbols, irrational functions or kinds that are not one number."""


class TooBig(ValueError):
    """A value would be over the bit budget."""


class Undefined(ValueError):
    """Division by zero and its kin: such a tree equals nothing, itself included."""


def size(value: Fraction) -> int:
    """Bits of numerator and denominator together."""
    return value.numerator.bit_length() + value.denominator.bit_length()


def rational(node: Node, bits: int = FAST_BITS) -> Fraction:
    """The exact value. Raises ``NotRational``, ``TooBig`` (above ``bits``) or ``Undefined``."""
    op = node.op
    if op == "num":
        return _literal(node.text, bits)
    if op == "rat":
        top, _, bottom = node.text.partition("/")
        return Fraction(int(top), int(bottom))
    if op == "fn":
        return _function(node.text, [rational(child, bits) for child in node.args], bits)
    if op not in _ARITHMETIC:
        raise NotRational(f"{op} is not one rational number")
    values = [rational(child, bits) for child in node.args]
    if op == "neg":
        return -values[0]
    if op == "percent":
        return values[0] / 100
    left, right = values
    if op == "pow":
        return power(left, right, bits)
    # Products and cross-multiplied sums are no longer than their parts together.
    if size(left) + size(right) > bits:
        raise TooBig(f"a result above {bits} bits")
    if op == "add":
        return left + right
    if op == "mul":
        return left * right
    if right == 0:
        raise Undefined("division by zero")
    return left / right if op == "div" else left % right


_ARITHMETIC = frozenset({"neg", "percent", "pow", "add", "mul", "div", "mod"})


def _literal(text: str, bits: int) -> Fraction:
    if text.isdigit():
        return Fraction(int(text))
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) * 4 > bits:
        raise TooBig(f"a literal above {bits} bits")
    whole, _, decimals = mantissa.partition(".")
    scale = 10 ** len(decimals)
    value = Fraction(int((whole + decimals) or "0"), scale)
    return value * Fraction(10) ** int(exponent) if exponent else value


def power(base: Fraction, exponent: Fraction, bits: int = FAST_BITS) -> Fraction:
    """``base ** exponent`` where that is rational. Raises as ``rational`` does; 0^0 is undefined."""
    if base == 0 and exponent <= 0:
        raise Undefined("zero to a power that is not positive")
    if abs(exponent.numerator) > MAX_EXPONENT or size(base) * abs(exponent.numerator) > max(bits, size(base)):
        if base in (0, 1):
            return base
        raise TooBig(f"a power above {bits} bits")
    if exponent.denominator == 1:
        return base**exponent.numerator
    if base < 0 or exponent.denominator > 64:
        raise NotRational("a root of a negative number has several meanings")
    return power(root(base, exponent.denominator), Fraction(exponent.numerator), bits)


def root(value: Fraction, degree: int) -> Fraction:
    """The real root, where it is rational; odd degrees take negative values. Raises ``NotRational``."""
    if degree < 1 or degree > 64 or (value < 0 and degree % 2 == 0):
        raise NotRational(f"no real root of degree {degree}")
    sign = -1 if value < 0 else 1
    return Fraction(sign * _integer_root(abs(value.numerator), degree), _integer_root(value.denominator, degree))


def _integer_root(value: int, degree: int) -> int:
    if value < 2 or degree == 1:
        return value
    if degree == 2:
        found = math.isqrt(value)
    else:  # Newton from above: the first guess is at least the root, then it falls until it stops.
        found = 1 << -(-value.bit_length() // degree)
        while True:
            lower = ((degree - 1) * found + value // found ** (degree - 1)) // degree
            if lower >= found:
                break
            found = lower
    if found**degree != value:
        raise NotRational(f"the root of degree {degree} is irrational")
    return found


def _function(name: str, values: list[Fraction], bits: int) -> Fraction:
    if name == "sqrt":
        return root(values[0], 2)
    if name == "root" and values[1].denominator == 1:
        return root(values[0], values[1].numerator)
    if name == "abs":
        return abs(values[0])
    if name in ("floor", "ceil"):
        return Fraction(math.floor(values[0]) if name == "floor" else math.ceil(values[0]))
    if name in ("gcd", "lcm", "factorial", "binom"):
        return Fraction(_whole(name, [_natural(value, name) for value in values], bits))
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    raise NotRational(f"{name} is not decided by rational arithmetic")


def _whole(name: str, numbers: list[int], bits: int) -> int:
    if name == "gcd":
        return math.gcd(*numbers)
    if name == "lcm":
        if sum(number.bit_length() for number in numbers) > bits:
            raise TooBig(f"a multiple above {bits} bits")
        return math.lcm(*numbers)
    largest = numbers[0]
    if largest > MAX_EXPONENT or largest * max(1, largest.bit_length()) > bits:
        raise TooBig(f"{name} above {bits} bits")
    return math.factorial(largest) if name == "factorial" else math.comb(*numbers)


def _natural(value: Fraction, name: str) -> int:
    if value.denominator != 1 or value < 0:
        raise Undefined(f"{name} takes whole numbers that are not negative")
    return value.numerator
