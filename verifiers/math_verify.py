"""Hugging Face's math-verify, an optional neighbour of ``SympySolver`` in the same kind of killable worker."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from selfplay.deadline import check, remaining
from verifiers.worker import Worker, WorkerDied, WorkerTimeout

CANNOT_TELL = float("nan")
_PROGRAM = Path(__file__).resolve().parent / "maths" / "neighbour.py"
_COUNTERS = ("timeouts", "worker_deaths", "unread_references")


class MathVerify:
    """Score 1.0 where math-verify finds the answer equal to the reference, 0.0 where it does not.

    nan without a reference, for a reference that math-verify cannot read, past ``deadline`` seconds per case and where
    the worker dies, for instance of more than ``memory_mib`` MiB. math-verify's own time-outs, which need the signals
    of a main thread, are off: the worker is killed instead. Its verdicts are its own; docs/maths.md compares them with
    ours. Equal cases of a call are decided, and counted, once. Several threads may call.

    Raises ``ModuleNotFoundError`` without the package, ``WorkerStartError`` if the worker cannot start.
    """

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"

    def __init__(self, deadline: float = 2.0, memory_mib: int = 1024) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ModuleNotFoundError('verifier=math_verify needs a package: pip install "math-verify[antlr4_9_3]"')
        self._worker = Worker(_PROGRAM, deadline=deadline, memory_mib=memory_mib)
        self._counts = Counter[str]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        decided: dict[tuple[str, str], float] = {}
        for case in cases:
            check()
            key = case["answer"], case["reference"]
            if key not in decided:
                decided[key] = self._score(*key)
        return [decided[case["answer"], case["reference"]] for case in cases]

    def metrics(self) -> dict[str, float]:
        """Counts since the last call: ``timeouts``, ``worker_deaths``, ``unread_references`` (all nan)."""
        counts = {name: float(self._counts[name]) for name in _COUNTERS}
        self._counts.clear()
        return counts

    def close(self) -> None:
        """End the worker now, rather than at garbage collection."""
        self._worker.close()

    def _score(self, answer: str, reference: str) -> float:
        if not reference.strip():
            return CANNOT_TELL
        if not answer.strip():
            return 0.0
        try:
            reply = self._worker.ask([reference, answer], min(self._worker.deadline, remaining()))
        except WorkerTimeout:
            check()  # the caller's deadline, rather than ours
            self._counts["timeouts"] += 1
            return CANNOT_TELL
        except WorkerDied:
            self._counts["worker_deaths"] += 1
            return CANNOT_TELL
        if reply is None:
            self._counts["unread_references"] += 1
            return CANNOT_TELL
        return float(reply is True)
