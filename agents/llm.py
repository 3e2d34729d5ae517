"""The language model in a seat: an engine and how to sample from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.compose import did_you_mean
from selfplay.types import Action, Chat

MOVES = ("free", "choose")


@dataclass(frozen=True)
class LLM:
    """Equal players (same engine, same sampling) share one batch, whichever seats they sit in.

    ``trained`` says whether a learner may train on its turns. On-policy learning needs ``temperature`` 1 and
    ``top_p`` 1. A chat that does not fit the model's context is answered with silence, which forfeits.

    ``moves`` is ``free``, and the game reads whatever is said, or ``choose``: where a game lists the legal moves
    (``legal_actions``), the model picks one of them by its own probabilities, and there is nothing to forfeit;
    ``top_p`` and ``max_tokens`` are for free words. Raises ``ValueError``.
    """

    engine: Any
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    trained: bool = True
    moves: str = "free"

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise ValueError(
                f"agent: temperature={self.temperature} must be >= 0, top_p={self.top_p} in (0, 1], "
                f"max_tokens={self.max_tokens} >= 1"
            )

        if self.moves not in MOVES:
            near = did_you_mean(str(self.moves), MOVES)
            raise ValueError(f"agent.moves={self.moves!r} is unknown{near}: use {', '.join(MOVES)}")
        if self.moves == "choose" and getattr(self.engine, "choose", None) is None:
            raise ValueError(
                f"agent.moves=choose needs a model whose next tokens are weighed here, and {self.engine.name} "
                f"({type(self.engine).__name__}) has no `choose`: use model=hf, or agent.moves=free"
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

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """Answer each observation, by one of ``legal_actions`` where ``infos`` list them and ``moves`` is ``choose``.

        A legal action that is no text is said as Python writes it, and the action itself is the move."""
        if self.moves == "free":
            return self.act(observations, seeds)
        legal = [info.get("legal_actions") for info in infos]
        listed = [[] if moves is None else list(moves) for moves in legal]
        rows = [i for i, moves in enumerate(listed) if moves]
        free = [i for i, moves in enumerate(listed) if not moves]
        actions = [Action("") for _ in observations]
        if free:
            spoken = self.act([observations[i] for i in free], [seeds[i] for i in free])
            for i, action in zip(free, spoken, strict=True):
                actions[i] = action
        if rows:
            completions = self.engine.choose(
                [observations[i] for i in rows],
                [[str(move) for move in listed[i]] for i in rows],
                temperature=self.temperature,
                seeds=[seeds[i] for i in rows],
            )
            for i, completion in zip(rows, completions, strict=True):
                if completion.text:
                    move = next(move for move in listed[i] if str(move) == completion.text)
                    # A move that was the only one has no tokens, and nothing to train on.
                    actions[i] = Action(move, completion if self.trained and completion.token_ids else None)
        return actions
