"""The language model in a seat: an engine and how to sample from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat


@dataclass(frozen=True)
class LLM:
    """Equal players (same engine, same sampling) share one batch, whichever seats they sit in.

    ``trained`` says whether a learner may train on its turns. On-policy learning needs ``temperature`` 1 and
    ``top_p`` 1. A chat that does not fit the model's context is answered with silence, which forfeits.
    """

    engine: Any
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    trained: bool = True

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise ValueError(
                f"agent: temperature={self.temperature} must be >= 0, top_p={self.top_p} in (0, 1], "
                f"max_tokens={self.max_tokens} >= 1"
            )

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        fits = self.engine.fits(observations, self.max_tokens)
        rows = [i for i, fit in enumerate(fits) if fit]
        completions = self.engine.generate(
            [observations[i] for i in rows],
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seeds=[seeds[i] for i in rows],
        )
        actions = [Action("") for _ in observations]
        for i, completion in zip(rows, completions, strict=True):
            # A server's words come without tokens, and there is nothing to train on.
            trained = self.trained and bool(completion.token_ids)
            actions[i] = Action(completion.text, completion if trained else None)
        return actions
