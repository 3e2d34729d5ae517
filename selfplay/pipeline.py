"""First turns that are played one step ahead, beside the second turn of the step before, and kept in checkpoints.

A step's first turn is the smallest batch of its rollout. Played ahead, it costs no batch of its own: the accelerator
sees one full batch where it saw a small one and a large one. The price is that a step's first turn was sampled by the
weights before the last update, so the learner has to weigh it (truncated importance sampling).

Only the actions are kept, never a table: the next rollout opens its tables anew, from their seeds, and plays the kept
actions in place of asking. A run that was resumed does the same with what its checkpoint holds, so it cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from selfplay.seeds import derive
from selfplay.types import Action, Completion, Learner

_FILE = "openings.json"


class PipelineError(RuntimeError):
    """First turns that cannot be played ahead, in one sentence."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A first turn that was played ahead: who spoke, the fingerprint of what they were told, and what they did."""

    seat: str
    told: int
    action: Action


class Pipeline:
    """Keeps the first turns of one rollout, in the order of its tree, from the rollout before; ``Stateful``."""

    def __init__(self) -> None:
        self._seed: int | None = None
        self._openings: list[Opening] = []

    def take(self, seed: int) -> list[Opening] | None:
        """The first turns of the rollout of ``seed``, once; None where none were played ahead.

        Raises ``PipelineError`` where they belong to another rollout.
        """
        if self._seed not in (None, seed):
            raise PipelineError(f"first turns were played ahead for the seed {self._seed}, not for {seed}")
        openings = None if self._seed is None else self._openings
        self._seed, self._openings = None, []
        return openings

    def keep(self, seed: int, openings: Sequence[Opening]) -> None:
        """Keep the first turns of the rollout of ``seed``, which is the next one to be played.

        Raises ``PipelineError`` for a move that a checkpoint could not hold: now, and not at the first checkpoint.
        """
        for opening in openings:
            _pack(opening.action.move)
        self._seed, self._openings = seed, list(openings)

    def save(self, folder: Path) -> None:
        """Write ``folder/openings.json``: moves, and completions with token ids and log-probabilities."""
        body = {"seed": self._seed, "openings": [_to_json(opening) for opening in self._openings]}
        (folder / _FILE).write_text(json.dumps(body) + "\n", encoding="ascii")

    def load(self, folder: Path) -> None:
        body = json.loads((folder / _FILE).read_text(encoding="ascii"))
        self._seed, self._openings = body["seed"], [_from_json(opening) for opening in body["openings"]]


def open_pipeline(wanted: bool, learner: Learner) -> Pipeline | None:
    """The pipeline of ``pipeline=true``, None for ``pipeline=false``.

    A learner that relies on log-probabilities says by ``importance_cap`` how far it weighs words of older weights; None
    means that it takes all words for its own. Raises ``PipelineError`` for that, and for a ``wanted`` that is no truth
    value.
    """
    if not isinstance(cast(object, wanted), bool):
        raise PipelineError(f"pipeline={wanted} is unknown: use true or false")
    if not wanted:
        return None
    if getattr(learner, "importance_cap", "none needed") is None:
        raise PipelineError(
            "pipeline=true samples first turns with the weights before the last update, which the learner would take "
            "for its own: set learner.importance_cap=2.0, or pipeline=false"
        )
    return Pipeline()


def fingerprint(observation: Any) -> int:
    """63 bits of a chat, so that an opening is never played to a table where its speaker was told something else.

    0 for an observation that is no mapping of texts: those of stock environments are not compared.
    """
    if not isinstance(observation, Mapping):
        return 0
    words = [word for item in cast(Mapping[Any, Any], observation).items() for word in item]
    return derive(len(words), *words) if all(isinstance(word, str) for word in words) else 0


def _to_json(opening: Opening) -> dict[str, Any]:
    completion = opening.action.completion
    said = None if completion is None else {part.name: getattr(completion, part.name) for part in fields(completion)}
    move = _pack(opening.action.move)
    return {"seat": opening.seat, "told": opening.told, "move": move, "completion": said}


def _from_json(body: Mapping[str, Any]) -> Opening:
    completion = None
    if body["completion"] is not None:
        said: dict[str, Any] = dict(body["completion"])
        said |= {name: _tuples(part) for name, part in said.items()}
        completion = Completion(**said)
    return Opening(body["seat"], body["told"], Action(_unpack(body["move"]), completion))


def _tuples(part: Any) -> Any:
    """A part of a completion as it was: JSON has lists only, also within the list of what tokens were drawn among."""
    return tuple(_tuples(one) for one in cast(list[Any], part)) if isinstance(part, list) else part


def _pack(move: Any) -> Any:
    """A move of any Gymnasium space as JSON: what JSON would not give back as it was stands under its kind's name."""
    if move is None or type(move) in (str, bool, int, float):
        return move
    if type(move) in (list, tuple):
        return {type(move).__name__: [_pack(part) for part in move]}
    if type(move) is dict:
        return {"dict": [[_pack(key), _pack(part)] for key, part in cast(dict[Any, Any], move).items()]}
    if getattr(getattr(move, "dtype", None), "kind", "") in ("b", "i", "u", "f"):
        return {"array": move.tolist(), "dtype": str(move.dtype)}
    raise PipelineError(
        f"pipeline=true keeps first turns in checkpoints, and a move of the type {type(move).__name__} cannot be "
        "written there: set pipeline=false"
    )


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, dict):
        return packed
    body = cast(dict[str, Any], packed)
    if "array" in body:
        import numpy as np  # whoever plays with arrays has it

        return np.asarray(body["array"], body["dtype"])[()]  # a scalar stays a scalar
    if "dict" in body:
        return {_unpack(key): _unpack(part) for key, part in body["dict"]}
    ((kind, parts),) = body.items()
    return [_unpack(part) for part in parts] if kind == "list" else tuple(_unpack(part) for part in parts)
