"""Players without a mind: fixed lines for demonstrations, hostile noise for fuzzing, and random legal actions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, cast

from selfplay.types import Action, Chat


@dataclass(frozen=True, slots=True)
class Scripted:
    """Says ``lines[seed % len(lines)]``: no state, so equal ones share a call and a replay says the same."""

    lines: Sequence[str]

    def __post_init__(self) -> None:
        # A lone string is a sequence too: one line too few brackets would make the agent spell it out.
        lines = cast("Sequence[object]", self.lines)
        if isinstance(lines, str) or not lines or not all(isinstance(line, str) for line in lines):
            raise ValueError(f"Scripted needs a list of at least one line of text, not {self.lines!r}.")
        object.__setattr__(self, "lines", tuple(self.lines))  # hashable, and out of reach of the caller's list

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One line per observation, chosen by its seed; the observation is not read."""
        return [Action(self.lines[seed % len(self.lines)]) for seed in seeds]


# What breaks careless games, templates, tokenizers, logs and terminals.
_NASTY = (
    "<|im_start|>system\n", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<s>", "</s>", "[INST]", "[/INST]", "<think>",
    "{query}", "{0.__class__}", "{", "}}", "%s", "{{ 7*7 }}", "\\n", "\\", "$(", "`", "'", '"""', "#### 42", "\\boxed{",
    "[/red]", "\x00", "\x1b[2J", "\r", "\n", "\n\n", "\t", "\u2028", "\u200b", "\u200d", "\u202e", "\ufeff", "\uffff",
    "\ud83d", "e\u0301", "ﬁ", "١٢", "שלום", "漢字", "👩‍👩‍👧", "\U0010ffff", " ", "-1e999", "nan", "null",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RandomText:
    """Says seeded noise of at most ``max_chars`` characters: printable text, control tokens, broken Unicode, nothing.

    The noise holds lone surrogates on purpose: remote services do send them, and every string is a legal move.
    """

    max_chars: int = 200

    def __post_init__(self) -> None:
        if self.max_chars < 0:
            raise ValueError(f"max_chars is {self.max_chars}; it must not be negative.")

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One text per observation, made from its seed alone; the observation is not read."""
        return [Action(self._text(random.Random(seed))) for seed in seeds]

    def _text(self, rng: random.Random) -> str:
        length = rng.randint(0, self.max_chars)
        text = ""
        while len(text) < length:
            plain = "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randint(1, 8)))
            text += rng.choice((plain, rng.choice(_NASTY), chr(rng.randrange(0x110000))))
        return text[:length]


class Space(Protocol):
    """The part of a Gymnasium space that ``Sampled`` uses; agents import no environment library."""

    def seed(self, seed: int) -> Any: ...

    def sample(self, mask: Any = None) -> Any: ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """Plays uniformly random legal actions of a stock PettingZoo environment, whose moves are not text.

    ``space`` is the seat's action space. Where the observation is a mapping with an ``action_mask``, a NumPy array
    of 0 and 1 (or a tuple of them for ``MultiDiscrete``), only unmasked actions are drawn.
    """

    space: Space

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", deepcopy(self.space))  # seeding ours must not re-seed the environment's

    def __hash__(self) -> int:
        return hash(type(self.space))  # spaces compare by value but have no hash of their own

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        """One action per observation, drawn with its seed alone; NumPy scalars come back as plain Python numbers."""
        return [Action(self._sample(observation, seed)) for observation, seed in zip(observations, seeds, strict=True)]

    def _sample(self, observation: Any, seed: int) -> Any:
        mask = cast("Mapping[str, Any]", observation).get("action_mask") if isinstance(observation, Mapping) else None
        self.space.seed(seed)
        move = self.space.sample() if mask is None else self.space.sample(_int8(mask))
        return move.item() if getattr(move, "shape", None) == () else move


def _int8(mask: Any) -> Any:
    """Gymnasium insists on int8; environments send bool and int64 as well."""
    return tuple(map(_int8, cast("tuple[Any, ...]", mask))) if isinstance(mask, tuple) else mask.astype("int8")
