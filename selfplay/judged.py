"""Cases that two verifiers have judged: the one that paid, and another that looks at the same words.

``scores.jsonl`` holds one case a line, and all that a report needs::

    {"step": 7, "index": 3, "case": {"query": "2 + 2 = ?", "answer": "5", "reference": ""}, "group": "...",
     "stored": {"score": 1.0}, "new": {"score": 0.0}, "returns": {"challenger": -1.0, "solver": 1.0}}

JSON has no nan: "cannot tell" is ``null``, as in the record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from selfplay.record import RecordError
from selfplay.types import VERIFIER, Case, Episode

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """One case with the verdict that was paid, ``stored``, and the other one, ``new``; nan is "cannot tell".

    ``group`` is the same for all answers to one question, in every step.
    """

    step: int
    index: int  # the episode's place in its step
    case: Case
    group: str
    stored: Scores
    new: Scores
    returns: Scores

    def line(self) -> str:
        """As it stands in ``scores.jsonl``."""
        row = {
            "step": self.step,
            "index": self.index,
            "case": dict(self.case),
            "group": self.group,
            "stored": _written(self.stored),
            "new": _written(self.new),
            "returns": _written(self.returns),
        }
        return json.dumps(row, allow_nan=False) + "\n"


def of_episode(step: int, index: int, episode: Episode, new: Scores) -> Judged:
    """An episode that was judged, with its other verdict."""
    spoken = [turn for turn in episode.turns if turn.role != VERIFIER]
    group = group_of(episode.case, step, spoken[-1].group if spoken else 0)
    return Judged(step, index, episode.case, group, episode.verdict, new, episode.returns)


def group_of(case: Case, step: int, fork: int) -> str:
    """The question's name: a hash of the query, in whatever step it was asked; in a game without queries the fork that
    the last speaker answered from."""
    asked = case.get("query") or f"{step}/{fork}"
    return blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def judged_episodes(path: Path, notes: list[str]) -> Iterator[tuple[int, Judged]]:
    """The judged cases of an ``episodes.jsonl`` in order, each with the bytes read so far; ``new`` is empty.

    Episodes without a verdict (forfeits) are passed over. A last line that a kill cut short is left out, and a note
    is added. Raises ``RecordError`` that names file and line.
    """
    last = 0
    for number, read, row in objects(path, notes):
        where = f"{path}, line {number}"
        step, index = _whole(row, "step", where), _whole(row, "index", where)
        if step < last:
            raise RecordError(f"{where} goes back from step {last} to step {step}: the log holds two runs.")
        last = step
        verdict = _scores(row, "verdict", where)
        if verdict:
            case, turns = _case(row, where), row.get("turns")
            if not isinstance(turns, list):
                raise RecordError(f"{where} needs a list 'turns'.")
            spoken = [turn for turn in cast("list[Any]", turns) if _role(turn, where) != VERIFIER]
            group = group_of(case, step, _whole(spoken[-1], "group", where) if spoken else 0)
            yield read, Judged(step, index, case, group, verdict, {}, _scores(row, "returns", where))


def judged_cases(path: Path, notes: list[str]) -> Iterator[Judged]:
    """The lines of a ``scores.jsonl``. Raises ``RecordError`` that names file and line."""
    for number, _, row in objects(path, notes):
        where = f"{path}, line {number}"
        if not isinstance(row.get("group"), str):
            raise RecordError(f"{where} needs a text 'group'.")
        stored, new, returns = (_scores(row, key, where) for key in ("stored", "new", "returns"))
        step, index = _whole(row, "step", where), _whole(row, "index", where)
        yield Judged(step, index, _case(row, where), row["group"], stored, new, returns)


def objects(path: Path, notes: list[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(line number, bytes read, object) of every whole line, one at a time: a record may be larger than memory."""
    try:
        with path.open("rb") as file:
            read = 0
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # every line is written with its end: this one was cut
                    notes.append(f"{path.name} was cut within line {number}: read up to line {number - 1}.")
                    return
                read += len(line)
                yield number, read, _object(line, f"{path}, line {number}")
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}.") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise RecordError(f"{where} is not a JSON object.")
    return cast("dict[str, Any]", row)


def _whole(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RecordError(f"{where} needs a whole number {key!r}.")
    return value


def _case(row: Mapping[str, Any], where: str) -> dict[str, str]:
    case = row.get("case")
    if not isinstance(case, dict) or not all(isinstance(text, str) for text in cast("dict[str, Any]", case).values()):
        raise RecordError(f"{where} needs a 'case' of texts.")
    return {"query": "", "answer": "", "reference": "", **cast("dict[str, str]", case)}


def _scores(row: Mapping[str, Any], key: str, where: str) -> dict[str, float]:
    scores = row.get(key)
    if not isinstance(scores, dict):
        raise RecordError(f"{where} needs an object {key!r}.")
    found: dict[str, float] = {}
    for name, value in cast("dict[str, Any]", scores).items():
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise RecordError(f"{where}: {key}.{name} is neither a number nor null.")
        found[name] = math.nan if value is None else float(value)
    return found


def _role(turn: object, where: str) -> str:
    role = cast("dict[str, Any]", turn).get("role") if isinstance(turn, dict) else None
    if not isinstance(role, str):
        raise RecordError(f"{where} has a turn without a 'role'.")
    return role


def _written(scores: Scores) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in sorted(scores.items())}
