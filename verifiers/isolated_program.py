"""The worker's program of an isolated verifier: builds it, then answers calls as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from verifiers.part import WrongCount, listed
from verifiers.worker import end_group, serve

LOOK_SECONDS = 1.0
"""Between looks at whether the trainer still lives."""


class Program:
    """One verifier behind requests ``[what, content]``; a failure is a reply and not the end."""

    def __init__(self, node: Mapping[str, object], allow: Sequence[str]) -> None:
        self._node, self._allow = node, allow
        self._verifier: Any = None

    def answer(self, request: object) -> dict[str, object]:
        what, content = cast("tuple[str, Any]", tuple(cast("list[object]", request)))
        if what != "build" and self._verifier is None:
            return {"failed": "unbuilt"}
        try:
            return getattr(self, what)(content)
        except MemoryError as error:
            return {"failed": "memory", "error": str(error) or "out of memory"}
        except (Exception, SystemExit) as error:  # whatever a user's code raises is told, and never a score
            from selfplay.compose import ConfigError

            name = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
            return {"failed": "raised", "error": f"{name}{error}"[:2_000], "traceback": traceback.format_exc()[-8_000:]}

    def build(self, _: object) -> dict[str, object]:
        from selfplay.compose import build
        from selfplay.types import Stateful

        self._verifier = build(self._node, self._allow)
        return {
            "runs_in": getattr(self._verifier, "runs_in", "worker"),
            "state": isinstance(self._verifier, Stateful),
            "metrics": hasattr(self._verifier, "metrics"),
        }

    def call(self, cases: Sequence[Mapping[str, str]]) -> dict[str, object]:
        try:
            scores = listed(self._verifier(cases))
        except WrongCount as error:
            return {"failed": "wrong_count", "error": str(error)}
        return {"scores": [_told(score) for score in scores]}

    def metrics(self, _: object) -> dict[str, object]:
        return {"metrics": {str(name): float(value) for name, value in self._verifier.metrics().items()}}

    def save(self, folder: str) -> dict[str, object]:
        self._verifier.save(Path(folder))
        return {}

    def load(self, folder: str) -> dict[str, object]:
        self._verifier.load(Path(folder))
        return {}


def _told(score: object) -> float | str | None:
    """A number as it is; anything else as text, which the panel counts as no number."""
    if score is None or isinstance(score, (str, bytes)):
        return None
    try:
        return float(cast("Any", score))
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last for a tensor of several numbers
        return repr(type(score))


def _watch(parent: int) -> None:
    """End with the trainer even in the midst of a call: only between calls does ``serve`` see its input end."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    end_group()


if __name__ == "__main__":
    _node, _allow, _path = json.loads(sys.argv[1])
    sys.path.extend(entry for entry in _path if entry not in sys.path)
    threading.Thread(target=_watch, args=[os.getppid()], daemon=True).start()
    serve(Program(_node, _allow).answer)
