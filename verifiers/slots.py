"""Which slots of a case a verifier is told to read, held against those that the game fills: before anybody plays.

A slot that no case has is no score, step after step, and costs a run before somebody notices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import Any, cast

from selfplay.compose import ConfigError, did_you_mean


def check_slots(node: Mapping[str, Any], slots: Sequence[str], key: str = "verifier") -> None:
    """Raise ``ConfigError`` where a resolved ``node``, or a member of it, reads a slot that is none of ``slots``.

    A verifier of ours says so by ``slot_keys``: the names of its settings that hold a slot, each with the words that
    may stand there and are none. ``key`` is where the node stands.
    """
    kind = ours(str(node.get("_target_", "")))
    known: Mapping[str, Sequence[str]] = getattr(kind, "slot_keys", {})
    for name, words in known.items():
        told = node.get(name, signature(cast("Any", kind)).parameters[name].default)
        if told not in (*words, *slots):
            raise ConfigError(
                f"{key}.{name}={told} is no slot of this game{did_you_mean(str(told), [*words, *slots])}: "
                f"use {', '.join((*words, *slots))}"
            )
    for name, member in node.items():
        if isinstance(member, Mapping):
            check_slots(cast("Mapping[str, Any]", member), slots, f"{key}.{name}")


def ours(target: str) -> object | None:
    """The class, if it is one of ours: a user's module is imported in the worker and not here."""
    package, _, name = target.rpartition(".")
    if package.split(".")[0] != "verifiers":
        return None
    try:
        return getattr(import_module(package), name, None)
    except ImportError:
        return None  # `build` says what is wrong with it
