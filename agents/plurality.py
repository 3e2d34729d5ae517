"""The voice of the many: it says what was said most often before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat


@dataclass(frozen=True, slots=True)
class Plurality:
    """Repeats what most rows of the transcript in its chat say, ``name: words``, as self-consistency does (arXiv
    2203.11171); of those said as often the first. The first row asks, and does not count. Where the game lists legal
    moves only these count, and the first of them is played where none was said; where nobody has spoken, it says
    ``silence``."""

    silence: str = "I do not know."

    def __post_init__(self) -> None:
        if not self.silence.strip():
            raise ValueError("Plurality needs something to say where nobody has spoken: silence is blank.")

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One line per observation; the seeds are not used."""
        legal = [[str(move) for move in info.get("legal_actions") or ()] for info in infos]
        return [Action(self._said(chat["user"], moves)) for chat, moves in zip(observations, legal, strict=True)]

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One line per observation where nobody knows which are legal."""
        nothing: dict[str, Any] = {}
        return self.choose(observations, seeds, [nothing] * len(observations))

    def _said(self, text: str, legal: Sequence[str]) -> str:
        rows = [row.partition(": ") for row in text.splitlines() if not row.startswith(" ")]
        words = [said.strip() for _, _, said in rows if said.strip()][1:]
        words = [word for word in words if word in legal] if legal else words
        counted = Counter(words)
        best = max(counted.values(), default=0)
        return next((word for word in words if counted[word] == best), legal[0] if legal else self.silence)
