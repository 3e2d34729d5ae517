"""How far a hint moves a model away from what it says without it: the signal of G-Zero (arXiv 2605.09959)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from selfplay.types import Case

AT_ONCE = 32
"""Answers that are read in one pass."""

Row = tuple[str, str, str]
"""Query, hint, answer."""


class HintDelta:
    """delta = mean over tokens of log pi(answer | query) - log pi(answer | query, hint), in nats, without a bound.

    The answer is the Solver's own, given without the hint: where the hint makes it less likely, delta is above 0. The
    shape ``hint_delta`` pays a Challenger by it. ``engine`` is pi, the live model (``${model}``) or a frozen one;
    ``told`` is how the question is put, ``hinted`` how it is put with the hint; the slot ``hint`` holds that. nan
    without a hint or an answer, and where either prompt leaves no room for the answer.

    The answer's words are read with the tokens that the tokenizer gives them, end of sequence included, which need not
    be those that were sampled; both times they are the same.
    """

    runs_in: ClassVar[Literal["main"]] = "main"
    slot_keys: ClassVar[Mapping[str, Sequence[str]]] = {"hint": ()}

    def __init__(
        self, engine: Any, hint: str = "hint", told: str = "{query}", hinted: str = "{query}\n\nHint: {hint}"
    ) -> None:
        for name, text in (("told", told), ("hinted", hinted)):
            try:
                shown = text.format(query="q", **({"hint": "h"} if name == "hinted" else {}))
            except (KeyError, IndexError, AttributeError, ValueError) as error:
                known = "{query} and {hint}" if name == "hinted" else "{query}"
                raise ValueError(f"{name}={text!r} may hold {known} and no other braces") from error
            if name == "hinted" and shown == text.format(query="q", hint=""):
                raise ValueError(f"hinted={text!r} must hold {{hint}}, or nothing is compared")
        self.engine, self.hint, self.told, self.hinted = engine, hint, told, hinted
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        """One delta in nats, or nan, per case; reads the slots ``query``, ``answer`` and the hint's."""
        rows: list[Row] = [(case["query"], case.get(self.hint, ""), case["answer"]) for case in cases]
        asked = sorted({row for row in rows if row[1].strip() and row[2].strip()})
        pairs = {row: pair for row in asked if (pair := self._encoded(row)) is not None}
        means = self._means([completion for pair in pairs.values() for completion in pair])
        found = {row: means[2 * i] - means[2 * i + 1] for i, row in enumerate(pairs)}
        self._counts += Counter(asked=len(asked), too_long=len(asked) - len(pairs))
        return [found.get(row, math.nan) for row in rows]

    def metrics(self) -> dict[str, float]:
        """Since the last call: distinct answers ``asked`` about, and those that were ``too_long``."""
        counts, self._counts = self._counts, Counter()
        return {name: float(counts[name]) for name in ("asked", "too_long")}

    def _encoded(self, row: Row) -> tuple[Any, Any] | None:
        """The answer after the question alone, and after the question with the hint; None where there is no room."""
        query, hint, answer = row
        chats = [
            {"system": "", "user": text}
            for text in (self.told.format(query=query), self.hinted.format(query=query, hint=hint))
        ]
        alone, helped = (self.engine.encode(chat, answer) for chat in chats)
        return (alone, helped) if all(self.engine.fits(chats, len(alone.token_ids))) else None

    def _means(self, completions: Sequence[Any]) -> list[float]:
        """The mean log-probability per token of each completion, read in order of their lengths."""
        import torch  # costs seconds; whoever only looks at the configuration should not wait for it

        order = sorted(range(len(completions)), key=lambda i: len(completions[i].prompt_ids + completions[i].token_ids))
        means = [math.nan] * len(completions)
        for first in range(0, len(order), AT_ONCE):
            part = order[first : first + AT_ONCE]
            with torch.no_grad():
                logp_BT, mask_BT = self.engine.logprobs([completions[i] for i in part])
                told_B = logp_BT.float().masked_fill(~mask_BT, 0.0).sum(1) / mask_BT.sum(1)
            for i, value in zip(part, told_B.tolist(), strict=True):
                means[i] = value
        return means
