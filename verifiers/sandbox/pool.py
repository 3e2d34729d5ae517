"""A few workers, and one loop that keeps them all busy."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from selfplay import deadline
from verifiers.sandbox.backends import Backend
from verifiers.sandbox.run import Run
from verifiers.sandbox.task import Task, begin, plan
from verifiers.sandbox.types import Limits, Program, Result, SandboxError
from verifiers.sandbox.worker import Worker, WorkerLost

_TICK = 0.5  # seconds between two questions for the deadline
_START = 120.0  # seconds for a worker to start; a loaded machine is slow, not broken
_GRACE = 20.0  # seconds past a run's backstop after which its worker counts as lost
_TRIES = 2  # of a program that ends as infra
_FALSE_STARTS = 3

_log = logging.getLogger(__name__)


class Pool:
    """At most ``size`` workers of one back end, started when first needed and shared by the threads that call."""

    def __init__(self, backend: Backend, program: str, size: int, hash_seed: int = 0) -> None:
        self.backend, self.program, self.size, self.hash_seed = backend, program, size, hash_seed
        self._idle: list[Worker] = []
        self._free = size
        self._changed = threading.Condition()
        self._owner = os.getpid()

    def fresh(self) -> Worker:
        return Worker(self.backend.name, self.program, self.backend.prefix(), self.backend.user(), self.hash_seed)

    def run_many(self, programs: Sequence[Program], limits: Limits) -> list[Result]:
        """See ``Sandbox.run_many``."""
        with self._borrowed(len(programs)) as workers:
            return _Loop(self, workers, programs, limits).results() if programs else []

    @contextmanager
    def _borrowed(self, wanted: int) -> Generator[list[Worker]]:
        """All workers that nobody else uses, at least one and no more than ``wanted``; those that live come back."""
        if self._owner != os.getpid():  # a fork: the workers are its parent's, and so may be the lock's holder
            self._idle, self._free, self._changed = [], self.size, threading.Condition()
            self._owner = os.getpid()
        with self._changed:
            while wanted and not self._free:
                deadline.check()
                self._changed.wait(min(_TICK, deadline.remaining()))
            taken = min(self._free, wanted)
            self._free -= taken
            workers = [self._idle.pop() for _ in range(min(taken, len(self._idle)))]
        try:
            while len(workers) < taken:
                workers.append(self.fresh())
            yield workers
        finally:
            with self._changed:
                self._idle += workers
                self._free += taken
                self._changed.notify_all()

    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers at rest; starts one if there is none."""
        with self._borrowed(1) as workers:
            first = [worker.child.pid for worker in workers]
        return tuple(dict.fromkeys([*first, *(worker.child.pid for worker in self._idle)]))

    def close(self) -> None:
        """End the workers that nobody is using."""
        if self._owner == os.getpid():
            with self._changed:
                workers, self._idle = self._idle, []
            for worker in workers:
                worker.kill()


