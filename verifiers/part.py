"""One named verifier of a panel: its calls under a deadline, and what became of them.

Nothing that a verifier does reaches the run: an exception, a wrong number of scores, a score that is no number, memory
that runs out, a process that dies or a deadline that passes is nan for the cases and a count under its own name.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextvars import copy_context
from statistics import fmean, pstdev
from typing import cast

from selfplay.deadline import DeadlinePassed, backstop, deadline
from selfplay.types import Case, Verifier
from verifiers.worker import WorkerDied, WorkerTimeout

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds past the deadline after which a call that does not notice it is interrupted (main thread) or given up."""

Job = Callable[[], list[float]]
"""A call under way: waits for the scores."""


class VerifierFailed(RuntimeError):
    """A verifier that failed step after step: going on would train on nothing."""


class WrongCount(ValueError):
    """Not one score for each case."""


class OutOfMemory(RuntimeError):
    """The verifier's worker asked for more memory than it may have."""


class RaisedInWorker(RuntimeError):
    """What a verifier raised in its own process, as text; the traceback is a note."""


class Part:
    """A verifier with a name, counters, and a bound on how long it may go on failing."""

    def __init__(self, name: str, verifier: Verifier, max_failed_steps: int) -> None:
        if not callable(verifier):
            raise TypeError(f"verifier {name!r} is a {type(verifier).__name__}, which cannot be called on cases")
        self.name, self.verifier, self.max_failed_steps = name, verifier, max_failed_steps
        self._apart = getattr(verifier, "runs_in", "main") == "thread"
        self._latest: threading.Thread | None = None  # the last call in a thread
        self._lost: threading.Thread | None = None  # one that was given up and still runs
        self._seconds = math.inf  # the latest call's deadline, which holds for the metrics too
        self._failed_in_a_row = 0
        self._counts: Counter[str] = Counter()
        self._scores: list[float] = []
        self._calls = self._failures = 0  # of the whole run, as what follows
        self._scored = False
        self._why = ""

    def start(self, cases: Sequence[Case], seconds: float) -> Job:
        """Begin to judge ``cases``, beside others if the verifier can; the job waits for the scores and may raise
        ``VerifierFailed``. A verifier of this process's main thread is called when the job is asked. Calls of one
        verifier follow each other in order, and jobs are to be asked in that order."""
        self._seconds = seconds
        if not cases:
            return lambda: []
        found: list[list[object] | Exception] = []
        if not self._apart:

            def here() -> list[float]:
                self._call(cases, seconds, found, interrupt=True)
                return self._finish(len(cases), found)

            return here
        if self._lost is not None and self._lost.is_alive():
            found.append(DeadlinePassed("an earlier call, given up at its deadline, still runs"))
            return lambda: self._finish(len(cases), found)
        context, before = copy_context(), self._latest

        def call() -> None:
            if before is not None:
                before.join()
            context.run(self._call, cases, seconds, found)

        # A daemon: a call that never ends must not keep the interpreter from ending.
        self._latest = thread = threading.Thread(target=call, name=f"verifier-{self.name}", daemon=True)
        thread.start()

        def joined() -> list[float]:
            thread.join(min(seconds + GRACE, threading.TIMEOUT_MAX))
            if not found:
                self._lost = thread
            return self._finish(len(cases), found or [DeadlinePassed("the call did not end at its deadline")])

        return joined

    def skipped(self, number: int) -> None:
        """Count cases that an earlier gate kept from this verifier."""
        if number:
            self._counts["not_called"] += number

    def warning(self) -> str:
        """A sentence for a verifier that was called and gave no score since it was made; "" for any other. The bound
        on failures in a row says nothing of a run that is shorter."""
        if self._scored or not self._calls:
            return ""
        failed = f" and failed in {self._failures} of them, at last with {self._why}" if self._failures else ""
        return (
            f"verifier {self.name!r} gave no score in this run: it was called {self._calls} "
            f"{'time' if self._calls == 1 else 'times'}{failed}; every case was nan, and nothing was learned from it"
        )

    def metrics(self) -> dict[str, float]:
        """Since the last call: mean and spread of the scores, share of nan, counts, and the verifier's own metrics."""
        metrics: dict[str, float] = {}
        known = [score for score in self._scores if score == score]
        if known:
            metrics[f"rewards/{self.name}/mean"] = fmean(known)
            metrics[f"rewards/{self.name}/std"] = pstdev(known)
        if self._scores:
            metrics[f"verifiers/{self.name}/nan_share"] = 1 - len(known) / len(self._scores)
        own = getattr(self.verifier, "metrics", None)
        if own is not None:
            try:
                with deadline(self._seconds), backstop(self._seconds + GRACE):
                    metrics |= {f"verifiers/{self.name}/{name}": float(value) for name, value in own().items()}
            except Exception as error:  # its scores stand; only its counters are lost
                self._counts["metrics_failed"] += 1
                log.error("verifier %r has no metrics for this step", self.name, exc_info=error)
        metrics |= {f"verifiers/{self.name}/{kind}": float(count) for kind, count in self._counts.items()}
        self._scores = []
        self._counts.clear()
        return metrics

    def _call(
        self, cases: Sequence[Case], seconds: float, found: list[list[object] | Exception], interrupt: bool = False
    ) -> None:
        shown = [dict(case) for case in cases]  # a verifier that writes into its cases must not change the episode
        try:
            with deadline(seconds), backstop(seconds + GRACE if interrupt else math.inf):
                scores = listed(self.verifier(shown))
            if len(scores) != len(cases):
                raise WrongCount(f"{len(scores)} scores for {len(cases)} cases")
            found.append(scores)
        except Exception as error:  # whatever a user's code raises is its failure and never a score
            found.append(error)

    def _finish(self, number: int, found: Sequence[list[object] | Exception]) -> list[float]:
        result = found[0]
        self._calls += 1
        if isinstance(result, Exception):
            self._failed(result)
            scores = [math.nan] * number
        else:
            self._failed_in_a_row = 0
            scores = [self._number(score) for score in result]
            self._scored = self._scored or any(score == score for score in scores)
        self._scores += scores
        return scores

    def _failed(self, error: Exception) -> None:
        self._counts[_kind(error)] += 1
        self._failures += 1
        self._failed_in_a_row += 1
        self._why = str(error) if isinstance(error, RaisedInWorker) else f"{type(error).__name__}: {error}"
        if self._failed_in_a_row == 1:
            log.error("verifier %r failed; its scores are nan", self.name, exc_info=error)
        if self._failed_in_a_row >= self.max_failed_steps:
            often = f"failed {self.max_failed_steps} times in a row"
            raise VerifierFailed(f"verifier {self.name!r} {often}: {self._why}") from error

    def _number(self, score: object) -> float:
        """The score as a finite float; text, None and infinities are nan and counted."""
        try:
            value = math.inf if isinstance(score, (str, bytes)) else float(score)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last for a tensor of several numbers
            value = math.inf
        if math.isinf(value):
            self._counts["not_a_number"] += 1
            return math.nan
        return value


def listed(scores: object) -> list[object]:
    """What a verifier gave, if it can be gone through in order: its promise is no fact. The keys of a mapping, the
    members of a set and the bytes of a string would pass for scores. Raises ``WrongCount``."""
    kind = type(scores).__name__
    if not isinstance(scores, Iterable) or isinstance(scores, (Mapping, Set, str, bytes, bytearray)):
        raise WrongCount(f"{kind} instead of a list of scores")
    return list(cast("Iterable[object]", scores))


def _kind(error: Exception) -> str:
    """The name under which a failed call is counted."""
    if isinstance(error, DeadlinePassed | WorkerTimeout):
        return "timeouts"
    if isinstance(error, OutOfMemory | MemoryError):
        return "memory"
    if isinstance(error, WorkerDied):
        return "died"
    return "wrong_count" if isinstance(error, WrongCount) else "raised"
