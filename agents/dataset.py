"""A data set in a seat: every move is a row of a file, so that GRPO on data is self-play with a fixed Challenger."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, cast

from selfplay.seeds import derive
from selfplay.types import Action, Chat

Row = Mapping[str, Any]


class Dataset:
    """Says the rows of a JSONL or parquet file, every row once per epoch, in an order of its own.

    A row is a JSON object, or a parquet row, with a column ``prompt`` and any others (``reference``, ...). Instead
    of ``prompt`` it may hold ``messages``, a list of ``{"role", "content"}``: the last user message is then the
    ``prompt`` and the assistant message after it, if any, the ``reference``; earlier messages are not used.

    ``says`` is a template over the columns (literal braces are doubled). It lets a sealed reference travel with the
    question: the game's line ``says: '(?P<query>[\\s\\S]*?)\\n#### (?P<reference>[\\s\\S]*)'`` takes apart what
    ``Dataset(path, says="{prompt}\\n#### {reference}")`` says, and the next seat is told the query alone.

    The epoch's permutation depends on (``seed``, epoch) only, and the cursor moves on by one per observation, in the
    order of the calls: all rows are seen before any is seen again, across calls, and ``save``/``load`` (the
    ``Stateful`` protocol) continue exactly where a run stopped. The seeds of the rows are not used: siblings that
    drew independently would draw the same row twice. For the same reason two data sets are never equal, so that
    each keeps its own cursor.
    """

    def __init__(self, path: str | Path, says: str = "{prompt}", seed: int = 0, limit: int | None = None) -> None:
        """Read ``path`` (UTF-8, by its ending ``.jsonl`` or ``.parquet``), of which the first ``limit`` rows count.

        Raises ``FileNotFoundError`` for no such file and ``ValueError`` for whatever is wrong inside it, with the
        file and the line (parquet: the row) named.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1, or null for all rows.")
        file = Path(path).expanduser()
        columns = _columns(says)
        # Only what is said is kept: a fault in any row shows now and not after days, and long columns cost nothing.
        self._moves = [_render(says, columns, row, place) for place, row in islice(_rows(file), limit)]
        if not self._moves:
            raise ValueError(f"{file} holds no rows.")
        self._seed = seed
        self._drawn = 0
        self._epoch: int = -1
        self._order: list[int] = []  # the permutation of self._epoch

    def __len__(self) -> int:
        """The number of rows in an epoch."""
        return len(self._moves)

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One row per observation, the next ones of the epoch; nobody trains on them (no completion)."""
        return [Action(self._next()) for _ in observations]

    def _next(self) -> str:
        epoch, position = divmod(self._drawn, len(self._moves))
        if epoch != self._epoch:
            self._order = list(range(len(self._moves)))
            random.Random(derive(self._seed, "epoch", epoch)).shuffle(self._order)
            self._epoch = epoch
        self._drawn += 1
        return self._moves[self._order[position]]

    def save(self, folder: Path) -> None:
        """Write the cursor to ``folder/dataset.json``: rows drawn since the start, and a digest of what they say."""
        state = {"drawn": self._drawn, "digest": self._digest()}
        (folder / "dataset.json").write_text(json.dumps(state) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take the cursor back; ``ValueError`` when seed or data are no longer those that the cursor points into."""
        state = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if state["digest"] != self._digest():
            raise ValueError("the data set's rows, template, seed or limit changed since the checkpoint was written.")
        self._drawn = int(state["drawn"])

    def _digest(self) -> str:
        digest = blake2b(str(self._seed).encode(), digest_size=16)
        for move in self._moves:
            text = move.encode()
            digest.update(len(text).to_bytes(8, "big") + text)  # the length keeps ["ab", "c"] and ["a", "bc"] apart
        return digest.hexdigest()


