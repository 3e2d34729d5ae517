"""Copies of a game's state, fast: games branch into thousands, and most of what they hold is flat."""

from __future__ import annotations

import copy
from typing import Any, cast

_UNCHANGING = frozenset({str, int, float, bool, type(None)})


def twin(value: Any, memo: dict[int, Any]) -> Any:
    """What ``copy.deepcopy`` gives, without its detours for plain dicts and lists of what never changes."""
    kind = cast("type[object]", type(value))
    if kind in _UNCHANGING:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is list:
        made: list[Any] = []
        memo[id(value)] = made  # before what is in it, which may be itself
        made += [item if type(item) in _UNCHANGING else twin(item, memo) for item in cast("list[Any]", value)]
        return made
    if kind is dict and all(type(key) is str for key in cast("dict[Any, Any]", value)):
        found: dict[str, Any] = {}
        memo[id(value)] = found
        for key, item in cast("dict[str, Any]", value).items():
            found[key] = item if type(item) in _UNCHANGING else twin(item, memo)
        return found
    return copy.deepcopy(value, memo)
