"""No update at all: for evaluation, for playing, and as the control that any learner has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from selfplay.types import Episode


class Frozen:
    """A learner that learns nothing. It may sit in the place of any other: ``others`` are the keys that an experiment
    has for that one, of which it needs none."""

    def __init__(self, **others: object) -> None:
        pass

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        return {}
