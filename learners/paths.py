"""Reasoning paths: the equations of a text, whether they hold, and which of several texts with the same ones to keep.

The rule of rejection-sampling fine-tuning (arXiv 2308.01825, section 3.3) in code of our own: arithmetic is parsed and
never evaluated by Python.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from learners.edits import distance, distances

TOLERANCE = 1e-3
"""How far the two sides of an equation may be apart."""
FEW = 20
"""Texts below which each pair is compared by itself."""
_LONGEST = 200
"""Characters of a side; a longer one is not read, so that parentheses cannot nest without end."""

_MARKED = re.compile(r"<<([^<>\n]*)>>")
_RUN = re.compile(r"[\d \t.,$%()+\-*/×÷−=]+")
_BEGIN = re.compile(r"[\d($]")
_TIMES = re.compile(r"(?<=[\d)])[ \t]*[xX×·][ \t]*(?=[\d(])")
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])?\s*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(r"(\d+\.?\d*|\.\d+)|([-+*/()%])")
_APART = re.compile(r"[.,][ \t]+|(?<=\d)[ \t]+(?=\d)")
_COMPUTED = re.compile(r"[\d)%][-+*/]")
_AGREED = str.maketrans({"×": "*", "÷": "/", "−": "-", "$": None, " ": None, "\t": None})


def equations(text: str) -> tuple[str, ...]:
    """The equations of a text in their order, without spaces: those between ``<<`` and ``>>`` where there are any, as
    in GSM8K's solutions, else all arithmetic on both sides of an equals sign ("3 x 4 = 12", not "x + 5 = 12")."""
    if marked := _MARKED.findall(text):
        return tuple(_plain(inside) for inside in marked)
    return tuple(equation for line in text.splitlines() for equation in _on(_TIMES.sub("*", line)))


def holds(equation: str, tolerance: float = TOLERANCE) -> bool:
    """Whether all sides are the same number; False where one of them cannot be read."""
    sides = [value(side) for side in equation.split("=")]
    first = sides[0]
    return len(sides) > 1 and first is not None and all(s is not None and abs(first - s) < tolerance for s in sides)


def value(expression: str) -> float | None:
    """The number that an expression of + - * / % and parentheses stands for, "1,000" is 1000; None where it is none."""
    plain = _plain(expression)
    if not plain or len(plain) > _LONGEST or _TOKEN.sub("", plain):
        return None
    try:
        return _Arithmetic([number or sign for number, sign in _TOKEN.findall(plain)]).result()
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None


def path(text: str) -> tuple[str, ...]:
    """What makes two texts the same path: their equations, or where there are none, their words."""
    return equations(text) or ("", " ".join(text.split()))


def farthest(texts: Sequence[str], paths: Sequence[tuple[str, ...]]) -> list[int]:
    """One text of each path, as indices: the one that is farthest, in summed edit distance, from the texts of all other
    paths; the farthest of them first. Ties go to the text that sorts first, whatever the order of ``texts``."""
    far = [0] * len(texts)
    for i, j, apart in _apart(texts, paths):
        far[i] += apart
        far[j] += apart
    order = sorted(range(len(texts)), key=lambda i: (-far[i], texts[i]))
    kept: dict[tuple[str, ...], int] = {}
    for i in order:
        kept.setdefault(paths[i], i)
    return list(kept.values())


def _apart(texts: Sequence[str], paths: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, int, int]]:
    """Every two texts of different paths, once, with their edit distance."""
    count = len(texts)
    if count < FEW:
        pairs = ((i, j) for i, j in combinations(range(count), 2) if paths[i] != paths[j])
        yield from ((i, j, distance(texts[i], texts[j])) for i, j in pairs)
        return
    ((largest, most),) = Counter(paths).most_common(1)
    if 2 * most > count:  # who is not of that path meets all
        rows = [i for i in range(count) if paths[i] != largest]
        starts, width = [0] * len(rows), count
    else:  # around a circle everybody meets the half that comes next
        rows, starts, width = list(range(count)), [(i + 1) % count for i in range(count)], count // 2
    far = distances(texts, rows, starts, width).tolist() if rows else []
    for i, start, row in zip(rows, starts, far, strict=True):
        for k, apart in enumerate(row):
            j = (start + k) % count
            # Two of the rows that meet all meet twice, and so do opposite ones of an even circle.
            twice = paths[j] != largest if width == count else 2 * width == count and k == width - 1
            if paths[i] != paths[j] and (i < j or not twice):
                yield i, j, apart


def _on(line: str) -> list[str]:
    """The plain equations of one line: arithmetic to which no name, bracket or operator before or after it belongs."""
    found: list[str] = []
    for match in _RUN.finditer(line):  # runs as a whole: a search that begins at every digit is quadratic
        begin = _BEGIN.search(match[0])
        run = match[0][begin.start() :] if begin is not None else ""
        if "=" not in run:
            continue
        first, *others = [_APART.split(side.strip(" \t.,")) for side in run.split("=")]
        # "2x + 3 = 7", "f(2 + 1) = 9": the first side begins further to the left, unless something ended in it.
        cut = len(first) == 1 and _goes_on_before(line[: match.end() - len(run)])
        chains = [["" if cut else first[-1]]]
        for pieces in others:
            chains[-1].append(pieces[0])
            if len(pieces) > 1:  # "= 7, 7 + 1 =": one equation ends and another begins
                chains.append([pieces[-1]])
        if _goes_on_after(run, line[match.end() :]):
            chains[-1][-1] = ""  # "= 6x"
        found += [equation for chain in chains for equation in _readable(chain)]
    return found


def _readable(chain: Sequence[str]) -> list[str]:
    """The equations of a chain of sides, broken wherever a side is no number; one of its sides is more than that."""
    runs: list[list[str]] = [[]]
    for side in chain:
        if value(side) is None:
            runs.append([])
        else:
            runs[-1].append(_plain(side))
    return ["=".join(run) for run in runs if len(run) > 1 and any(_COMPUTED.search(side) for side in run)]


def _goes_on_before(before: str) -> bool:
    if before and before[-1] not in " \t=:;,":
        return True
    return not _BULLET.fullmatch(before) and before.rstrip(" \t$")[-1:] in tuple("+-*/×÷−^")


def _goes_on_after(run: str, after: str) -> bool:
    return run[-1] not in " \t" and bool(after) and (after[0].isalnum() or after[0] in "^_!°")


def _plain(expression: str) -> str:
    return _THOUSANDS.sub("", _TIMES.sub("*", expression).translate(_AGREED))


class _Arithmetic:
    """A number from tokens; raises ``ValueError`` or ``IndexError`` where they do not make one."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def result(self) -> float:
        number = self.sum()
        if self.tokens:
            raise ValueError(self.tokens[0])
        return number

    def sum(self) -> float:
        number = self.product()
        while self.tokens and self.tokens[0] in "+-":
            sign, next_ = self.tokens.pop(0), self.product()
            number = number + next_ if sign == "+" else number - next_
        return number

    def product(self) -> float:
        number = self.factor()
        while self.tokens and self.tokens[0] in "*/":
            sign, next_ = self.tokens.pop(0), self.factor()
            number = number * next_ if sign == "*" else number / next_
        return number

    def factor(self) -> float:
        token = self.tokens.pop(0)
        if token in ("-", "+"):
            return -self.factor() if token == "-" else self.factor()
        if token == "(":
            number = self.sum()
            if self.tokens.pop(0) != ")":
                raise ValueError("unclosed")
        else:
            number = float(token)
        while self.tokens and self.tokens[0] == "%":
            self.tokens.pop(0)
            number /= 100
        return number
