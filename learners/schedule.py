"""Who learns when: roles that are updated in turns, as phases or at different rates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfplay.compose import did_you_mean
from selfplay.lessons import only_roles
from selfplay.trained import trained
from selfplay.types import Episode, Learner, Stateful

_FILE = "phases.json"


class ScheduleError(ValueError):
    """A plan that cannot be followed, in one sentence."""


class Phases:
    """Passes on to ``learner`` only the turns of the roles whose turn it is to learn; the others' lose their
    completions for the step, and their rewards still move the baselines.

    ``plan`` is a list of ``{roles, steps}``, played from the top and again from the top, one step per update:

    - R-Zero (arXiv 2508.05004), its code's numbers: ``[{roles: [challenger], steps: 5}, {roles: [solver], steps: 15}]``
    - SQLM (arXiv 2508.03682), the Proposer every fifth step: ``[{roles: [solver], steps: 4},
      {roles: [challenger, solver], steps: 1}]``

    A role that no phase names never learns. With one learner for all roles the optimizer's moments are shared by the
    phases; ``learners.team.Team`` keeps them, or whole models, apart. Raises ``ScheduleError``.
    """

    def __init__(self, learner: Learner, plan: Sequence[Mapping[str, Any]]) -> None:
        self.learner, self._updates = learner, 0
        self._plan = [_phase(number, phase) for number, phase in enumerate(plan)]
        if not self._plan:
            raise ScheduleError(
                "learner.plan is empty: write [{roles: [challenger], steps: 5}, {roles: [solver], steps: 15}]"
            )

    @property
    def importance_cap(self) -> float | None:
        """The learner's own, where it has one."""
        return self.learner.importance_cap  # type: ignore[attr-defined]

    @property
    def engines(self) -> dict[str, Any]:
        """The learner's own, by name."""
        return trained(self.learner)

    @property
    def roles(self) -> tuple[str, ...]:
        """Who learns from the next update."""
        return self._plan[self._phase()][0]

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The learner's metrics, the number of the ``phase``, and ``learns/<role>``, 1 for those whose turn it is."""
        known = sorted({role for episode in episodes for role in episode.returns})
        named = sorted({role for roles, _ in self._plan for role in roles})
        for role in named:
            if known and role not in known:
                raise ScheduleError(
                    f"learner.plan names {role!r}, who earns nothing{did_you_mean(role, known)}: {', '.join(known)}"
                )
        phase, roles = self._phase(), self.roles
        metrics = self.learner.update(only_roles(episodes, roles))
        self._updates += 1
        return metrics | {"phase": float(phase)} | {f"learns/{role}": float(role in roles) for role in named}

    def save(self, folder: Path) -> None:
        """The place in the plan, and the learner's state in a folder of its own."""
        (folder / _FILE).write_text(json.dumps({"updates": self._updates}) + "\n", encoding="ascii")
        if isinstance(self.learner, Stateful):
            (folder / "learner").mkdir()
            self.learner.save(folder / "learner")

    def load(self, folder: Path) -> None:
        self._updates = json.loads((folder / _FILE).read_text(encoding="ascii"))["updates"]
        if isinstance(self.learner, Stateful):
            self.learner.load(folder / "learner")

    def _phase(self) -> int:
        """The number of the phase that the next update belongs to."""
        place = self._updates % sum(steps for _, steps in self._plan)
        for number, (_, steps) in enumerate(self._plan):
            if place < steps:
                return number
            place -= steps
        raise AssertionError("a place within the plan belongs to a phase")


def _phase(number: int, phase: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """A phase as it was written, checked."""
    where = f"learner.plan[{number}]"
    for key in phase:
        if key not in ("roles", "steps"):
            raise ScheduleError(
                f"{where} has no key {key!r}{did_you_mean(key, ('roles', 'steps'))}: write roles and steps"
            )
    roles, steps = phase.get("roles"), phase.get("steps")
    if isinstance(roles, str) or not isinstance(roles, Sequence) or not roles:
        raise ScheduleError(f"{where}.roles={roles!r} must be a list of roles, as [challenger]")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ScheduleError(f"{where}.steps={steps!r} must be a number of updates, at least 1")
    return tuple(str(role) for role in roles), steps
