"""An ordinary corpus beside the game: any text file, in windows, in a seeded order whose cursor is kept."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from models.engine import Engine
from selfplay.seeds import derive
from selfplay.types import Completion

_PIECE = 1 << 20
"""Characters that are tokenised at once: a file of any size takes little memory beyond its tokens."""


class Keys(NamedTuple):
    """What a configuration calls the arguments of a corpus, for the sentence about a wrong one."""

    path: str = "learner.corpus"
    says: str = "learner.corpus_says"
    context: str = "learner.context"


_KEYS = Keys()


class Corpus:
    """Windows of ``context`` tokens of a file, every one once per epoch.

    A text file (UTF-8) is one stream of tokens. Of a file that ends in ``.jsonl``, rows with a column ``text`` are
    documents of one stream, with an end of sequence after each, and rows with ``prompt`` and ``reference`` are chats,
    of which the reply is learned and each is a window of its own; with ``says``, a template over its columns, what all
    rows say is one text. Windows of a stream overlap by one token, so that all but the first are predicted once. The
    order depends on (``seed``, epoch) only; ``save`` and ``load`` keep the cursor. Raises ``FileNotFoundError``, and
    ``ValueError`` for what is wrong inside, with the line.
    """

    def __init__(
        self,
        path: str | Path,
        engine: Engine,
        *,
        says: str | None = None,
        context: int = 128,
        seed: int = 0,
        keys: Keys = _KEYS,
    ) -> None:
        most = getattr(engine.model.config, "max_position_embeddings", None)
        if context < 1 or (most is not None and context > most):
            raise ValueError(f"{keys.context}={context} must be 1 or more, and {engine.name!r} has {most} positions")
        file = Path(path).expanduser()
        if says is not None and file.suffix != ".jsonl":
            raise ValueError(f"{keys.says}={says!r} is for rows, and {file.name} is a text: name a .jsonl, or null")
        if not file.is_file():
            raise FileNotFoundError(f"{keys.path}={str(path)!r}: there is no such file")
        self._context, self._seed, self._drawn, self._epoch = context, seed, 0, -1
        self._order: list[int] = []
        try:
            self._stream, self._chats = _read(file, engine, context, says, keys)
        except UnicodeDecodeError as error:
            raise ValueError(f"{keys.path}={str(path)!r} is not UTF-8: it is a text file, or JSONL") from error
        if not len(self):
            raise ValueError(f"{keys.path}={str(path)!r} holds nothing to predict")

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self._chats) + -(-max(0, len(self._stream) - 1) // self._context)

    @property
    def epochs(self) -> float:
        """How often the corpus was seen so far."""
        return self._drawn / len(self)

    def draw(self, count: int) -> list[Completion]:
        """The next ``count`` windows, each as a prompt (of a stream: one token) and what follows it."""
        return [self._next() for _ in range(count)]

    def save(self, folder: Path) -> None:
        state = {"drawn": self._drawn, "digest": self._digest()}
        (folder / "corpus.json").write_text(json.dumps(state) + "\n", encoding="ascii")

    def load(self, folder: Path) -> None:
        """Go on where ``save`` was; ``ValueError`` where the file or the settings are no longer those."""
        state = json.loads((folder / "corpus.json").read_text(encoding="ascii"))
        if state["digest"] != self._digest():
            raise ValueError("the corpus, its context or its seed changed since the checkpoint was written")
        self._drawn = int(state["drawn"])

    def _next(self) -> Completion:
        epoch, position = divmod(self._drawn, len(self))
        if epoch != self._epoch:
            self._order = list(range(len(self)))
            random.Random(derive(self._seed, "corpus", epoch)).shuffle(self._order)
            self._epoch = epoch
        self._drawn += 1
        number = self._order[position] - len(self._chats)
        if number < 0:
            return self._chats[number]
        window = self._stream[number * self._context : (number + 1) * self._context + 1]
        return Completion("", (window[0],), tuple(window[1:]), (), "length")

    def _digest(self) -> str:
        digest = blake2b(f"{self._seed} {self._context}".encode(), digest_size=16)
        digest.update(self._stream.tobytes())
        digest.update(repr([(chat.prompt_ids, chat.token_ids) for chat in self._chats]).encode())
        return digest.hexdigest()


def _read(
    file: Path, engine: Engine, context: int, says: str | None, keys: Keys
) -> tuple[array[int], list[Completion]]:
    """The stream of a file's tokens, and its chats."""
    stream, chats = array("i"), list[Completion]()
    if file.suffix != ".jsonl":
        with file.open(encoding="utf-8", newline="") as text:
            while lines := text.readlines(_PIECE):
                stream.extend(_tokens(engine, "".join(lines)))
        return stream, chats
    end = [engine.tokenizer.eos_token_id] if engine.tokenizer.eos_token_id is not None else []
    for place, row in _rows(file):
        if says is not None:
            stream.extend(_tokens(engine, _fill(says, row, place, keys)))
        elif isinstance(row.get("text"), str):
            stream.extend([*_tokens(engine, row["text"]), *end])
        elif isinstance(row.get("prompt"), str) and isinstance(row.get("reference"), str):
            chats.append(engine.encode({"system": "", "user": row["prompt"]}, row["reference"]))
            if len(chats[-1].prompt_ids) + len(chats[-1].token_ids) > context + 1:
                raise ValueError(f"{place}: the chat is longer than {keys.context}={context} tokens")
        else:
            raise ValueError(f"{place}: a row has the column 'text', or 'prompt' and 'reference', as text")
    return stream, chats


def _tokens(engine: Engine, text: str) -> list[int]:
    """The text as tokens; what spells a control token is letters."""
    made = engine.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)  # it is long
    return list(made["input_ids"])


def _fill(says: str, row: dict[str, Any], place: str, keys: Keys) -> str:
    try:
        return says.format_map(row)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{place}: {keys.says}={says!r} may name {', '.join(row)} and no more") from error


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}:{number}"
            try:
                row: Any = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: the line is not JSON ({error.msg}, column {error.colno})") from None
            if row is not None and not isinstance(row, dict):
                raise ValueError(f"{place}: a row is a JSON object, and this is a {type(row).__name__}")
            if row is not None:
                yield place, row
