"""A stock environment's observation as text: numbers, arrays and mappings, as short as they can be told whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from envs.script import GameError

MOST_NUMBERS = 20_000


class Arrays:
    """Tells any observation of numbers; the renderer of ``env=pettingzoo`` until you name another.

    A vector is a line, a matrix its rows; of a stack of planes, one behind the other along the last axis, those are
    told that are not all 0. A mapping is told key by key. A renderer of your own is called in the same way, and may
    have ``moves(env, seat)``, the names of all the seat's moves. Raises ``GameError`` for pictures.
    """

    def __call__(self, env: Any, seat: str, observation: Any) -> str:
        if isinstance(observation, Mapping):
            told = {str(key): self(env, seat, value) for key, value in cast("Mapping[Any, Any]", observation).items()}
            return "\n".join(f"{key}:{_indented(text)}" for key, text in told.items())
        if isinstance(observation, tuple | list):
            parts = [self(env, seat, value) for value in cast("tuple[Any, ...]", observation)]
            return "\n".join(f"{number}:{_indented(text)}" for number, text in enumerate(parts))
        if observation is None or isinstance(observation, str):
            return observation or ""
        return _array(np.asarray(observation))


def _array(array: Any) -> str:
    if array.size > MOST_NUMBERS:
        raise GameError(
            f"an observation of {array.size} numbers, {' x '.join(map(str, array.shape))}, is a picture and no text: "
            "name a renderer that says what is seen there, env.renderer._target_"
        )
    if array.ndim <= 1:
        return _row(array)
    if array.ndim == 2:
        return "\n".join(_row(row) for row in array)
    planes = [(number, array[..., number]) for number in range(array.shape[-1])]
    told = [f"plane {number}:{_indented(_array(plane))}" for number, plane in planes if plane.any()]
    return "\n".join(told) or f"{' x '.join(map(str, array.shape))}, all 0"


def _row(array: Any) -> str:
    flat = np.atleast_1d(array).tolist()
    return " ".join(f"{value:g}" if isinstance(value, float) else str(int(value)) for value in flat)


def _indented(text: str) -> str:
    return f" {text}" if "\n" not in text else "\n" + text
