"""One jailed process as the trainer sees it: what goes in, what comes out, and what may be made of it.

Nothing here trusts the other end: every stream is bounded and read without blocking, and a line is what ``typed`` and
the shapes below accept, or it is the program's fault.
"""

from __future__ import annotations

import json
import os
import weakref
from typing import Any, cast

from verifiers.sandbox import typed
from verifiers.sandbox.types import Limits, Result
from verifiers.sandbox.worker import Report, Worker

_CHUNK = 65_536
_TALK = 65_536  # bytes that lines may have besides the values
_LATE = 0.025  # seconds that a busy trainer may need before it sees that it is wanted; not those of a program's sleep
_EXCUSED = 0.5  # seconds that come together before the worker is told


class Run:
    """A request under way. ``values`` and ``asked`` fill as lines arrive; ``report`` is there when it is over."""

    def __init__(
        self, number: int, request: dict[str, Any], stdin: bytes, limits: Limits, beside: int | None = None
    ) -> None:
        self.number, self.limits = number, limits
        self.beside = number if beside is None else beside  # a run that works for it while it waits
        body = json.dumps(request | {"value_bytes": limits.value_bytes}).encode()
        self.mode: str = request["mode"]
        self.talks = self.mode in ("session", "tests")
        self.most = 1 if self.mode == "session" else len(request["inputs"])  # values at a time
        self.pending = memoryview(b"%d\n%s%s" % (len(body), body, stdin))
        self.answers = bytearray()
        self.ready = self.compiled = self.done = False
        self.values: list[Any] = []
        self.asked: list[str] = []
        self.raised: list[list[str]] = []
        self.error: tuple[str, str] | None = None
        self.fault: tuple[str, str] | None = None  # found by us: outcome and detail
        self.report: Report | None = None
        self.stdout = bytearray()
        self._lines = bytearray()
        self._told = 0
        self.ends = [-1] * 4  # ours of the pipes: request and stdin, stdout, lines, answers
        self._away = self._excused = 0.0  # seconds that it was left alone; those of them that the worker was told

    def start(self, worker: Worker) -> None:
        """Make the pipes and hand the far ends over. Raises ``WorkerLost``."""
        self.worker = worker
        _ALL.add(self)
        far: list[int] = []
        try:
            for place in range(4 if self.talks else 3):
                pair = os.pipe()
                inward = place in (0, 3)
                self.ends[place] = pair[inward]
                far.append(pair[not inward])
                os.set_blocking(self.ends[place], False)
            worker.start(self.number, self.limits, far, self.beside)
        finally:
            for end in far:
                os.close(end)

    def away(self, seconds: float) -> None:
        """For so long the trainer, busy or stopped, neither fed it nor read what it said. Raises ``WorkerLost``."""
        self._away += seconds
        if self._away - self._excused > _EXCUSED and self.report is None:
            self.worker.excuse(self.number, self._away - self._excused)
            self._excused = self._away

    def reading(self) -> list[int]:
        return [end for end in self.ends[1:3] if end >= 0]

    def writing(self) -> list[int]:
        wanted = self.ends[:1] if self.pending else []
        return [end for end in wanted + (self.ends[3:] if self.answers else []) if end >= 0]

    def write(self) -> None:
        """Write what fits; a program need not read, and may have gone."""
        if self.pending and self.ends[0] >= 0:
            try:
                fed = os.write(self.ends[0], self.pending[:_CHUNK])
                self.pending = self.pending[fed:]
                self._away += _LATE * fed / _CHUNK
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self.pending = self.pending[:0]
        if not self.pending:
            self._shut(0)
        if self.answers and self.talks and self.ends[3] >= 0:
            try:
                del self.answers[: os.write(self.ends[3], self.answers[:_CHUNK])]
                self._away += 2 * _LATE  # it was heard, and is answered
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self.answers.clear()
                self._shut(3)

    def read(self) -> None:
        """Take what is there, up to the bounds; past one of them the run is at fault."""
        for place in (1, 2):
            while self.ends[place] >= 0 and self.fault is None:
                try:
                    part = os.read(self.ends[place], _CHUNK)
                except BlockingIOError:
                    break
                if not part:
                    self._shut(place)
                elif place == 1:
                    self.stdout += part[: self.limits.output_bytes + 1 - len(self.stdout)]
                    if len(self.stdout) > self.limits.output_bytes:
                        self.blame("output_limit", f"more than {self.limits.output_bytes} bytes on stdout")
                else:
                    self._take(part)

    def blame(self, outcome: str, detail: str) -> None:
        """The program is at fault, and need not go on."""
        if self.fault is None:
            self.fault = outcome, detail
            if self.report is None:
                self.worker.stop(self.number)

    def answer(self, line: str) -> None:
        self.answers += line.encode() + b"\n"

    def hang_up(self) -> None:
        """No more calls will come."""
        self._shut(3)

    def close(self) -> None:
        for place in range(len(self.ends)):
            self._shut(place)

    def _shut(self, place: int) -> None:
        if len(self.ends) > place and self.ends[place] >= 0:
            os.close(self.ends[place])
            self.ends[place] = -1

    def _take(self, part: bytes) -> None:
        self._told += len(part)
        if self._told > self.limits.value_bytes + _TALK:
            self.blame("output_limit", f"more than {self.limits.value_bytes} bytes of values")
            return
        self._lines += part  # in place: a line that comes byte by byte is not to cost its length each time
        if b"\n" not in part:
            return
        *lines, self._lines = self._lines.split(b"\n")
        for line in lines:
            if self.fault is None:
                self._line(bytes(line))

    def _line(self, line: bytes) -> None:
        kind, _, text = line.decode("ascii", errors="replace").partition(" ")
        if kind == "r" and not self.ready:
            self.ready = True
        elif kind == "c" and self.ready and not self.compiled:
            self.compiled = True
        elif kind == "d" and not self.done:
            self.done = True
        elif kind == "v" and not self.done and len(self.values) < self.most:
            try:
                self.values.append(typed.decode(text))
            except typed.IllegalValue as error:
                self.blame("crash", f"an illegal value: {error}")
        elif kind == "q" and self.mode == "tests" and not self.asked:
            self.asked.append(text)
        elif kind == "e" and self.error is None and (pair := _pair(text)):
            self.error = pair
        elif kind == "x" and self.mode == "session" and not self.raised and (pair := _pair(text)):
            self.raised.append(list(pair))
        else:
            self.blame("crash", "it wrote to the channel that carries its values")

    def result(self, expected: int | None) -> Result:
        """What became of it. ``expected``: how many values there have to be; None for a script."""
        report = self.report
        if report is None:
            return Result("infra", detail="the worker did not say how it ended")
        outcome, detail = self._outcome(report, expected)
        values = tuple(self.values) if outcome == "pass" and expected is not None else ()
        return Result(
            outcome, values, self.stdout.decode(errors="replace"), report["cpu"], report["memory"], _plain(detail)
        )

    def _outcome(self, report: Report, expected: int | None) -> tuple[str, str]:
        status, cpu, why = report["status"], f"{self.limits.cpu_s:g} s of CPU time", report["why"]
        if self.fault is not None:
            return self.fault
        if why == "cpu" or status == -24 or (status == -9 and report["cpu"] >= self.limits.cpu_s):
            return "timeout_cpu", f"more than {cpu}"
        if why == "slept":
            idle, away = min(self.limits.idle, self.limits.backstop), self._away - report["excused"]
            if away > idle / 4:  # it may have waited for us, and the worker did not know
                return "infra", f"the trainer was away for {away:.1f} s"
            return "timeout_cpu", f"it slept for {idle:g} s"
        if why == "threads":
            return "crash", f"more than {self.limits.threads} threads"
        if why == "wall":
            return "infra", f"no end after {self.limits.backstop:g} s, and the machine did not give it {cpu}"
        if not self.ready or status == -9:
            return "infra", "the jail could not be set up" if not self.ready else "something else killed it"
        if self.error is not None:
            kind, text = self.error
            known = ("crash", "memory", "output_limit", "rejected", "wrong")
            return (kind if kind in known else "crash"), text
        if not self.compiled:
            return "rejected", f"the compiler ended with {_ending(status)}"
        if status < 0:
            return "crash", f"killed by {_ending(status)}"
        if expected is None:
            return ("pass", "") if status == 0 else ("crash", f"ended with {_ending(status)}")
        if not self.done or len(self.values) != expected:
            return "crash", f"ended with {len(self.values)} of {expected} values"
        return "pass", ""


_ALL: weakref.WeakSet[Run] = weakref.WeakSet()


def _forked() -> None:
    """In a fork: a program reads the end of its stdin only when nobody else holds the pipe open."""
    for run in list(_ALL):
        run.close()


os.register_at_fork(after_in_child=_forked)


def _pair(text: str) -> tuple[str, str] | None:
    try:
        found = typed.decode(text)
    except typed.IllegalValue:
        return None
    parts = cast("list[object]", found) if isinstance(found, list) else []
    if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], str):
        return parts[0], parts[1]
    return None


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:500]).strip()
