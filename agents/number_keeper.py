"""An honest keeper for twenty questions about numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat

_NUMBER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class NumberKeeper:
    """Answers a question of the form ``asks``, an expression with a group ``number``: whether the secret number is at
    least that much. Its answers are the legal moves of the game: the first for yes, the second for no, and the last for
    any other question, or for a secret that is no number.

    It reads ``infos["state"]`` (``word`` and ``question``, as JSON) and ``infos["legal_actions"]``.
    """

    asks: str = r"(?:\bat least\s+|^\s*)(?P<number>\d{1,18})\b"

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.asks).groupindex
        except re.error as error:
            raise ValueError(f"asks={self.asks!r} is not a regular expression: {error}.") from error
        if "number" not in groups:
            raise ValueError(f"asks={self.asks!r} has no group 'number'.")

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """Where nobody says what was asked, nor what the answers are."""
        return [Action("maybe") for _ in observations]

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One answer per row."""
        return [Action(self._answers(json.loads(info["state"]), info["legal_actions"])) for info in infos]

    def _answers(self, state: Mapping[str, Any], legal: Sequence[str]) -> str:
        asked, word = re.search(self.asks, state["question"]), state["word"].strip()
        if asked is None or not _NUMBER.fullmatch(word):
            return legal[-1]
        return legal[0] if int(word) >= int(asked["number"]) else legal[1]
