"""Typed JSON, the only thing that leaves a jail: exact builtin types, bounded in depth and length, never pickle.

Used on both sides: the jail refuses to write what is not of these types, and the trainer trusts nothing that it reads.
"""

from __future__ import annotations

import json
from typing import Any, cast

MAX_DEPTH = 20


class IllegalValue(ValueError):
    """Not a value that may cross; the message says why."""


class TooLong(IllegalValue):
    """A legal value, but longer than allowed."""


# Bound now: a program that patches ``json`` spoils only itself, but its own honest values should not be hurt by it.
_write = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
_read = json.JSONDecoder().decode


def encode(value: object, limit: int) -> str:
    """``value`` as one line of ASCII JSON of at most ``limit`` characters; nan and infinities as Python writes them.

    Raises ``TooLong``, or ``IllegalValue`` for any other type (subclasses too), depth above 20, integers of more than
    4,300 digits, halves of surrogate pairs.
    """
    check(value, limit)
    try:
        text = _write(value)
    except (ValueError, TypeError, RecursionError) as error:  # too many digits, or changed by a thread since the check
        raise IllegalValue(str(error)) from None
    if len(text) > limit:
        raise TooLong(f"more than {limit} bytes of JSON")
    return text


def decode(text: str) -> Any:
    """The value of a line from a jail. Raises ``IllegalValue``."""
    try:
        value = _read(text)
    except (ValueError, RecursionError) as error:
        raise IllegalValue(f"not JSON: {error}") from None
    check(value, len(text))
    return value


def check(value: object, limit: int) -> None:
    """Raise unless ``value`` is made of exact builtin types, and is not deeper than 20 or longer than ``limit``.

    Each element takes two characters or more as JSON, so their count bounds the work even for a value that shares its
    parts and is exponentially long when written out.
    """
    level: list[object] = [value]
    count = 0
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for one in level:
            kind = type(one)
            if kind is str:
                text = cast("str", one)
                if not text.isascii():
                    try:
                        text.encode()
                    except UnicodeEncodeError:
                        raise IllegalValue("text with half of a surrogate pair") from None
                count += len(text) // 2
            elif kind is list or kind is tuple:
                below.extend(cast("list[object]", one))
            elif kind is dict:
                for key, item in tuple(cast("dict[object, object]", one).items()):
                    if type(key) is not str:
                        raise IllegalValue(f"a dict with a key of type {_name(key)}; only str can be told")
                    below += (key, item)
            elif kind is int:
                if cast("int", one).bit_length() > 14_285:
                    raise IllegalValue("an integer of more than 4300 digits")
            elif not (kind is float or kind is bool or one is None):
                raise IllegalValue(f"a value of type {_name(one)}")
            if count + len(below) > limit:
                raise TooLong(f"more than {limit} bytes of JSON")
        count += len(below)
        if not below:
            return
        level = below
    raise IllegalValue(f"a value deeper than {MAX_DEPTH}, or one that holds itself")


def _name(value: object) -> str:
    """The type's own name: a metaclass may lie about ``__name__``."""
    return type.__dict__["__name__"].__get__(type(value))
