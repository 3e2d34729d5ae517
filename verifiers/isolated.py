"""A verifier in a process of its own: a user's code cannot hang, eat or end the run.

The worker builds the verifier from its configuration and judges one call at a time. Past the deadline it is killed and
reaped; the next call gets a fresh one. A verifier with a memory (``save`` and ``load``) is brought back to where it
stood: its last saved state, and the calls since then once more.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from selfplay.compose import ConfigError
from selfplay.deadline import remaining
from selfplay.types import Case
from verifiers.part import OutOfMemory, RaisedInWorker, VerifierFailed, WrongCount
from verifiers.worker import START_SECONDS, Worker, WorkerError, WorkerTimeout

_PROGRAM = Path(__file__).resolve().parent / "isolated_program.py"
_MAX_REPLY = 1 << 26
_FOREVER = 1e6
Reply = dict[str, Any]


class Isolated:
    """The verifier that ``node`` describes, in a worker with at most ``memory_mib`` MiB of private memory.

    A call takes at most what is left of the caller's deadline; starting a worker does not count. Raises
    ``ConfigError`` if the verifier cannot be built; a call raises ``WorkerTimeout``, ``WorkerDied``, ``OutOfMemory``
    or ``RaisedInWorker``, and the worker is a fresh one after the first three.
    """

    runs_in: ClassVar[Literal["thread"]] = "thread"

    def __init__(self, node: Mapping[str, object], allow: Sequence[str] = (), memory_mib: int = 4096) -> None:
        told = json.dumps([dict(node), list(allow), sys.path])
        self._target, self._memory_mib = node.get("_target_"), memory_mib
        self._worker = Worker(
            _PROGRAM, [told], deadline=START_SECONDS, memory_mib=memory_mib, spare=False, max_reply=_MAX_REPLY,
            trusted=True,
        )  # fmt: skip
        self._built = False
        self.facts = self._build()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        return cast("list[float]", self._do("call", [dict(case) for case in cases], remaining())["scores"])

    def metrics(self) -> dict[str, float]:
        """What the verifier counts; nothing if it counts nothing, or its worker was just killed."""
        if not (self._built and self.facts["metrics"]):
            return {}
        return cast("dict[str, float]", self._do("metrics", seconds=min(remaining(), START_SECONDS))["metrics"])

    def close(self) -> None:
        """End the worker."""
        self._built = False
        self._worker.close()

    def _build(self) -> Reply:
        self._built = True
        try:
            return self._do("build")
        except RaisedInWorker as error:
            self.close()
            raise ConfigError(str(error)) from error
        except OutOfMemory as error:
            limit = f"{self._memory_mib} MiB (runtime.verifier_memory_mib)"
            raise ConfigError(f"{self._target} cannot be built in {limit}: {error}") from error
        except WorkerTimeout as error:
            raise ConfigError(f"{self._target} was not built within {START_SECONDS:g} seconds") from error
        except WorkerError as error:
            raise ConfigError(f"{self._target} ended its worker while it was being built: {error}") from error

    def _restore(self) -> None:
        self._build()

    def _do(self, what: str, content: object = None, seconds: float = START_SECONDS) -> Reply:
        if not self._built:
            self._restore()
        try:
            reply = cast("Reply", self._worker.ask([what, content], min(seconds, _FOREVER)))
        except BaseException:
            self._built = False  # the worker is a fresh one
            raise
        failed = reply.get("failed")
        if failed == "unbuilt":  # it died between two calls, and the worker noticed first
            self._restore()
            return self._do(what, content, seconds)
        if failed == "memory":
            self.close()
            raise OutOfMemory(str(reply["error"]))
        if failed == "wrong_count":
            raise WrongCount(str(reply["error"]))
        if failed is not None:
            error = RaisedInWorker(str(reply["error"]))
            error.add_note(str(reply["traceback"]))
            raise error
        return reply


class Remembering(Isolated):
    """An isolated verifier with state: it survives its own worker, and travels in checkpoints. Raises
    ``VerifierFailed`` where its state cannot be saved or loaded: the run could not be resumed."""

    def __init__(self, node: Mapping[str, object], allow: Sequence[str] = (), memory_mib: int = 4096) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="sparring-state-")
        self._has_kept = False
        self._since: list[list[dict[str, str]]] = []  # the calls since the state was kept
        super().__init__(node, allow, memory_mib)

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        whole = False
        try:
            scores = super().__call__(cases)
            whole = len(scores) == len(cases)
        finally:
            if not whole:  # what a failed call has left in its memory is forgotten: the next call starts a fresh worker
                self.close()
        if whole:
            self._since.append([dict(case) for case in cases])
        return scores

    def save(self, folder: Path) -> None:
        self._move("save", folder)

    def load(self, folder: Path) -> None:
        self._move("load", folder)

    def _move(self, what: str, folder: Path) -> None:
        try:
            self._do(what, str(folder.resolve()))
        except (WorkerError, OutOfMemory, RaisedInWorker) as error:
            raise VerifierFailed(f"{self._target} cannot {what} its state: {error}") from error
        shutil.rmtree(self._kept.name)
        shutil.copytree(folder, self._kept.name)
        self._has_kept = True
        self._since.clear()

    def _restore(self) -> None:
        super()._restore()
        if self._has_kept:
            self._do("load", self._kept.name)
        for cases in self._since:
            self._do("call", cases)
        if self._since and self.facts["metrics"]:
            self._do("metrics")  # what the repeated calls counted has been told before


def isolate(node: Mapping[str, object], allow: Sequence[str] = (), memory_mib: int = 4096) -> Isolated | None:
    """The verifier in a worker; None if it asks (``runs_in``) to be built in this process.

    Raises ``ConfigError``.
    """
    verifier = Isolated(node, allow, memory_mib)
    if verifier.facts["runs_in"] == "worker" and not verifier.facts["state"]:
        return verifier
    verifier.close()
    return Remembering(node, allow, memory_mib) if verifier.facts["runs_in"] == "worker" else None
