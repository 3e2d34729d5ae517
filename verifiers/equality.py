"""When two answers say the same: one rule, symmetric, for everything that counts votes or agreement."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from selfplay.archive import plain
from selfplay.deadline import check
from verifiers.maths.extract import candidates
from verifiers.maths.tree import Unreadable
from verifiers.maths.values import read

Judge = Callable[[Sequence[Mapping[str, str]]], Sequence[float]]
"""A verifier that compares ``answer`` with ``reference``: 1 the same, 0 not, nan cannot tell."""

_INTEGER = re.compile(r"-?\d{1,300}", re.ASCII)


def final(answer: str, *, maths_only: bool = False) -> str:
    """What an answer comes down to: of the places where the maths verifier looks, the first that it can read.

    Where it can read none, the most binding place as text, if it holds a letter or a digit and words count
    (``maths_only`` is off); else "": the answer says nothing.
    """
    places = list(candidates(answer))
    for text in places:
        try:
            read(text)
        except Unreadable:
            continue
        return text
    return "" if maths_only or not any(map(str.isalnum, places[0])) else places[0]


class Tally:
    """What a verifier that compares answers counts between two looks at its metrics: ``counts`` of ``names``, and the
    ``shares`` of those that agree."""

    def __init__(self, *names: str) -> None:
        self.names, self.counts, self.shares = names, Counter[str](), list[float]()

    def metrics(self, worker: Mapping[str, float]) -> dict[str, float]:
        """The counts, the mean ``share`` if there is any, and what the maths worker did not answer (``timeouts``,
        ``worker_deaths``, of its own metrics); all begin again at 0."""
        metrics = {name: float(self.counts[name]) for name in self.names}
        metrics |= {name: worker[name] for name in ("timeouts", "worker_deaths")}
        if self.shares:
            metrics["share"] = math.fsum(self.shares) / len(self.shares)
        self.counts.clear()
        self.shares.clear()
        return metrics


class Equality:
    """Whether two final answers to one question are the same, by a maths verifier and else by their words.

    The verifier is asked in both directions, each answer once the reference. What it can tell must all be "the same",
    so that the relation is symmetric; where it cannot tell in either direction, equal words are equal answers.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def same(self, a: str, b: str, query: str = "") -> bool:
        """Whether ``a`` and ``b``, as ``final`` gives them, are one answer to ``query``."""
        if a == b:
            return True
        if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):
            return int(a) == int(b)
        check()
        cases = [{"query": query, "answer": x, "reference": y} for x, y in ((a, b), (b, a))]
        known = [score for score in self._judge(cases) if not math.isnan(score)]
        return all(score == 1.0 for score in known) if known else plain(a) == plain(b)

    def classes(self, votes: Mapping[str, int], query: str = "") -> dict[str, str]:
        """Each final answer's class, named by one of its members.

        An answer is compared with one member of each class only, so n answers in k classes cost at most n * k
        comparisons. The most frequent are asked first and ties go by the text: the order of the votes is no matter.
        """
        named: dict[str, str] = {}
        members: list[str] = []
        for text in sorted(votes, key=lambda text: (-votes[text], text)):
            found = next((member for member in members if self.same(member, text, query)), None)
            if found is None:
                members.append(text)
            named[text] = text if found is None else found
        return named
