"""One way to put questions to a model that judges: equal ones once, too long ones not at all, and only what a strict
reader can read counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from selfplay.seeds import derive

Reader = Callable[[str], float | None]
"""From a judge's reply alone to what it decided; None where it cannot be read."""

MASS = 0.5
"""What the probabilities of the offered replies must add up to: below it the judge wants to say something else."""


class Asker:
    """Asks ``engine`` (``fits``, ``generate``; for ``expected`` also ``choices``) what ``read`` can read.

    ``samples`` replies are drawn at ``temperature`` and the readable ones averaged. With ``replies`` (texts of one
    token each that ``read`` can read) nothing is drawn: what they mean is averaged by their probability.
    """

    def __init__(
        self,
        engine: Any,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        replies: Sequence[str] = (),
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples={samples} must be at least 1")
        if samples > 1 and temperature == 0:
            raise ValueError(f"samples={samples} at temperature=0 are all the same: set a temperature, or samples=1")
        if samples > 1 and replies:
            raise ValueError(f"samples={samples} and expected=true exclude each other: nothing is sampled")
        self.engine, self.max_tokens, self.temperature = engine, max_tokens, temperature
        self.samples, self.seed, self.replies = samples, seed, tuple(replies)

    def __call__(self, prompts: Iterable[str], read: Reader) -> dict[str, float]:
        """What the judge decided on each distinct prompt; nan where no reply can be read. Prompts that leave no room
        in the model's context are absent."""
        chats = [{"system": "", "user": prompt} for prompt in dict.fromkeys(prompts)]
        fits = self.engine.fits(chats, 1 if self.replies else self.max_tokens)
        asked = [chat for chat, fit in zip(chats, fits, strict=True) if fit]
        if not asked:
            return {}
        found = self._weigh(asked, read) if self.replies else self._sample(asked, read)
        return {chat["user"]: decided for chat, decided in zip(asked, found, strict=True)}

    def _sample(self, chats: Sequence[dict[str, str]], read: Reader) -> list[float]:
        rows = [(chat, number) for chat in chats for number in range(self.samples)]
        completions = self.engine.generate(
            [chat for chat, _ in rows],
            temperature=self.temperature,
            top_p=1.0,
            max_tokens=self.max_tokens,
            seeds=[derive(self.seed, "judge", *([number] if number else []), chat["user"]) for chat, number in rows],
        )
        values = [read(completion.text) for completion in completions]
        width = self.samples
        return [_mean([v for v in values[i : i + width] if v is not None]) for i in range(0, len(values), width)]

    def _weigh(self, chats: Sequence[dict[str, str]], read: Reader) -> list[float]:
        meant = [read(reply) for reply in self.replies]
        found: list[float] = []
        for logprobs in self.engine.choices(chats, self.replies):
            chances = [math.exp(value) for value in logprobs]
            mass = math.fsum(chances)
            total = math.fsum(p * m for p, m in zip(chances, meant, strict=True) if m is not None)
            found.append(total / mass if mass >= MASS else math.nan)
        return found


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
