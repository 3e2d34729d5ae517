"""The questions of the library reasoning_gym in a seat: as many as you like, each made from the row's seed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from selfplay.types import Action, Chat

HASHED = (
    "intermediate_integration",
    "isomorphic_strings",
    "knight_swap",
    "list_functions",
    "polynomial_multiplication",
    "ransom_note",
    "word_ladder",
)
"""Tasks that deal by the order of a set of strings, which Python changes from one process to the next."""


class ReasoningGym:
    """Says a question of ``task``, or of one of several tasks, and behind ``\\n#### `` the sealed entry.

    The entry is one line of JSON, ``{"task", "options", "entry"}``, which ``verifier=reasoning_gym`` reads. The game's
    line ``says: '(?P<query>[\\s\\S]*)\\n#### (?P<reference>[^\\n]*)'`` takes the two apart. ``options[task]`` are the
    settings of the task's own configuration. Everything comes from the row's seed, so there is nothing to resume.

    Raises ``ModuleNotFoundError`` without the library, and ``ValueError`` for what it has not, or cannot be dealt again
    from its seed, or has a scorer that needs more of an entry than JSON holds.
    """

    def __init__(
        self, task: str | Sequence[str], options: Mapping[str, Mapping[str, Any] | None] | None = None
    ) -> None:
        self.tasks = (task,) if isinstance(task, str) else tuple(task)
        if not self.tasks:
            raise ValueError("reasoning_gym needs at least one task: task=chain_sum")
        with _numbers(0):  # its import draws random numbers, too
            try:
                self._factory = import_module("reasoning_gym").factory
            except ModuleNotFoundError as error:
                hint = 'pip install -c constraints.txt ".[reasoning_gym]"'
                raise ModuleNotFoundError(f"env=reasoning_gym needs the package {error.name}: {hint}") from error
        for name in options or {}:
            if name not in self.tasks:
                raise ValueError(f"options.{name} is for a task that is not asked{_nearest(name, self.tasks)}")
        self._options = {name: dict((options or {}).get(name) or {}) for name in self.tasks}
        for name in self.tasks:
            self._check(name)

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One question per row, made from its seed; nobody trains on them (no completion)."""
        return [Action(self._say(random.Random(seed))) for seed in seeds]

    def _say(self, rng: random.Random) -> str:
        task = rng.choice(self.tasks)
        _, entry = self._deal(task, rng.getrandbits(32))
        sealed = json.dumps({"task": task, "options": self._options[task], "entry": entry})
        return f"{entry['question']}\n#### {sealed}"

    def _deal(self, task: str, seed: int) -> tuple[Any, dict[str, Any]]:
        """The task's data set of one, and its only entry."""
        with _numbers(seed):  # some of the library draws from the numbers of the whole process
            dealt = self._factory.create_dataset(task, seed=seed, size=1, **self._options[task])
            return dealt, dealt[0]

    def _check(self, task: str) -> None:
        known = [name for name in self._factory.DATASETS if name != "composite"]  # several tasks are told as a list
        if task not in known:
            raise ValueError(f"reasoning_gym has no task {task!r}{_nearest(task, known)}")
        fields = [name for name in self._factory.DATASETS[task][1].__dataclass_fields__ if name not in ("seed", "size")]
        for key in self._options[task]:
            if key not in fields:
                raise ValueError(f"options.{task}.{key} is unknown{_nearest(key, fields)}: {', '.join(fields)}")
        if task in HASHED and not os.environ.get("PYTHONHASHSEED", "").isdigit():
            raise ValueError(
                f"reasoning_gym deals {task} by Python's string hashes, which change with every start: "
                "set the environment variable PYTHONHASHSEED=0, so that a seed means the same questions again"
            )
        try:
            dealt, entry = self._deal(task, 0)
            heard = json.loads(json.dumps(entry))
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"reasoning_gym cannot deal {task}: {error or type(error).__name__}") from error
        answer = entry["answer"]
        if isinstance(answer, str) and dealt.score_answer(answer, heard) != dealt.score_answer(answer, entry):
            raise ValueError(
                f"reasoning_gym's scorer of {task} needs more of an entry than JSON holds: it has no seat here"
            )


@contextmanager
def _numbers(seed: int) -> Generator[None]:
    """Within the block the process's random numbers start at ``seed``; afterwards they are where they were."""
    numpy = import_module("numpy.random")
    before, before_numpy = random.getstate(), numpy.get_state()
    random.seed(seed)
    numpy.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        numpy.set_state(before_numpy)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
