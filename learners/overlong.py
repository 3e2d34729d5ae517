"""A penalty for answers that come near the longest that may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Overlong:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13), added to the reward before the advantage.

    0 up to ``limit - cache`` tokens, then down to -1 at ``limit``, and -1 beyond. ``cache`` is a number of tokens, or
    below 1 a share of ``limit`` (DAPO: 4,096 of 20,480); ``roles`` are those who pay, null for all. Raises
    ``ValueError`` for lengths that cannot be.
    """

    limit: int
    cache: float = 0.2
    roles: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or not 0 < self.tokens <= self.limit:
            raise ValueError(
                f"learner.overlong: limit={self.limit} and cache={self.cache} are no lengths: the cache is a part of "
                "the limit, in tokens or as a share below 1"
            )

    @property
    def tokens(self) -> float:
        """The length of the cache in tokens."""
        return self.cache * self.limit if self.cache < 1 else self.cache

    def __call__(self, role: str, length: int) -> float:
        """What an answer of ``length`` tokens pays, in [-1, 0]."""
        if self.roles is not None and role not in self.roles:
            return 0.0
        return min(0.0, max(-1.0, (self.limit - self.tokens - length) / self.tokens))


def make_overlong(given: Mapping[str, Any] | Overlong | None) -> Overlong | None:
    """The penalty that a configuration means. Raises ``ValueError`` for a key that it does not have."""
    if given is None or isinstance(given, Overlong):
        return given
    known = [field.name for field in fields(Overlong)]
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            near = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"learner.overlong.{key} is unknown{near}: use {', '.join(known)}")
    if "limit" not in given:
        raise ValueError("learner.overlong has no limit: say the most tokens of an answer, usually ${max_tokens}")
    return Overlong(**given)
