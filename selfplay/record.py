"""The record of a run: what happened, step by step, in files that any tool can read.

::

    runs/x/metrics.jsonl    one object per step: {"step": 7, "reward/solver": 0.5, ...}
           episodes.jsonl   one episode per line: turns, case, verdict, returns
           gate.jsonl       one decision of the data gate per line, where there is a gate
           timings.jsonl    seconds per phase, tokens per second, share of the roofline (``metrics.timings``)
           tensorboard/     the same numbers as event files
           summary.json     written once, at the end

Metrics and episodes are free of the clock: the same seed gives the same bytes. JSON has no nan and no infinity, so both
are written as ``null``. Text is written as ASCII escapes: what a model wrote cannot break a line or steer a terminal.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from selfplay.checkpoint import sync
from selfplay.types import Episode, Turn

ROOFLINE = "roofline/"  # + a phase: the share of the machine's limit that it reached


class RecordError(RuntimeError):
    """The record of a run cannot be written or read."""


def log_files(folder: Path, *, gated: bool = False) -> tuple[Path, ...]:
    """The append-only logs of a run: what happened in numbers, in words, in seconds, and at the gate if it has one."""
    names = ("metrics", "episodes", "timings", *(["gate"] if gated else []))
    return tuple(folder / f"{name}.jsonl" for name in names)


class Recorder:
    """Append to the record in ``folder``, which is made if need be; a resumed run goes on where its logs were cut.

    ``gated`` keeps the log of a data gate, too. ``episodes_every=n`` records the episodes of every n-th step only.
    Raises ``RecordError`` for a folder that cannot be written and for a log that ends within a line, as after a kill:
    ``checkpoint.cut_logs`` comes first then.
    """

    def __init__(self, folder: Path, tensorboard: bool = True, gated: bool = False, *, episodes_every: int = 1) -> None:
        if episodes_every < 1:
            raise RecordError(f"episodes_every must be at least 1, not {episodes_every}.")
        self.folder = folder
        self.logs = log_files(folder, gated=gated)
        self._episodes_every = episodes_every
        with _told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._files = [_open_log(log) for log in self.logs]
            self._board = _Board(folder / "tensorboard") if tensorboard else None

    def step(
        self,
        step: int,
        metrics: Mapping[str, float],
        episodes: Sequence[Episode],
        timings: Mapping[str, float],
        decisions: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Record one step; when this returns, the lines have left the process and a checkpoint may measure the logs."""
        lines: list[list[str]] = [[_line({"step": step, **_numbers(metrics)})]] + [[] for _ in self._files[1:]]
        if step % self._episodes_every == 0:
            lines[1] = [_line(_episode(step, index, episode)) for index, episode in enumerate(episodes)]
        lines[2] = [_line({"step": step, **_numbers(timings)})]
        if decisions:
            lines[3] = [_line({"step": step, **{name: _plain(row[name]) for name in row}}) for row in decisions]
        with _told(self.folder):
            for file, text in zip(self._files, lines, strict=True):
                file.write("".join(text).encode("ascii"))
                file.flush()
            if self._board:
                self._board.add(step, {**metrics, **{f"timings/{name}": value for name, value in timings.items()}})

    def flush(self) -> None:
        """Force the logs to the disk and the event files out of their queue."""
        with _told(self.folder):
            for file, log in zip(self._files, self.logs, strict=True):
                file.flush()
                sync(log)
            if self._board:
                self._board.flush()

    def summary(self, summary: Mapping[str, object]) -> Path:
        """Write ``summary.json`` whole or not at all; any JSON value is welcome, nan becomes null."""
        target, temp = self.folder / "summary.json", self.folder / ".summary.json.tmp"
        with _told(self.folder):
            temp.write_text(json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n", encoding="ascii")
            sync(temp)
            temp.replace(target)
            sync(self.folder)
        return target

    def close(self) -> None:
        """Close all files; closing twice is harmless."""
        with _told(self.folder):
            for file in self._files:
                file.close()
            if self._board:
                self._board.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stopwatch:
    """Seconds per phase: ``with watch("generate"): ...``, then ``watch.lap()`` once per step.

    A phase inside another one pauses it, so that every second counts once: the phases and "other" sum to "total".
    ``meter`` tells the least seconds that the work done since its last reading can take on this machine. It is read
    whenever the phase changes, so that work counts in the phase that did it, whoever did it.
    """

    def __init__(self, meter: Callable[[], float] | None = None) -> None:
        self._seconds: dict[str, float] = {}
        self._least: dict[str, float] = {}
        self._open = ["other"]
        self._meter = meter or (lambda: 0.0)
        self._meter()  # what was done before is not ours; a meter that sets itself up does so before the clock runs
        self._mark = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Generator[None, None, None]:
        """Count the seconds within the ``with`` block for ``phase``."""
        if phase in ("total", "other"):
            raise ValueError(f"A phase cannot be called {phase!r}: the lap itself has an entry of that name.")
        self._charge()
        self._open.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def lap(self) -> dict[str, float]:
        """Seconds of each phase since the last lap, with "other" (outside any phase) and "total"; starts a new lap.

        ``roofline/<phase>`` is the share of the machine's limit that the phase reached, least over measured seconds,
        for phases with metered work.
        """
        self._charge()
        lap, self._seconds = {"other": 0.0, **self._seconds}, {}
        least, self._least = self._least, {}
        shares = {f"{ROOFLINE}{phase}": seconds / lap[phase] for phase, seconds in least.items() if lap[phase]}
        return {**lap, "total": math.fsum(lap.values()), **shares}

    def _charge(self) -> None:
        phase, now = self._open[-1], time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._mark
        self._mark = now
        least = self._meter()
        if least:
            self._least[phase] = self._least.get(phase, 0.0) + least


def read(path: Path) -> list[dict[str, Any]]:
    """All objects of a JSONL file; ``RecordError`` names the file and the line of the first one that is malformed."""
    rows: list[dict[str, Any]] = []
    with _told(path):
        raw = path.read_bytes()
    # Not str.splitlines: that also splits at characters which JSON allows inside a string.
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else (), start=1):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise RecordError(f"{path}, line {number} is not a JSON object.")
        rows.append(cast(dict[str, Any], row))
    if raw and not raw.endswith(b"\n"):
        raise RecordError(f"{path}, line {len(rows)} has no end of line: the file was cut short.")
    return rows


