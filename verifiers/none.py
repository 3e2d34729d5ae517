"""No verifier: for games whose own rules pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from selfplay.types import Action, Case, Verifier


class Nobody:
    """Sits in the verifier's seat of a game that has none: its verdict has no parts, and it is never asked."""

    parts: tuple[str, ...] = ()
    runs_in: ClassVar[str] = "main"

    def __init__(self) -> None:
        self.verifiers: Mapping[str, Verifier] = {}

    def act(self, observations: Sequence[Case], seeds: Sequence[int]) -> list[Action]:
        return [Action({}) for _ in observations]

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        """It cannot tell: whoever wants a score, as an exam or an audit, wants a verifier."""
        return [float("nan")] * len(cases)

    def metrics(self) -> dict[str, float]:
        return {}

    def warnings(self) -> list[str]:
        return []
