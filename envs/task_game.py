"""A game of several scripts: its opening move names the task, and the task is the script that is played on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.game import LanguageGame
from envs.script import GameError, Line, check_script

TASK, ERROR = "task", "error"


class TaskGame(LanguageGame):
    """``opening`` is a turn whose words fill the slot ``task``; ``tasks[task]`` are the turns that follow it.

    A turn that fills the slot ``error`` ends the talk: the verifier judges what there is. So does a task that has no
    script, but an opening's pattern had better name the tasks there are: then a wrong word is a forfeit.

    The other arguments are those of ``LanguageGame``. Raises ``GameError`` for a script that tells a slot which its own
    task does not say, whatever the other tasks do.
    """

    def __init__(
        self,
        opening: Mapping[str, str],
        tasks: Mapping[str, Sequence[Mapping[str, str]]],
        payoff: Mapping[str, Mapping[str, float]],
        *,
        name: str = "task_game_v0",
        personas: Mapping[str, str] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if not tasks:
            raise GameError("a game of tasks needs at least one task")
        turns = [opening, *(turn for script in tasks.values() for turn in script)]
        super().__init__(
            turns, payoff, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if TASK not in self.script[0].slots:
            raise GameError(f"opening.says={self.script[0].says!r} fills no slot 'task'")
        self.spans: dict[str, tuple[int, int]] = {}
        start = 1
        for task, script in tasks.items():
            self.spans[task] = (start, start + len(script))
            check_script((self.script[0], *self.script[start : start + len(script)]), ())
            start += len(script)

    def next_line(self) -> Line | None:
        """The opening, then the task's own turns until they end or one of them tells of an error."""
        if not self.spoken:
            return self.script[0]
        start, end = self.spans.get(self.case[TASK], (0, 0))
        place = start + self.spoken - 1
        return self.script[place] if place < end and not self.case.get(ERROR) else None
