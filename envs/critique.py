"""Critique and revision by written principles (Constitutional AI, arXiv 2212.08073, section 3) as a game."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line


class Critique(LanguageGame):
    """A question, a draft, and ``rounds`` of critique and revision, each by a principle that the seed draws.

    ``turns`` are those of the one who asks, of the drafter, the critic and the reviser; the last two speak in every
    round. The drafter's turn fills ``draft``, the reviser's ``answer``, which holds the draft until it is revised; the
    slot ``principle`` is the round's. Some turn before the critic's names ``answer`` and ``principle`` by empty groups.

    ``principles`` is a list of sentences that complete "A good response ...", a mapping from names to them, or a YAML
    file of either. Which ones a question is held to depends on ``reset``'s seed and on the question: its drafts, and
    all that is made of them, have the same ones, another question has others, and no principle comes back before all
    were used. Raises ``GameError``.
    """

    def __init__(
        self,
        turns: Sequence[Mapping[str, str]],
        payoff: Mapping[str, Mapping[str, float]],
        principles: str | Sequence[str] | Mapping[str, str],
        *,
        rounds: int = 1,
        name: str = "critique_v0",
        personas: Mapping[str, str] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            turns, payoff, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if len(self.script) != 4:
            raise GameError(f"a critique has four turns (question, draft, critique, revision), not {len(self.script)}")
        for slot in ("draft", "answer", "principle"):
            if slot not in self.slots:
                raise GameError(f"no turn of the critique fills the slot {slot!r}")
        if rounds < 1:
            raise GameError(f"rounds={rounds}: a critique has at least one round")
        self.rounds, self.chance = rounds, 0
        self.principles = _load(principles)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.chance = random.Random(seed).getrandbits(64)
        super().reset(seed, options)

    def next_line(self) -> Line | None:
        """Question and draft, then critique and revision in turn."""
        if self.spoken < 2:
            return self.script[self.spoken]
        if self.spoken == 2:
            self.case["answer"] = self.case["draft"]
        number, reviser = divmod(self.spoken - 2, 2)
        if number == self.rounds:
            return None
        if not reviser:
            self.case["principle"] = self.drawn(number)
        return self.script[2 + reviser]

    def drawn(self, number: int) -> str:
        """The principle of round ``number``, from 0: the question's own order of all, over and over."""
        order = list(self.principles)
        random.Random(f"{self.chance}/{self.case['query']}".encode("utf-8", "surrogatepass")).shuffle(order)
        return order[number % len(order)]


def _load(principles: str | Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    found: object = principles
    if isinstance(principles, str):
        try:
            found = yaml.safe_load(Path(principles).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise GameError(f"principles={principles!r} cannot be read: {str(error).splitlines()[0]}") from error
    listed = list(cast("Mapping[str, object]", found).values()) if isinstance(found, Mapping) else found
    texts = cast("Sequence[object]", listed) if isinstance(listed, list | tuple) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise GameError(f"principles={principles!r} are no sentences: give a list of texts, or names with texts")
    return tuple(str(text).strip() for text in texts)


raw_env = partial(shipped.raw, "critique")
env = partial(shipped.aec, "critique")
parallel_env = partial(shipped.parallel, "critique")