def _columns(says: str) -> list[str]:
    """The columns that a template names; attributes, indices and formats are refused, as they reach into objects."""
    try:
        parts = list(string.Formatter().parse(says))
    except ValueError as error:
        raise ValueError(f"the template says={says!r} does not parse ({error}); a literal brace is doubled.") from None
    columns: list[str] = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name or name.isdigit() or form or conversion or "." in name or "[" in name:
            raise ValueError(f"the template says={says!r} may name columns only, like {{prompt}}, not {{{name}}}.")
        columns.append(name)
    if not columns:
        raise ValueError(f"the template says={says!r} names no column; {{prompt}} is the usual one.")
    return columns


def _render(says: str, columns: Sequence[str], row: Row, place: str) -> str:
    row = _with_messages(row, place)
    values: dict[str, str] = {}
    for column in columns:
        value = row.get(column)
        if value is None:
            if column in row:
                raise ValueError(f"{place}: the column {column!r} is null.")
            near = get_close_matches(column, row, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the row has {', '.join(row) or 'none'}."
            raise ValueError(f"{place}: there is no column {column!r}; {hint}")
        try:
            values[column] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except TypeError:
            kind = type(value).__name__
            raise ValueError(f"{place}: the column {column!r} holds a {kind}, which has no text form.") from None
    move = says.format_map(values)
    try:
        move.encode()
    except UnicodeEncodeError:
        # Legal in JSON ("\ud83d"), impossible in UTF-8: neither a tokenizer nor a log file can take it.
        raise ValueError(f"{place}: the text holds half of a surrogate pair, which is not a character.") from None
    return move


def _with_messages(row: Row, place: str) -> Row:
    """Add ``prompt`` and ``reference`` from ``messages`` (or from a ``prompt`` that is a list of messages)."""
    messages = row.get("messages") if row.get("prompt") is None else row["prompt"]
    if not isinstance(messages, list):
        return row
    derived: dict[str, str] = {}
    for number, message in enumerate(cast("list[object]", messages), 1):
        fields = cast("Row", message if isinstance(message, Mapping) else {})
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise ValueError(f"{place}: a message has a 'role' and a 'content' of text, and message {number} has not.")
        if role == "user":
            derived = {"prompt": content}
        elif role == "assistant" and derived:
            derived.setdefault("reference", content)
    if not derived:
        raise ValueError(f"{place}: the messages hold none of the role 'user'.")
    # A reference column of the row's own says what is right; the assistant's message is only somebody's answer.
    return {**derived, **{name: value for name, value in row.items() if value is not None and name != "prompt"}}


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) pairs, where the place is what an error message names."""
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        near = get_close_matches(file.suffix.lower(), _READERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {' and '.join(_READERS)}."
        raise ValueError(f"{file} ends in {file.suffix!r}, which is no data format; {hint}")
    if not file.is_file():
        names = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        near = get_close_matches(file.name, names, n=1)
        raise FileNotFoundError(f"there is no data file {file}{f'; did you mean {near[0]}?' if near else '.'}")
    return reader(file)


def _jsonl(file: Path) -> Iterator[tuple[str, Row]]:
    with file.open("rb") as lines:  # in bytes: only \n ends a line, and a bad byte can be given a line number
        for number, line in enumerate(lines, 1):
            place = f"{file}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                row: object = json.loads(text) if text.strip() else {}
            except UnicodeDecodeError:
                raise ValueError(f"{place}: the line is not UTF-8.") from None
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: the line is not JSON ({error.msg}, column {error.colno}).") from None
            except RecursionError:
                raise ValueError(f"{place}: the JSON is nested too deeply.") from None
            if not isinstance(row, dict):
                raise ValueError(f"{place}: a row is a JSON object, and this is a {type(row).__name__}.")
            if text.strip():
                yield place, cast("Row", row)


def _parquet(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"reading {file} needs pyarrow: pip install pyarrow.") from None
    try:
        rows = (row for batch in parquet.ParquetFile(str(file)).iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"{file}, row {number}", row
    except (arrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} is not a whole parquet file ({error}).") from None


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {".jsonl": _jsonl, ".parquet": _parquet}
