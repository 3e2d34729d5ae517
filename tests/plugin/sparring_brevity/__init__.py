"""A verifier for Sparring from a package of its own: short answers are good answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Brevity:
    """Reward short answers: 1 for 1 to ``limit`` characters, else 0."""

    def __init__(self, limit: int = 200) -> None:
        self.limit = limit

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        return [float(0 < len(case["answer"].strip()) <= self.limit) for case in cases]
