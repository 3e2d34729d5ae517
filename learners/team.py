"""A learner for each role: other losses on one model, or models of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfplay.compose import did_you_mean
from selfplay.lessons import only_roles
from selfplay.trained import ALONE, trained
from selfplay.types import Episode, Learner, Stateful


class TeamError(ValueError):
    """A team that cannot be made or does not fit the game, in one sentence."""


class Team:
    """``Team({challenger: learner, solver: learner})``: each one sees its own role's completions only.

    Learners of different engines make two copies of a model that are trained against each other, as in R-Zero (arXiv
    2508.05004): seat the second copy in its role by ``seats.<role>.engine``. Learners of one engine update it one
    after the other, in the order of the roles. A role that is not named does not learn. Raises ``TeamError``.
    """

    def __init__(self, learners: Mapping[str, Learner]) -> None:
        if not learners:
            raise TeamError("learner.learners is empty: name a learner for each role, {challenger: ..., solver: ...}")
        self.learners = dict(learners)

    @property
    def engines(self) -> dict[str, Any]:
        """Role -> the engine that its learner trains, where it has one; ``<role>.<name>`` for those of a team."""
        found: dict[str, Any] = {}
        for role, learner in self.learners.items():
            found |= {role if name == ALONE else f"{role}.{name}": engine for name, engine in trained(learner).items()}
        return found

    @property
    def importance_cap(self) -> float | None:
        """None if some learner takes all words for its own, else the smallest bound."""
        caps = [cap for learner in self.learners.values() if (cap := _cap(learner)) != "none needed"]
        if not caps:
            raise AttributeError("no learner of this team weighs tokens")
        return None if None in caps else min(caps)

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The learners' metrics, each under ``<name>/<role>``."""
        known = sorted({role for episode in episodes for role in episode.returns})
        metrics: dict[str, float] = {}
        for role, learner in self.learners.items():
            if known and role not in known:
                raise TeamError(f"learner.learners.{role}: no such role{did_you_mean(role, known)}: {', '.join(known)}")
            told = learner.update(only_roles(episodes, [role]))
            metrics |= {name if name.endswith(f"/{role}") else f"{name}/{role}": value for name, value in told.items()}
        return metrics

    def save(self, folder: Path) -> None:
        """A folder for each role whose learner has state; the engines are saved by whoever saves the model."""
        for role, learner in self.learners.items():
            if isinstance(learner, Stateful):
                (folder / role).mkdir()
                learner.save(folder / role)

    def load(self, folder: Path) -> None:
        for role, learner in self.learners.items():
            if isinstance(learner, Stateful):
                learner.load(folder / role)


def _cap(learner: Learner) -> Any:
    return getattr(learner, "importance_cap", "none needed")
