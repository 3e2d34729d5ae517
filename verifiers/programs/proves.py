"""1 if z3 proves the answer to an arithmetic question, 0 if it refutes it: a program for ``verifier=external``.

The question is an expression (``12 + 34 = ?``, ``What is 12 + 34?``, ``12 plus 34?``) or an equation in one letter
(``Solve x + 5 = 12.``, ``x + 5 = 12, x = ?``); the answer is one number, ``46``, ``-7/2``, ``0.5`` or ``x = 7``. What
is to be proved is about real numbers: that the expression is the number, or that the equation holds there and nowhere
else.

Null where the question cannot be read, divides by something that may be zero, has no solution or several, or where z3
does not know. Nothing is evaluated: a parser of its own makes z3's terms.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

MILLISECONDS = 2_000
MAX_CHARS, MAX_DIGITS, MAX_DEPTH = 500, 200, 40

_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"})
_WORDS = {"plus": "+", "minus": "-", "times": "*"}
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([a-z])(?![a-z])|([-+*/()=]))", re.ASCII)
_NUMBER = re.compile(r"(?:([a-z])\s*=\s*)?([+-]?\s*\d+(?:\.\d+|/\d+)?)\s*\.?", re.ASCII)


class Unreadable(ValueError):
    """Not a question of this grammar."""


class Reader:
    """A recursive descent over one expression or equation; ``divisors`` and ``letters`` are what it met."""

    def __init__(self, z3: Any, text: str) -> None:
        self.z3, self.divisors, self.letters, self._depth = z3, list[Any](), set[str](), 0
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or len(match[0].strip()) > MAX_DIGITS:
                raise Unreadable(text)
            self._tokens.append(match[0].strip())
            at = match.end()
        self._tokens.append("")

    def whole(self) -> tuple[Any, Any]:
        """Both sides of an equation; the right one is None for an expression."""
        left = self._sum()
        right = None
        if self._tokens[0] == "=":
            self._tokens.pop(0)
            right = self._sum()
        if self._tokens[0]:
            raise Unreadable(self._tokens[0])
        return left, right

    def _sum(self) -> Any:
        value = self._product()
        while self._tokens[0] in ("+", "-"):
            plus = self._tokens.pop(0) == "+"
            term = self._product()
            value = value + term if plus else value - term
        return value

    def _product(self) -> Any:
        value = self._factor()
        while self._tokens[0] in ("*", "/"):
            if self._tokens.pop(0) == "*":
                value = value * self._factor()
            else:
                self.divisors.append(self._factor())
                value = value / self.divisors[-1]
        return value

    def _factor(self) -> Any:
        token = self._tokens.pop(0)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("too deep")
        if token == "-":
            value = -self._factor()
        elif token == "(":
            value = self._sum()
            if self._tokens.pop(0) != ")":
                raise Unreadable("a parenthesis stays open")
        elif token[:1].isdigit():
            value = self.z3.RealVal(token)
        elif token.isalpha():
            self.letters.add(token)
            value = self.z3.Real(token)
        else:
            raise Unreadable(token or "the end")
        self._depth -= 1
        return value


def formula_of(query: str) -> str:
    """The expression or equation that the words ask for. Raises ``Unreadable``."""
    text = " ".join(query.lower().translate(_SIGNS).split())
    if len(text) > MAX_CHARS:
        raise Unreadable("too long")
    for word, sign in _WORDS.items():
        text = re.sub(rf"\b{word}\b", sign, text)
    solve = re.fullmatch(r"solve (.+?)(?: for [a-z])?\.?", text) or re.fullmatch(r"(.+), ?[a-z] ?= ?\?", text)
    if solve is not None:
        return solve[1]
    return re.sub(r" ?(?:= ?)?\??$", "", text.removeprefix("what is "), count=1)


def number_of(answer: str, unknown: str) -> str | None:
    """The number that the answer is, as z3 reads it; None for anything else."""
    match = _NUMBER.fullmatch(answer.strip().translate(_SIGNS).lower())
    if match is None or len(match[2]) > MAX_DIGITS or match[1] not in (None, unknown):
        return None
    number = match[2].replace(" ", "").removeprefix("+")
    return None if re.search(r"/0+$", number) else number


def verdict(z3: Any, query: str, answer: str) -> bool | None:
    """True proved, False refuted, None cannot tell."""
    try:
        reader = Reader(z3, formula_of(query))
        left, right = reader.whole()
    except Unreadable:
        return None
    unknown = "".join(reader.letters)
    if len(reader.letters) != (right is not None):
        return None
    if any(not z3.is_true(z3.simplify(divisor != 0)) for divisor in reader.divisors):
        return None
    number = number_of(answer, unknown)
    if right is None:
        return False if number is None else _proved(z3, left == z3.RealVal(number))
    equation, x = left == right, z3.Real(unknown)
    if _proved(z3, z3.Not(equation)) is not False:
        return None  # no solution, or none that z3 finds
    if number is None:
        return False
    holds = _proved(z3, z3.substitute(equation, (x, z3.RealVal(number))))
    alone = _proved(z3, z3.Implies(equation, x == z3.RealVal(number)))
    return False if holds is False else True if holds and alone else None


def _proved(z3: Any, claim: Any) -> bool | None:
    """Whether the claim holds for all values: its negation has no model."""
    solver = z3.Solver()
    solver.set("timeout", MILLISECONDS)
    solver.add(z3.Not(claim))
    found = solver.check()
    return True if found == z3.unsat else False if found == z3.sat else None


def main() -> None:
    try:
        import z3
    except ImportError as error:
        sys.exit(f"proves needs z3 ({error}): pip install z3-solver")
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        found = verdict(z3, case["query"], case["answer"])
        print("null" if found is None else int(found), flush=True)


if __name__ == "__main__":
    main()
