"""A guesser for twenty questions about numbers: it halves what is left until one number remains."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat

_NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True, slots=True)
class Bisector:
    """Finds a whole number from ``low`` to ``high`` in at most log2(high - low + 1) questions, rounded up, and a guess.

    ``asks`` and ``guesses`` are its sentences, with ``{number}`` in them; a question is whether the number is at least
    that much, and any other answer than ``no_word`` but in another case is a yes. It guesses early when its messages
    are at an end. It reads ``infos["state"]`` (``asked`` and ``left``, as JSON) and nothing else.
    """

    low: int = 0
    high: int = 100
    asks: str = "Is it at least {number}?"
    guesses: str = "My guess is {number}."
    no_word: str = "no"

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}.")
        for key, text in (("asks", self.asks), ("guesses", self.guesses)):
            if "{number}" not in text:
                raise ValueError(f"{key}={text!r} needs {{number}} where the number stands.")

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """Where nobody says what was asked: the first question."""
        return [Action(self._says({"asked": [], "left": 2})) for _ in observations]

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One question, or the guess, per row."""
        return [Action(self._says(json.loads(info["state"]))) for info in infos]

    def _says(self, state: Mapping[str, Any]) -> str:
        low, high = self.low, self.high
        for question, answer in state["asked"]:
            number = int(_NUMBER.findall(question)[-1])
            if str(answer).casefold() == self.no_word:
                high = min(high, number - 1)
            else:
                low = max(low, number)
        middle = (low + high + 1) // 2
        says = self.guesses if low >= high or state["left"] < 2 else self.asks
        return says.replace("{number}", str(middle))
