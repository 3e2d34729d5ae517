"""A classroom: a teacher explains, students answer an examiner's question, and all are paid for what was understood."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.matching import plain
from envs.script import GameError, Line, nearest

MARKED = ("drawn", "majority")
MOST = 16


class Classroom(LanguageGame):
    """The examiner asks, the teacher explains, and ``students`` seats of one role answer at the same time.

    One answer is judged for all of them, and fills the slot ``answer``: ``marked=drawn``, that of a student whom the
    seed draws before anybody speaks, so that everybody earns the class's mean on average; ``marked=majority``, what
    most of them said, whatever its case, and the first of those in a tie.

    ``turns`` are those of the examiner, the teacher and a student. A student's slot has its seat's number at the end:
    what the line ``written`` fills is ``written_0``, ``written_1``, ... Raises ``GameError``.
    """

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        payoff: Mapping[str, Mapping[str, float]],
        *,
        students: int = 3,
        marked: str = "drawn",
        name: str = "classroom_v0",
        personas: Mapping[str, Any] | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
        teams: Mapping[str, Sequence[str]] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if len(turns) != 3:
            raise GameError("a classroom has three turns: the examiner's, the teacher's, and a student's")
        if type(students) is not int or not 1 <= students <= MOST:
            raise GameError(f"students={students!r}: a classroom has 1 to {MOST}")
        if marked not in MARKED:
            raise GameError(f"marked={marked!r} is unknown{nearest(str(marked), MARKED)}: use {' or '.join(MARKED)}")
        *others, pupil = turns
        says = str(pupil.get("says"))
        if not says.isidentifier() or says == "answer":
            raise GameError(f"turns[2].says={says!r}: a student fills one slot, which is not the one that is judged")
        seated = [
            {**pupil, "role": f"{pupil.get('role')}_{seat}", "says": f"{says}_{seat}", "at_once": seat > 0}
            for seat in range(students)
        ]
        super().__init__(
            [*others, *seated], payoff, name=name, personas=personas, sees=sees, teams=teams, forfeit=forfeit,
            max_chars=max_chars, render_mode=render_mode,
        )  # fmt: skip
        self.students, self.marked, self.chance = students, marked, 0

    def begin(self, seed: int | None) -> None:
        self.chance = random.Random(seed).randrange(self.students)

    def next_line(self) -> Line | tuple[Line, ...] | None:
        """The script; then the answer that is judged."""
        following = super().next_line()
        if following is None:
            written = [self.case[line.slots[0]] for line in self.script[2:]]
            counted = Counter(plain(answer) for answer in written)
            most = next(answer for answer in written if counted[plain(answer)] == max(counted.values()))
            self.case["answer"] = written[self.chance] if self.marked == "drawn" else most
        return following


raw_env = partial(shipped.raw, "classroom")
env = partial(shipped.aec, "classroom")
parallel_env = partial(shipped.parallel, "classroom")
