"""No update at all: for evaluation, for playing, and as the control that any learner has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from selfplay.types import Episode


class Frozen:
    """A learner that learns nothing."""

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        return {}
