"""What a data gate has to say of one proposal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a proposal, and why: ``reason`` is ``""`` where it was admitted. ``solve_rate`` is the mean score
    of its answers and ``similarity`` that to the nearest text of the archive; None where nobody asked."""

    query: str
    reason: str
    answers: int
    solve_rate: float | None
    similarity: float | None

    def row(self) -> dict[str, object]:
        """The decision as a line of a log."""
        return {
            "query": self.query,
            "admitted": not self.reason,
            "reason": self.reason,
            "answers": self.answers,
            "solve_rate": self.solve_rate,
            "similarity": self.similarity,
        }
