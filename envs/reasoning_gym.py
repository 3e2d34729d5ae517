"""The game around reasoning_gym's questions: ``env=reasoning_gym env.task=chain_sum``; the library stays outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.game import LanguageGame


class ReasoningGym(LanguageGame):
    """A language game whose name tells ``task``, one or several. ``task_options`` are here to be read by whoever asks:
    ``agents.reasoning_gym`` deals the questions, ``verifiers.reasoning_gym`` judges, and the rules are the script's."""

    def __init__(
        self,
        task: str | Sequence[str],
        turns: Sequence[Mapping[str, Any]],
        payoff: Mapping[str, Mapping[str, float]],
        *,
        task_options: Mapping[str, Any] | None = None,
        personas: Mapping[str, Any] | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
        teams: Mapping[str, Sequence[str]] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 65_536,
        render_mode: str | None = None,
    ) -> None:
        tasks = [task] if isinstance(task, str) else list(task)
        super().__init__(
            turns,
            payoff,
            name=f"reasoning_gym/{'+'.join(tasks)}",
            personas=personas,
            sees=sees,
            teams=teams,
            forfeit=forfeit,
            max_chars=max_chars,
            render_mode=render_mode,
        )
        self.tasks, self.task_options = tuple(tasks), dict(task_options or {})
