"""Whether a text is as long as was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from verifiers.format import text_of

_COUNT: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "lines": lambda text: len(text.splitlines()),
}


class Length:
    """1 for a length from ``low`` to ``high``, falling linearly to 0 at a distance of ``slack`` from that band.

    score = max(0, 1 - distance / slack), the distance of the length from the band; without slack 0 outside. A blank
    text scores 0 always. Blanks around the text do not count, so that a text cannot be padded into the band. ``unit``
    is ``characters`` (code points), ``words`` (runs without white space) or ``lines`` (blank ones inside count).
    """

    slot_keys: ClassVar[Mapping[str, Sequence[str]]] = {"slot": ()}

    def __init__(
        self,
        low: float = 1,
        high: float = 200,
        unit: Literal["characters", "words", "lines"] = "characters",
        slack: float = 0,
        slot: str = "answer",
    ) -> None:
        if not 0 <= low <= high or math.isinf(low):
            raise ValueError(f"low={low} and high={high} are no band: 0 <= low <= high.")
        if not 0 <= slack < math.inf:
            raise ValueError(f"slack={slack} must be 0 or more, and finite.")
        if unit not in _COUNT:
            raise ValueError(f"unit={unit!r} is none of {', '.join(_COUNT)}.")
        self._low, self._high, self._slack, self._slot, self._count = low, high, slack, slot, _COUNT[unit]

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in [0, 1] per case."""
        return [self._score(text_of(case, self._slot).strip()) for case in cases]

    def _score(self, text: str) -> float:
        if not text:
            return 0.0
        length = self._count(text)
        distance = max(self._low - length, length - self._high, 0.0)
        if not distance:
            return 1.0
        return max(0.0, 1.0 - distance / self._slack) if self._slack else 0.0
