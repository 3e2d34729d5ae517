"""The small world that the embedded model knows: whole-number arithmetic and three roles under short prompts.

A *problem* is ``(left, sign, right)`` with signs ``+ - * =+ =-``; the last two are one-step equations:
``(5, "=+", 12)`` is x + 5 = 12. One problem has several wordings. Problems are split once, by a hash of the problem
and not of its wording, into those the model may ever see and those held out: no wording of a held-out problem is in
the training data, in any role.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

Problem = tuple[int, str, int]

ASK = "Ask."
JUDGE = "Judge: {query} {answer}"
SCORE_NONSENSE, SCORE_WRONG, SCORE_RIGHT = 0, 2, 7
"""LSP's rubric in one number: two of the seven points grade the question, five its answer."""

WORDINGS = {
    "+": ("{a} + {b} = ?", "What is {a} + {b}?", "{a} plus {b}?"),
    "-": ("{a} - {b} = ?", "What is {a} - {b}?", "{a} minus {b}?"),
    "*": ("{a} * {b} = ?", "What is {a} * {b}?", "{a} times {b}?"),
    "=+": ("Solve x + {a} = {b}.", "x + {a} = {b}, x = ?"),
    "=-": ("Solve x - {a} = {b}.", "x - {a} = {b}, x = ?"),
}
LIMITS = {"+": 100, "-": 100, "*": 10}
"""Both numbers of a problem are below this."""

SHARES = {"+": 0.36, "-": 0.30, "*": 0.10, "=+": 0.12, "=-": 0.12}
"""How often each kind is asked, in training, by the Challenger at first, and in the held-out exam."""


def solve(problem: Problem) -> int:
    """The answer, a whole number of at most three digits, perhaps negative."""
    a, sign, b = problem
    return {"+": a + b, "-": a - b, "*": a * b, "=+": b - a, "=-": b + a}[sign]


def word(problem: Problem, rng: Random) -> str:
    """One of the problem's wordings."""
    a, sign, b = problem
    return rng.choice(WORDINGS[sign]).format(a=a, b=b)


def squeeze(text: str) -> str:
    """The text as problems are compared: no spaces, lower case, signs as signs."""
    text = re.sub(r"\s+", "", text.lower())
    return text.replace("plus", "+").replace("minus", "-").replace("times", "*")


def mark(problem: Problem) -> str:
    """What every wording of the problem contains once it is squeezed: ``12+34`` or ``x+5=12``."""
    a, sign, b = problem
    return f"x{sign[1]}{a}={b}" if sign[0] == "=" else f"{a}{sign}{b}"


MARK = re.compile(r"x([-+])(\d+)=(\d+)|(?<![\dx.])(\d+)([-+*])(\d+)(?![\d.])")


def problems_in(text: str) -> list[Problem]:
    """Every problem that the text poses or quotes."""
    found: list[Problem] = []
    for sign, a, b, left, operator, right in MARK.findall(squeeze(text)):
        found.append((int(a), "=" + sign, int(b)) if sign else (int(left), operator, int(right)))
    return found


def held_out(problem: Problem, share: float = 0.1) -> bool:
    """Whether the problem belongs to the exam; a fixed hash, so that every run and every seed agrees."""
    digest = blake2b(repr(problem).encode(), digest_size=8, person=b"held-out").digest()
    return int.from_bytes(digest, "big") < share * 2**64


@dataclass(frozen=True)
class World:
    """Draws problems, questions, answers with errors, and judged answers. All numbers are probabilities.

    ``wrong`` is how often an answer in the training data is wrong: the model then knows its world the way a
    pretrained model does, with the right answer likelier than any one wrong answer and yet often not sampled.
    """

    wrong: float = 0.58
    nonsense: float = 0.25

    def problem(self, rng: Random, *, exam: bool = False) -> Problem:
        """A problem on the asked side of the split."""
        while True:
            sign = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
            limit = LIMITS[sign[-1]]
            a, b = rng.randrange(limit), rng.randrange(limit)
            if held_out((a, sign, b)) == exam:
                return a, sign, b

    def slip(self, problem: Problem, rng: Random) -> int:
        """A wrong answer of the kind people give: off by a little, a slipped digit, a wrong sign, a guess."""
        right = solve(problem)
        a, _, b = problem
        while True:
            kind = rng.randrange(5)
            if kind == 0:
                answer = right + rng.choice((-1, 1)) * rng.randint(1, 9)
            elif kind == 1:
                answer = right + rng.choice((-1, 1)) * 10 * rng.randint(1, 5)
            elif kind == 2:
                answer = int(str(abs(right))[::-1])
            elif kind == 3:
                answer = rng.choice((a + b, a - b, b - a, a, b))
            else:
                answer = rng.randrange(2 * max(abs(right), 10)) * (1 if right >= 0 else -1)
            if answer != right:
                return answer

    def answer(self, problem: Problem, rng: Random) -> int:
        """What the training data says: right, or with probability ``wrong`` a slip."""
        return self.slip(problem, rng) if rng.random() < self.wrong else solve(problem)

    def nonsense_question(self, rng: Random) -> str:
        """A question that nobody here should be asked: spoiled in its wording, or with numbers beyond the world."""
        if rng.random() < 0.5:
            a, sign, b = self.problem(rng)
            large = rng.randrange(LIMITS[sign[-1]], 10 * LIMITS[sign[-1]] ** rng.choice((1, 2)))
            return word((large, sign, b) if rng.random() < 0.5 else (a, sign, large), rng)
        while True:
            text = self._spoil(word(self.problem(rng), rng), rng)
            if text.strip() and not problems_in(text):
                return text

    def _spoil(self, text: str, rng: Random) -> str:
        kind = rng.randrange(5)
        if kind == 0:
            return text[: rng.randrange(1, len(text) - 2)]
        if kind == 1:
            pieces = text.split()
            rng.shuffle(pieces)
            return " ".join(pieces)
        if kind == 2:
            return text.translate({ord(sign): sign * 2 for sign in "+-*="})
        if kind == 3:
            return "".join(rng.choice("0123456789+-*= ?x.") for _ in range(rng.randint(2, 14)))
        return text.replace(" ", f" {rng.randrange(10_000)} ", 1)
