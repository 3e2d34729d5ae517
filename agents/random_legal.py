"""A player at random: any legal move, each as likely as the others, where the game lists them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from selfplay.types import Action, Chat

_SAMPLE = re.compile(r"\[[^\[\]\n]{1,40}\]")
_SPEAKER = re.compile(r"\[(?:GAME|Player)\b[^\]]*\]", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\b[A-Za-z]\b|\b(?:row|col|column|index|number|amount|from|to|x|y)\b|\d+", re.IGNORECASE)

FALLBACK = ("yes", "no", "0", "1", "2", "3")


@dataclass(frozen=True, slots=True)
class RandomLegal:
    """Plays one of ``infos["legal_actions"]``, drawn by the row's seed; it reads nothing else.

    Where a game lists no moves, it says what the chat shows in brackets, ``[check]`` or ``[2 3]``, as rules written
    for language models do: one of these at random, in every second one with other digits in the place of numbers and
    placeholders. Where nothing stands in brackets it says one of ``fallback``.
    """

    fallback: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lines = cast("Sequence[object]", FALLBACK if self.fallback is None else self.fallback)
        if isinstance(lines, str) or not lines or not all(isinstance(line, str) for line in lines):
            raise ValueError(f"RandomLegal needs a list of at least one line of text as fallback, not {lines!r}.")
        object.__setattr__(self, "fallback", tuple(lines))  # hashable, and out of reach of the caller's list

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One move per row, drawn with its seed alone."""
        return [
            self._choose(observation, random.Random(seed), info.get("legal_actions") or ())
            for observation, seed, info in zip(observations, seeds, infos, strict=True)
        ]

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One move per row where nobody knows which are legal."""
        return [
            self._choose(observation, random.Random(seed), ())
            for observation, seed in zip(observations, seeds, strict=True)
        ]

    def _choose(self, observation: Chat, rng: random.Random, legal: Sequence[Any]) -> Action:
        if legal:
            return Action(rng.choice(legal))
        shown = _SAMPLE.findall(observation["user"])
        samples = sorted({text for text in shown if not _SPEAKER.fullmatch(text)})
        if not samples:
            return Action(rng.choice(cast("Sequence[str]", self.fallback)))
        move = rng.choice(samples)
        return Action(_PLACEHOLDER.sub(lambda _: str(rng.randrange(10)), move) if rng.random() < 0.5 else move)
