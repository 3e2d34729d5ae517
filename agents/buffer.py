"""A buffer of past triplets in a seat: it sets the next task, and shows what the Challenger is to differ from."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from selfplay.compose import did_you_mean
from selfplay.seeds import derive
from selfplay.types import Action, Chat, Episode

TASKS = ("deduction", "abduction", "induction")
_IDENTITY = {"program": "def f(x):\n    return x", "input": "'Hello World'", "output": "'Hello World'"}


class Triplet(NamedTuple):
    """A program ``f``, the arguments of a call of it, and what it gives; ``task`` is what it was made for, "" any."""

    task: str
    program: str
    input: str
    output: str

    def shown(self, number: int) -> str:
        blocks = (("python", self.program), ("input", self.input), ("output", self.output))
        return "\n".join([f"Example {number}", *(f"```{kind}\n{text}\n```" for kind, text in blocks)])


class Buffer:
    """Says the task, one of its programs, and ``examples`` of its triplets (arXiv 2505.03335: 6); it learns by playing.

    A move is ``<task>``, ``### program``, a program drawn from all triplets, ``### examples``, and as many triplets of
    that task (of all, where it has none) as are asked for and fit into ``max_chars`` characters. The tasks take turns,
    so that a step which branches ``library: 3`` times has one of each.

    ``collect`` keeps the triplets of finished games that a verifier found sound, each once, at most ``capacity`` of
    them; the oldest goes first. ``seeds`` are mappings of ``program``, ``input`` and ``output`` (``task`` too, if it is
    for one only); they are never dropped, and by default they are the identity function.

    What the n-th move draws depends on ``seed``, n and the triplets alone, in the order of the calls, as with a data
    set; ``save`` and ``load`` bring all of it back. The seeds of the rows are not used, and no two buffers are equal.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        examples: int = 6,
        capacity: int = 4_096,
        seeds: Sequence[Mapping[str, str]] | None = None,
        max_chars: int = 8_192,
        seed: int = 0,
    ) -> None:
        self._tasks = tuple(TASKS if tasks is None else tasks)
        if not self._tasks:
            raise ValueError("tasks is empty: a buffer sets at least one task.")
        for task in self._tasks:
            _check_task("tasks", task)
        for name, least, value in (("examples", 0, examples), ("capacity", 1, capacity)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        self._seeds = [_triplet(row, place) for place, row in enumerate([_IDENTITY] if seeds is None else seeds)]
        if not self._seeds:
            raise ValueError("seeds is empty: a buffer begins with at least one triplet.")
        if any(len(_move("", one.program, ())) > max_chars for one in self._seeds):
            raise ValueError(f"max_chars is {max_chars}, too few for the programs in seeds.")
        self._examples, self._capacity, self._max_chars, self._seed = examples, capacity, max_chars, seed
        self._kept: dict[tuple[str, str], Triplet] = {}  # by program and input, oldest first
        self._drawn = 0

    def __len__(self) -> int:
        """The number of triplets, seeds among them."""
        return len(self._seeds) + len(self._kept)

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One move per observation, the next tasks in turn; nobody trains on them (no completion)."""
        return [Action(self._next()) for _ in observations]

    def collect(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Keep the sound triplets of these games, those that may be learnt from: part ``valid`` of the verdict 1, slots
        ``program``, ``input`` and ``output`` filled. Metrics: ``buffer/added`` now, ``buffer/size`` in all, seeds among
        them."""
        added = 0
        for episode in episodes:
            case = episode.case
            if episode.verdict.get("valid") != 1.0:
                continue
            found = Triplet(
                case.get("task", ""), *(case.get(slot, "").strip("\n") for slot in ("program", "input", "output"))
            )
            key = (found.program, found.input)
            known = key in self._kept or any(key == (one.program, one.input) for one in self._seeds)
            # A longer one could not be shown, or would leave no room for others.
            if all(found) and not known and sum(map(len, found)) <= self._max_chars // 2:
                self._kept[key] = found
                added += 1
        while len(self._kept) > self._capacity:
            del self._kept[next(iter(self._kept))]
        return {"buffer/added": float(added), "buffer/size": float(len(self))}

    def save(self, folder: Path) -> None:
        """Write ``folder/buffer.json``: the triplets kept, the moves made, and a digest of settings and seeds."""
        state = {"drawn": self._drawn, "kept": list(self._kept.values()), "digest": self._digest()}
        (folder / "buffer.json").write_text(json.dumps(state) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take them back; ``ValueError`` when settings or seeds are no longer those of the checkpoint."""
        state = json.loads((folder / "buffer.json").read_text(encoding="utf-8"))
        if state["digest"] != self._digest():
            raise ValueError("the buffer's tasks, seeds or settings changed since the checkpoint was written.")
        self._drawn = int(state["drawn"])
        self._kept = {(one.program, one.input): one for one in (Triplet(*row) for row in state["kept"])}

    def _next(self) -> str:
        task = self._tasks[self._drawn % len(self._tasks)]
        chance = random.Random(derive(self._seed, "draw", self._drawn))
        self._drawn += 1
        every = [*self._seeds, *self._kept.values()]
        program = chance.choice(every).program
        pool = [one for one in every if one.task in ("", task)] or every
        drawn = chance.sample(pool, min(self._examples, len(pool)))
        shown: list[str] = []
        for one in drawn:
            if len(_move(task, program, [*shown, one.shown(len(shown) + 1)])) <= self._max_chars:
                shown.append(one.shown(len(shown) + 1))
        return _move(task, program, shown)

    def _digest(self) -> str:
        settings: list[Any] = [self._tasks, self._seeds, self._examples, self._capacity, self._max_chars, self._seed]
        return blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest()


def _move(task: str, program: str, shown: Sequence[str]) -> str:
    return "\n".join([task, "### program", program, "### examples", "\n\n".join(shown)])


def _check_task(where: str, task: str) -> None:
    """A task that no game has would be a forfeit in every move."""
    if task not in TASKS:
        raise ValueError(f"{where} names {task!r}{did_you_mean(task, TASKS)}; known are {', '.join(TASKS)}.")


def _triplet(row: Mapping[str, str], place: int) -> Triplet:
    for key in row:
        if key not in Triplet._fields:
            near = get_close_matches(key, Triplet._fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Triplet._fields)}."
            raise ValueError(f"seeds[{place}] has an unknown key {key!r}; {hint}")
    for key in ("program", "input", "output"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ValueError(f"seeds[{place}] needs the key {key!r}, a text.")
    if row.get("task"):
        _check_task(f"seeds[{place}].task", row["task"])
    return Triplet(row.get("task", ""), *(row[key].strip("\n") for key in ("program", "input", "output")))
