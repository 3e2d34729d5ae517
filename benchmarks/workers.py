"""A side of a comparison in a process of its own: threads, instruction sets and memory are its own, turns are taken.

The parent starts every side, then asks them one after the other for a step; who is not asked waits for a line and
costs nothing. A side is a module that is run with ``--worker '<JSON>'`` and calls ``serve``.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any

from benchmarks.report import ISA


class WorkerError(RuntimeError):
    """A side that ended, or that took longer than it was given."""


class Worker:
    """The parent's end of one side, which starts at once: several sides get ready beside each other."""

    def __init__(
        self,
        module: str,
        settings: Mapping[str, Any],
        *,
        threads: int,
        isa: str | None = None,
        python: str = sys.executable,
        timeout: float = 3600.0,
    ) -> None:
        self.name, self._timeout = f"{module} {settings.get('side', '')}".strip(), timeout
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment |= ISA[isa] if isa else {}
        self._process = subprocess.Popen(
            [python, "-m", module, "--worker", json.dumps({**settings, "threads": threads})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the side told about itself when it was ready; waits for that."""
        return self._read()

    def step(self, request: Mapping[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        """Let the side do one step, and return what it measured; ``request`` says which, where there are several.
        ``timeout`` in seconds, if it is not the side's."""
        assert self.facts is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request or {}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"{self.name} ended with status {self._process.wait()}") from error
        return self._read(timeout)

    def _read(self, timeout: float | None = None) -> dict[str, Any]:
        """One line; the pipe is read raw, because ``select`` does not see what a buffer holds."""
        assert self._process.stdout is not None
        limit = self._timeout if timeout is None else timeout
        pipe, line, end = self._process.stdout.fileno(), b"", time.monotonic() + limit
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                self._process.kill()
                self._process.wait()
                raise WorkerError(f"{self.name} took more than its {self._timeout:.0f} s")
            part = os.read(pipe, 65_536)
            if not part:
                raise WorkerError(f"{self.name} ended with status {self._process.wait()}")
            line += part
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the side: it stops at the end of its input, or is stopped."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        with suppress(BrokenPipeError):  # it is gone already
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Channel:
    """The side's end. What libraries print goes to the error stream: the standard one carries the answers."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def tell(self, **facts: Any) -> None:
        """Ready, or the figures of a step."""
        self._out.write(json.dumps(facts) + "\n")
        self._out.flush()

    def wait(self) -> dict[str, Any] | None:
        """The next request, ``None`` when there is none any more."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def serve(self, step: Callable[..., dict[str, Any]], **facts: Any) -> None:
        """Be ready, then answer every request by one ``step``, which takes the request's entries as its arguments."""
        self.tell(**facts)
        while (request := self.wait()) is not None:
            self.tell(**step(**request))