class _Loop:
    """One call of ``run_many``: programs that wait, tasks under way, results."""

    def __init__(self, pool: Pool, workers: list[Worker], programs: Sequence[Program], limits: Limits) -> None:
        self.pool, self.workers, self.programs, self.limits = pool, workers, programs, limits
        self.found: list[Result | None] = [None] * len(programs)
        self.waiting = deque((index, 1) for index in range(len(programs)))
        self.busy: dict[Worker, tuple[int, int, Task, float]] = {}  # index, try, task, when to give it up
        self.started = dict.fromkeys(workers, time.monotonic())
        self.false_starts = 0
        self.number = 0

    def results(self) -> list[Result]:
        try:
            looked = time.monotonic()
            while self.waiting or self.busy:
                deadline.check()
                for worker in list(self.workers):
                    self._guard(worker, self._feed)
                listened = self._poll()
                looked, before = time.monotonic(), looked
                for worker in list(self.workers):
                    self._guard(worker, self._step, looked - before - listened)
        except BaseException:  # a worker in the middle of something is of no use to the next caller
            for worker in [worker for worker in self.workers if worker in self.busy]:
                self._discard(worker)
            raise
        return [result for result in self.found if result is not None]

    def _guard(self, worker: Worker, do: Any, *words: Any) -> None:
        """Do something with a worker; one that is lost is replaced, and its program is tried again."""
        try:
            do(worker, *words)
        except WorkerLost as error:
            if not worker.ready:
                self.false_starts += 1
                if self.false_starts >= _FALSE_STARTS:
                    self._discard(worker)
                    raise SandboxError(f"no worker starts: {error}") from error
            if worker in self.busy:
                index, tries, _, _ = self.busy[worker]
                self._settle(worker, index, tries, Result("infra", detail="the worker was lost"))
            else:
                self._replace(worker)

    def _feed(self, worker: Worker) -> None:
        if worker in self.busy or not self.waiting:
            return
        if not worker.ready:
            if time.monotonic() - self.started[worker] > _START:
                raise WorkerLost(f"it was not ready after {_START:g} s")
            return
        index, tries = self.waiting.popleft()
        task = plan(self.programs[index], self.limits, self.number)
        self.number += 2
        until = time.monotonic() + max(run.limits.backstop for run in task.runs) + _GRACE
        self.busy[worker] = index, tries, task, until
        begin(task, worker)

    def _poll(self) -> float:
        """Wait until there is something to do, and do it; gives the seconds that it was meant to wait, at most."""
        poller = select.poll()
        owners: dict[int, Run] = {}
        for worker in self.workers:
            poller.register(worker, select.POLLIN)
        for _, _, task, _ in self.busy.values():
            for run in task.runs:
                for end in run.reading():
                    poller.register(end, select.POLLIN)
                    owners[end] = run
                for end in run.writing():
                    poller.register(end, select.POLLOUT)
                    owners[end] = run
        patience, began = min(_TICK, deadline.remaining()), time.monotonic()
        events = poller.poll(1000 * patience)
        listened = min(patience, time.monotonic() - began)  # the rest of it, if any, this process was stopped
        for end, event in events:
            if (run := owners.get(end)) is not None:
                try:
                    (run.write if event & (select.POLLOUT | select.POLLERR) and end in run.writing() else run.read)()
                except WorkerLost:
                    continue  # it is found again, with its worker, at the next step
        return listened

    def _step(self, worker: Worker, away: float) -> None:
        """Hear what it reports; ``away`` are the seconds that its programs were left alone before."""
        reports = worker.hear()
        if worker not in self.busy:
            return
        index, tries, task, until = self.busy[worker]
        for report in reports:
            for run in task.runs:
                if run.number == report["run"]:
                    run.read()  # all that it wrote is in the pipes by now
                    run.report = report
        for run in task.runs:
            run.away(away)
        task.step()
        if all(run.report is not None for run in task.runs):
            self._settle(worker, index, tries, task.result())
        elif time.monotonic() > until:
            raise WorkerLost("it did not end a run in time")

    def _settle(self, worker: Worker, index: int, tries: int, result: Result) -> None:
        for run in self.busy.pop(worker)[2].runs:
            run.close()
        if result.outcome != "infra":
            self.found[index] = result
            return
        if tail := worker.tail():
            _log.warning("%s; the worker's log ends with:\n%s", result.detail, tail)
        self._replace(worker)
        if tries < _TRIES:
            self.waiting.append((index, tries + 1))
        else:
            self.found[index] = result

    def _replace(self, worker: Worker) -> None:
        self._discard(worker)
        fresh = self.pool.fresh()
        self.workers.append(fresh)
        self.started[fresh] = time.monotonic()

    def _discard(self, worker: Worker) -> None:
        if worker in self.busy:
            for run in self.busy.pop(worker)[2].runs:
                run.close()
        self.workers.remove(worker)
        worker.kill()
