"""A scripted juror for the debate game: undecided at first, then for the side that had more to say."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class WordyJuror:
    """Votes for the role whose speeches hold more different words, in whatever case; on a tie, and before anybody has
    spoken, for a legal move that is no side, or for a side that the row's seed draws where there is none.

    It reads ``infos["state"]`` (the speeches of each role, as JSON) and ``infos["legal_actions"]``.
    """

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """Where nobody says what was heard: it abstains."""
        return [Action("undecided") for _ in observations]

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One vote per row."""
        return [
            Action(self._votes(json.loads(info["state"]), info["legal_actions"], seed))
            for info, seed in zip(infos, seeds, strict=True)
        ]

    def _votes(self, speeches: Mapping[str, Sequence[str]], legal: Sequence[str], seed: int) -> str:
        words = {role: len(set(_WORD.findall(" ".join(said).casefold()))) for role, said in speeches.items()}
        most = [role for role, count in words.items() if count == max(words.values())]
        if len(most) == 1:
            return most[0]
        abstentions = [move for move in legal if move not in words]
        return abstentions[0] if abstentions else random.Random(seed).choice(most)
