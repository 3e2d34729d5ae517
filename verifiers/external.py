"""Any command-line program as a verifier: a case goes in as JSON on stdin, the last line of stdout is its score.

The program is the user's and trusted; the case is not, and so it is data on stdin and never a word of a command line or
of a shell. What goes wrong with the program is nan and counted. The protocol is in ``docs/external.md``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import ClassVar, Literal, cast

from selfplay.deadline import check
from selfplay.types import Case
from verifiers.run_program import ProgramFailed, Programs

log = logging.getLogger(__name__)

ENV = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""What a program sees of the environment besides what ``env`` names; keys and tokens are not among it."""

KINDS = ("timeouts", "bad_exit", "no_score", "flooded")
"""How a program fails, as it is counted."""


class External:
    """The score that ``command`` prints for a case: a number, or nan where it prints ``null`` ("cannot tell").

    ``command`` is a list of words, or a line that is split as a shell would split it; no shell is run. ``{python}`` is
    this interpreter, and a first word that ends in ``.py`` is run by it. The program gets the case as one JSON object
    on a line of stdin and has ``timeout`` seconds. With ``batch`` one program gets all cases of a call, a line each,
    has ``timeout`` seconds for each, and prints as many lines. What it started is killed when it ends or is late.

    ``memory_mib`` bounds each process's private memory; ``env`` names variables that it may see besides ``ENV``;
    ``cwd`` is its working directory, by default ours; ``parallel`` programs run at once, by default one for each core.
    Equal cases are judged once, unless ``batch``. The score's range is the program's own. Raises ``ValueError`` where
    the settings make no sense and ``FileNotFoundError`` where there is no such program.
    """

    runs_in: ClassVar[Literal["thread"]] = "thread"  # the programs are killed at the deadline

    def __init__(
        self,
        command: str | Sequence[str],
        timeout: float = 10.0,
        batch: bool = False,
        memory_mib: int = 4096,
        env: Sequence[str] | None = None,
        cwd: str | None = None,
        parallel: int | None = None,
    ) -> None:
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
        if memory_mib < 1 or (parallel is not None and parallel < 1):
            raise ValueError(f"memory_mib={memory_mib} and parallel={parallel} must be at least 1")
        self.command = _words(command, cwd)
        self.timeout, self.batch = timeout, batch
        self.parallel = parallel or os.cpu_count() or 1
        seen = {name: os.environ[name] for name in (*ENV, *(env or ())) if name in os.environ}
        self._programs = Programs(self.command, env=seen, cwd=cwd, memory_mib=memory_mib)
        self._counts: Counter[str] = Counter()
        self._logged: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        lines = [json.dumps(dict(case), sort_keys=True) for case in cases]  # ASCII: any text survives
        if self.batch:
            return self._judge(lines)
        with ThreadPoolExecutor(self.parallel) as pool:
            jobs = {line: pool.submit(copy_context().run, self._judge, [line]) for line in dict.fromkeys(lines)}
            try:
                return [jobs[line].result()[0] for line in lines]
            except BaseException:  # the deadline, or an interrupt: nobody listens to what still runs
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def metrics(self) -> dict[str, float]:
        """Since the last call: ``programs`` that ran, cases that they could not tell (``cannot_tell``), and failures:
        ``timeouts``, ``bad_exit`` (a status other than 0), ``no_score`` (no number in its place), ``flooded``."""
        with self._lock:
            counts = {name: float(self._counts[name]) for name in ("programs", "cannot_tell", *KINDS)}
            self._counts.clear()
        return counts

    def close(self) -> None:
        """Kill what runs."""
        self._programs.kill()

    def _judge(self, lines: Sequence[str]) -> list[float]:
        """One program for one line, or for all lines of a batch."""
        if not lines:
            return []
        check()
        with self._lock:
            self._counts["programs"] += 1
        try:
            told = "".join(f"{line}\n" for line in lines).encode()
            scores = _scores(self._programs.run(told, self.timeout * len(lines)), len(lines))
        except ProgramFailed as failure:
            check()  # killed because the panel's time is up, and not the program's
            self._failed(failure)
            return [math.nan] * len(lines)
        with self._lock:
            self._counts["cannot_tell"] += sum(score != score for score in scores)
        return scores

    def _failed(self, failure: ProgramFailed) -> None:
        with self._lock:
            self._counts[failure.kind] += 1
            first = failure.kind not in self._logged
            self._logged.add(failure.kind)
        if first:
            tail = "".join(c if c.isprintable() or c == "\n" else "?" for c in failure.stderr.decode(errors="replace"))
            ending = f"; its stderr ends with:\n{tail.strip()}" if tail.strip() else ""
            log.error("%s %s, so its score is nan%s", shlex.join(self.command), failure, ending)


def _words(command: str | Sequence[str], cwd: str | None) -> list[str]:
    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    if not words:
        raise ValueError("verifier.command is empty: name a program, as verifier.command=verifiers/programs/proves.py")
    if words[0].endswith(".py"):
        words = [sys.executable, *words]
    words = [word.replace("{python}", sys.executable) for word in words]
    for number, word in enumerate(words[:2]):
        script = number == 1 and words[0] == sys.executable and word.endswith(".py")
        found = (Path(cwd or ".") / word).is_file() if script or os.sep in word else shutil.which(word)
        if not found and (number == 0 or script):
            raise FileNotFoundError(f"verifier.command: there is no program {word!r}" + (f" in {cwd}" if cwd else ""))
    return words


def _scores(stdout: bytes, number: int) -> list[float]:
    """The last ``number`` lines of what a program printed, blank ones left out, as scores. Raises ``ProgramFailed``."""
    lines = [line for line in stdout.decode(errors="replace").splitlines() if line.strip()][-number:]
    if len(lines) < number:
        raise ProgramFailed("no_score", f"printed {len(lines)} lines for {number} cases")
    return [_score(line) for line in lines]


def _score(line: str) -> float:
    """A number, ``{"score": <number>}``, or null or NaN for "cannot tell". Raises ``ProgramFailed``."""
    try:
        value: object = json.loads(line)
        if isinstance(value, dict):
            value = cast("dict[str, object]", value)["score"]
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value):
            return float(value)
    except (ValueError, KeyError, OverflowError, RecursionError):
        pass
    raise ProgramFailed("no_score", f"printed {line[:80]!r} where its score is due")
