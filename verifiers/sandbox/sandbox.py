"""``Sandbox``: what users of this package hold in their hands."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from typing import Any, Self

from verifiers.sandbox.pool import Pool
from verifiers.sandbox.probing import choose
from verifiers.sandbox.types import Limits, Program, Result
from verifiers.sandbox.zygote import PROGRAMS

_log = logging.getLogger(__name__)


class Sandbox:
    """Runs programs that strangers wrote. ``backend``: "auto" takes the strongest that holds here, or one by name.

    ``workers`` processes (by default one for each core that this process may use) are started when first needed. Any
    thread may call; calls share the workers. ``program`` names the language (``zygote.PROGRAMS``). ``hash_seed`` is
    that of Python's texts: the order of a set of texts is the same in every run, and another with another seed. Raises
    ``SandboxUnavailable`` where no back end holds. A call raises ``SandboxError`` where workers do not start, and
    ``DeadlinePassed`` under a ``selfplay.deadline`` that passes.
    """

    def __init__(
        self,
        backend: str = "auto",
        workers: int | None = None,
        limits: Limits | None = None,
        program: str = "python",
        hash_seed: int = 0,
    ) -> None:
        if program not in PROGRAMS:
            raise ValueError(f"program={program!r} is unknown: {', '.join(PROGRAMS)}")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        chosen = choose(backend)
        self.backend = chosen.name
        if self.backend == "unsafe_local":
            _log.warning("unsafe_local: programs that a model wrote run as you, with your files and your network")
        self.workers = workers or len(os.sched_getaffinity(0))
        self.limits = limits or Limits()
        self._pool = Pool(chosen, program, self.workers, hash_seed)
        self._finalizer = weakref.finalize(self, self._pool.close)

    def run(
        self,
        source: str,
        function: str | None = None,
        inputs: Sequence[Any] = (),
        *,
        tests: str | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """What becomes of one program; see ``Program`` and ``Result``."""
        return self.run_many([Program(source, function, tuple(inputs), tests, limits)])[0]

    def run_many(self, programs: Sequence[Program]) -> list[Result]:
        """What becomes of each, in order. ``infra`` is tried once more, by a fresh worker."""
        return self._pool.run_many(programs, self.limits)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers at rest."""
        return self._pool.pids()

    def close(self) -> None:
        """End the workers. A later call starts new ones."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
