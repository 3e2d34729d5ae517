"""The scorers of the library reasoning_gym, each question's own, in a killable worker."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, cast

from selfplay.deadline import check, remaining
from verifiers.worker import Worker, WorkerDied, WorkerTimeout

CANNOT_TELL = float("nan")
_PROGRAM = Path(__file__).resolve().parent / "reasoning_gym_program.py"
_COUNTERS = ("timeouts", "worker_deaths", "unread_references", "broken_scorers")


class ReasoningGym:
    """Score an answer by the scorer of the task that the question is from: 1 right, 0 wrong, some in between.

    The reference is what ``agents.reasoning_gym`` seals. What stands last between ``<tag>`` and ``</tag>`` is the
    answer, else all that was said, without the blanks around it. nan without a reference that can be read, past
    ``deadline`` seconds for a case and where the worker dies, for instance of more than ``memory_mib`` MiB; an answer
    over which the library's scorer breaks scores 0 and is counted. Equal cases of a call are decided, and counted,
    once. Several threads may call.

    Some of these scorers evaluate the answer as Python. The worker does so in a process of its own for each case, which
    the kernel keeps from starting others, opening connections and writing files (seccomp).

    Raises ``ModuleNotFoundError`` without the library, ``WorkerStartError`` if the worker cannot start or be shut in.
    """

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"

    def __init__(self, tag: str | None = "answer", deadline: float = 10.0, memory_mib: int = 4096) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            hint = 'pip install -c constraints.txt ".[reasoning_gym]"'
            raise ModuleNotFoundError(f"verifier=reasoning_gym needs a package: {hint}")
        name = re.escape(tag or "")
        self._tag = re.compile(f"<{name}>((?:(?!<{name}>).)*?)</{name}>", re.DOTALL) if tag else None
        self._worker = Worker(_PROGRAM, deadline=deadline, memory_mib=memory_mib)
        self._counts = Counter[str]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        decided: dict[tuple[str, str], float] = {}
        for case in cases:
            check()
            key = self._final(case["answer"]), case["reference"]
            if key not in decided:
                decided[key] = self._score(*key)
        return [decided[self._final(case["answer"]), case["reference"]] for case in cases]

    def metrics(self) -> dict[str, float]:
        """Counts since the last call: ``timeouts``, ``worker_deaths``, ``unread_references`` (all nan), and
        ``broken_scorers`` (0)."""
        counts = {name: float(self._counts[name]) for name in _COUNTERS}
        self._counts.clear()
        return counts

    def close(self) -> None:
        """End the worker now, rather than at garbage collection."""
        self._worker.close()

    def _final(self, answer: str) -> str:
        found = self._tag.findall(answer) if self._tag else []
        return (found[-1] if found else answer).strip()

    def _score(self, answer: str, reference: str) -> float:
        if not reference.strip():
            return CANNOT_TELL
        if not answer:
            return 0.0  # some scorers have a little for whoever says nothing
        try:
            reply = self._worker.ask([reference, answer], min(self._worker.deadline, remaining()))
        except WorkerTimeout:
            check()  # the caller's deadline, rather than ours
            self._counts["timeouts"] += 1
            return CANNOT_TELL
        except WorkerDied:
            self._counts["worker_deaths"] += 1
            return CANNOT_TELL
        if isinstance(reply, str):
            self._counts[reply] += 1
            return 0.0 if reply == "broken_scorers" else CANNOT_TELL
        return min(max(float(cast("float", reply)), 0.0), 1.0)
