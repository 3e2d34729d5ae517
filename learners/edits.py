"""Levenshtein's edit distance: of two texts, and of many pairs of texts at once.

The bits of a number are a column of the table of prefixes, and one step moves it on by a letter (Myers, J. ACM 46,
1999; in Hyyrö's form). Here a column is words of 64 bits, and pairs of texts lie beside each other in arrays. A word
needs the carry of the word below it, so word w is always w letters behind word 0: all words of all pairs go in one
operation.

Shape legend: R rows, the texts whose letters are read; K texts that each of them meets; W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

AT_ONCE = 8_192
"""Words in one operation: few enough for a cache, and enough that the time is the arithmetic's and not Python's."""

_TOP = np.uint64(63)


def distance(one: str, other: str) -> int:
    """The edit distance of two texts."""
    if not one:
        return len(other)
    places = _places(one)
    all_, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    more, less, score = all_, 0, len(one)  # where the column goes up by one, and where down
    for letter in other:
        same = places.get(letter, 0)
        diagonal = (((same & more) + more) ^ more) | same | less
        up, down = less | (all_ & ~(diagonal | more)), more & diagonal
        score += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & all_, (down << 1) & all_
        more, less = down | (all_ & ~(diagonal | up)), up & diagonal
    return score


def distances(texts: Sequence[str], rows: Sequence[int], starts: Sequence[int], width: int) -> Any:
    """Edit distances (R, K) as integers: of ``texts[rows[r]]`` from the ``width`` texts that begin with number
    ``starts[r]``, from the last one on with the first again."""
    met = _Columns(texts)
    found = np.zeros((len(rows), width), np.int64)
    # Rows of like lengths together: a part lasts as long as its longest text.
    order = sorted(range(len(rows)), key=lambda r: (-len(texts[rows[r]]), r))
    size = max(1, AT_ONCE // (met.words * width))
    for first in range(0, len(order), size):
        part = order[first : first + size]
        found[part] = met.distances([texts[rows[r]] for r in part], np.array([starts[r] for r in part]), width)
    return found


class _Columns:
    """Texts to be met: for each word, letter and text, where in it the letter stands; every text stands there twice, so
    that a window of them may begin anywhere."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.words = len(texts), max(1, -(-max(map(len, texts)) // 64))
        self._codes = {letter: code for code, letter in enumerate(sorted(set("".join(texts))), 1)}  # 0: none
        self._places = np.zeros((self.words, len(self._codes) + 1, 2 * self.texts), np.uint64)
        self._within = np.zeros((self.words, 2 * self.texts), np.uint64)
        for number, text in enumerate(texts):
            twice = [number, number + self.texts]
            self._within[:, twice] = self._column((1 << len(text)) - 1)
            for letter, bits in _places(text).items():
                self._places[:, self._codes[letter], twice] = self._column(bits)

    def distances(self, rows: Sequence[str], starts_R: Any, width: int) -> Any:
        """(R, K) distances of ``rows`` from the windows of ``width`` texts that begin at ``starts_R``."""
        words, shape = self.words, (self.words, len(rows), width)
        sizes_R = np.array([len(text) for text in rows])
        steps = int(sizes_R.max()) + words - 1
        codes = np.zeros((steps + words, len(rows)), np.int64)  # word w reads row `step - w + words - 1`
        for r, text in enumerate(rows):
            codes[words - 1 : words - 1 + len(text), r] = [self._codes[letter] for letter in text]
        places = sliding_window_view(self._places.reshape(-1), width)
        within = sliding_window_view(self._within.reshape(-1), width)
        above_W1 = np.arange(words)[:, None] * (len(self._codes) + 1)
        more, less = np.full(shape, ~np.uint64(0)), np.zeros(shape, np.uint64)
        up, down, here, diagonal = (np.empty(shape, np.uint64) for _ in range(4))
        ups, downs, next_ups, next_downs = (np.zeros(shape, np.uint64) for _ in range(4))  # carries into the words
        ups[0] = next_ups[0] = 1
        total_RK = np.repeat(sizes_R[:, None], width, 1)
        for step in range(-1, steps):
            if step >= 0:
                read_WR = codes[step : step + words][::-1]
                same = places[(read_WR + above_W1) * (2 * self.texts) + starts_R]
                np.bitwise_or(same, less, out=here)
                np.bitwise_or(same, downs, out=same)
                np.bitwise_and(same, more, out=diagonal)
                np.add(diagonal, more, out=diagonal)
                np.bitwise_xor(diagonal, more, out=diagonal)
                np.bitwise_or(diagonal, same, out=diagonal)
                np.bitwise_or(diagonal, more, out=up)
                np.invert(up, out=up)
                np.bitwise_or(up, less, out=up)
                np.bitwise_and(more, diagonal, out=down)
                np.right_shift(up[:-1], _TOP, out=next_ups[1:])
                np.right_shift(down[:-1], _TOP, out=next_downs[1:])
                np.add(up, up, out=up)
                np.bitwise_or(up, ups, out=up)
                np.add(down, down, out=down)
                np.bitwise_or(down, downs, out=down)
                np.bitwise_or(here, up, out=more)
                np.invert(more, out=more)
                np.bitwise_or(more, down, out=more)
                np.bitwise_and(up, here, out=less)
                ups, downs, next_ups, next_downs = next_ups, next_downs, ups, downs
            word_R = step + 1 - sizes_R  # which word has just read the row's last letter
            r = np.flatnonzero((word_R >= 0) & (word_R < words))
            if r.size:
                own = within[word_R[r] * 2 * self.texts + starts_R[r]]
                grown, fallen = (np.bitwise_count(bits[word_R[r], r] & own).astype(np.int64) for bits in (more, less))
                total_RK[r] += grown - fallen
        return total_RK

    def _column(self, bits: int) -> Any:
        """(W, 1) words of a number."""
        return np.frombuffer(bits.to_bytes(8 * self.words, "little"), "<u8")[:, None]


def _places(text: str) -> dict[str, int]:
    """For each letter the number whose bits are the places where it stands."""
    places: dict[str, int] = {}
    for i, letter in enumerate(text):
        places[letter] = places.get(letter, 0) | 1 << i
    return places
