"""Asked again, would the model say the same? Self-consistency as a reward (arXiv 2203.11171), without labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from selfplay.seeds import derive
from selfplay.types import Case
from verifiers.equality import Equality, Tally, final, plain
from verifiers.sympy_solver import SympySolver


class Consistency:
    """The share of ``samples`` new answers to the query that agree with the answer; in {0, 1/n, ..., 1} or nan.

    ``engine`` answers anew at ``temperature``: a frozen reference, or the live model (``verifier.engine='${model}'``).
    It is told ``told``, where ``{query}`` stands for the query. Every distinct query is asked once for all its answers,
    by seeds of ``seed`` and the query, so equal cases score equally.

    Two answers agree when the maths verifier says so, or, where it cannot tell, by their words
    (``verifiers/equality.py``). A new answer that says nothing agrees with nothing; where all of them say nothing, or
    the query leaves no room in the model's context, the score is nan: that is not the answer's fault. An answer that
    says nothing, or says the query back, scores 0. What the model believes is rewarded, right or wrong: keep an exam
    beside it. ``deadline`` and ``memory_mib`` are the maths worker's.
    """

    runs_in: ClassVar[Literal["main"]] = "main"

    def __init__(
        self,
        engine: Any,
        samples: int = 4,
        *,
        temperature: float = 1.0,
        max_tokens: int = 512,
        told: str = "{query}",
        seed: int = 0,
        deadline: float = 2.0,
        memory_mib: int = 1024,
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples={samples} must be at least 1")
        if samples > 1 and temperature == 0:
            raise ValueError(f"samples={samples} at temperature=0 are all the same: set a temperature, or samples=1")
        try:
            told.format(query="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"told={told!r} may hold {{query}} and no other braces") from error
        self.engine, self.samples, self.temperature, self.max_tokens = engine, samples, temperature, max_tokens
        self.told, self.seed = told, seed
        self._maths = SympySolver(deadline=deadline, memory_mib=memory_mib)
        self._equality = Equality(self._maths)
        self._tally = Tally("too_long", "silent", "said_nothing")

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        anew = self._ask(dict.fromkeys(case["query"] for case in cases))
        known: dict[tuple[str, str], float] = {}
        scores: list[float] = []
        for case in cases:
            key = case["query"], case["answer"]
            if key not in known:
                known[key] = self._score(*key, anew.get(case["query"]))
            scores.append(known[key])
        self._tally.shares += [score for score in scores if not math.isnan(score)]
        return scores

    def metrics(self) -> dict[str, float]:
        """Since the last call: queries ``too_long`` to be asked and ``silent`` (no new answer said anything), new
        answers that ``said_nothing``, the mean ``share`` of agreement, and what the maths worker did not answer
        (``timeouts``, ``worker_deaths``)."""
        return self._tally.metrics(self._maths.metrics())

    def close(self) -> None:
        """End the maths worker."""
        self._maths.close()

    def _ask(self, queries: dict[str, None]) -> dict[str, Counter[str]]:
        """The new answers to each query that can be asked, as ``final`` gives them, with how often; those that say
        nothing are left out."""
        chats = {query: {"system": "", "user": self.told.format(query=query)} for query in queries}
        fits = self.engine.fits(list(chats.values()), self.max_tokens)
        asked = [query for query, fit in zip(chats, fits, strict=True) if fit]
        self._tally.counts["too_long"] += len(chats) - len(asked)
        if not asked:
            return {}
        rows = [(query, number) for query in asked for number in range(self.samples)]
        completions = self.engine.generate(
            [chats[query] for query, _ in rows],
            temperature=self.temperature,
            top_p=1.0,
            max_tokens=self.max_tokens,
            seeds=[derive(self.seed, "again", number, query) for query, number in rows],
        )
        anew: dict[str, Counter[str]] = {query: Counter() for query in asked}
        for (query, _), completion in zip(rows, completions, strict=True):
            text = _said(query, completion.text)
            anew[query][text] += bool(text)
            self._tally.counts["said_nothing"] += not text
        self._tally.counts["silent"] += sum(not votes.total() for votes in anew.values())
        return {query: +votes for query, votes in anew.items()}

    def _score(self, query: str, answer: str, anew: Counter[str] | None) -> float:
        if not anew:
            return math.nan
        text = _said(query, answer)
        if not text:
            return 0.0
        return sum(count for other, count in anew.items() if self._equality.same(text, other, query)) / self.samples


def _said(query: str, answer: str) -> str:
    """What an answer comes down to; "" if it says nothing, or only what was asked."""
    text = final(answer)
    return "" if plain(text) == plain(query) else text
