"""An interval of numbers as a configuration writes it: ``[0.3, 0.8]``, or ``"(0, 1)"`` without its ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WRITTEN = re.compile(r"\s*([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])\s*")


@dataclass(frozen=True, slots=True)
class Interval:
    """The numbers from ``low`` to ``high``; an open end is not one of them."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    @classmethod
    def of(cls, written: str | Sequence[float], key: str) -> Interval:
        """A list of two numbers has both its ends; a string says by ``[`` or ``(`` whether an end belongs to it.

        Raises ``ValueError`` that names ``key`` for anything else, and where nothing lies between the ends.
        """
        try:
            if isinstance(written, str):
                match = _WRITTEN.fullmatch(written)
                if match is None:
                    raise ValueError(written)
                made = cls(float(match[2]), float(match[3]), match[1] == "(", match[4] == ")")
            else:
                low, high = written
                made = cls(float(low), float(high))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{key}={written!r} is no interval: write [0.3, 0.8], or "(0, 1)" to leave out its ends'
            ) from error
        if not made.low <= made.high or (made.low == made.high and (made.low_open or made.high_open)):
            raise ValueError(f"{key}={written!r} is empty: nothing lies between {made.low:g} and {made.high:g}")
        return made

    def below(self, value: float) -> bool:
        """Whether ``value`` lies before the interval."""
        return value < self.low or (self.low_open and value == self.low)

    def above(self, value: float) -> bool:
        """Whether ``value`` lies after the interval."""
        return value > self.high or (self.high_open and value == self.high)