class _Board:
    """TensorBoard event files. What an earlier, killed run wrote at or after our first step is declared void."""

    def __init__(self, folder: Path) -> None:
        # Imported here: TensorBoard takes 0.3 s to load, and `--help` should not wait for it.
        from tensorboard.compat.proto import event_pb2, summary_pb2  # pyright: ignore[reportMissingTypeStubs]
        from tensorboard.summary.writer import event_file_writer  # pyright: ignore[reportMissingTypeStubs]

        self._events: Any = event_pb2  # generated modules carry no types
        self._summaries: Any = summary_pb2
        self._resumed = folder.is_dir() and any(folder.iterdir())
        self._writer: Any = event_file_writer.EventFileWriter(str(folder))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time()
        if self._resumed:
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._writer.add_event(self._events.Event(wall_time=now, step=step, session_log=start))
            self._resumed = False
        value_of = self._summaries.Summary.Value
        scalars = [value_of(tag=tag, simple_value=float(value)) for tag, value in sorted(values.items())]
        summary = self._summaries.Summary(value=scalars)
        self._writer.add_event(self._events.Event(wall_time=now, step=step, summary=summary))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _open_log(log: Path) -> BinaryIO:
    file = log.open("ab+")
    if file.tell():
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.close()
            raise RecordError(f"{log} ends in the middle of a line; cut it back to a checkpoint before going on.")
    return file


def _episode(step: int, index: int, episode: Episode) -> dict[str, object]:
    return {
        "step": step,
        "index": index,
        "turns": [_turn(turn) for turn in episode.turns],
        "case": dict(episode.case),
        "verdict": _numbers(episode.verdict),
        "returns": _numbers(episode.returns),
        "forfeit": episode.forfeit,
        **_at_the_table(episode),
    }


def _at_the_table(episode: Episode) -> dict[str, Any]:
    """What roles do not tell: what the seats of one role earned, who sat there, and whether the game was cut."""
    told: dict[str, Any] = {"seats": _numbers(episode.seats)} if len(episode.seats) > len(episode.returns) else {}
    if episode.personas:
        told["personas"] = dict(sorted(episode.personas.items()))
    return {**told, "truncated": True} if episode.truncated else told


def _turn(turn: Turn) -> dict[str, object]:
    completion = turn.action.completion
    return {
        "role": turn.role,
        "seat": turn.seat,
        "observation": _plain(turn.observation),
        "move": _plain(turn.action.move),
        "group": turn.group,
        "tokens": len(completion.token_ids) if completion else None,  # null: nobody sampled this move
        "finish": completion.finish if completion else None,
    }


def _numbers(values: Mapping[str, float]) -> dict[str, object]:
    """Numbers in the order of their names, so that equal runs give equal bytes."""
    for name, value in values.items():
        if not isinstance(cast(object, value), Real) or name == "step":
            raise RecordError(f"The record cannot hold {name!r}: {value!r} as a number of this step.")
    return {name: _plain(values[name]) for name in sorted(values)}


def _plain(value: object) -> object:
    """``value`` as JSON can hold it: numpy's numbers become Python's, nan and infinities become None."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast(Mapping[object, object], value).items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in cast(Sequence[object], value)]
    raise RecordError(f"The record holds text, numbers, lists and mappings, not {type(value).__name__}: {value!r}.")


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


@contextmanager
def _told(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RecordError(f"Cannot use {path} for the record: {error.strerror or error}{where}.") from error
