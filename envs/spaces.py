"""Spaces of text and scores whose checks cost the same for a word and for a book."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Space

ANY_LENGTH = 2**31 - 1
"""The room of a text that grows with a game, such as a transcript."""


class AnyText(Space[str]):
    """Any string of at most ``max_chars`` characters.

    gymnasium's own ``Text`` looks at every character in Python and its default alphabet has no space; here a check is
    a type and a length. Samples are short printable ASCII.
    """

    def __init__(self, max_chars: int = 16_384, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=(), dtype=np.str_, seed=seed)
        self.max_chars = max_chars

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        length = int(self.np_random.integers(0, min(self.max_chars, 32) + 1))
        return "".join(self.np_random.choice(list(string.printable[:95]), size=length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_chars

    def __repr__(self) -> str:
        return f"AnyText({self.max_chars})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyText) and other.max_chars == self.max_chars


class AnyScore(Space[float]):
    """Any real number, or nan for "I cannot tell". Samples are uniform in [0, 1)."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=(), dtype=np.float64, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> float:
        return float(self.np_random.random())

    def contains(self, x: Any) -> bool:
        return isinstance(x, (float, int)) and not isinstance(x, bool)

    def __repr__(self) -> str:
        return "AnyScore()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyScore)
