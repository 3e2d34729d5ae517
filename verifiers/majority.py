"""Agreement with the most frequent answer to the same question: a reward without labels."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from selfplay.compose import did_you_mean
from selfplay.deadline import check
from verifiers.equality import Equality, Tally, final, plain
from verifiers.sympy_solver import SympySolver

TIES = ("nan", "first")


class Majority:
    """1 for answers of the class that most of the call's answers to the same query belong to, 0 for the others.

    The pseudo-label of test-time reinforcement learning (arXiv 2504.16084) and R-Zero (2508.05004). Two answers are of
    one class when the maths verifier says so, or, where it cannot tell, by their words (``verifiers/equality.py``). A
    vote with fewer than ``min_votes`` voters decides nothing: nan for whoever voted. So does one that is tied, unless
    ``ties`` is ``first``: then the class wins whose first answer stands first in the call, so that R-Zero's Challenger
    and the proposer of Self-Questioning Language Models (2508.03682) are paid for a split vote, which both are to find.

    An answer that says nothing (blank, no letter or digit, a thought that never ends, the question said back) has no
    vote and scores 0; so does one that mathematics cannot read when ``maths_only`` is set. The query's sealed
    ``reference`` is not looked at.

    What the policy says most often wins, right or wrong: pseudo-labels are no better than the model, and get worse as
    it trains on them (R-Zero measures 79 % right, then 63 %; 2505.21444 sudden collapse). Watch an exam beside it.
    ``deadline`` and ``memory_mib`` are the maths worker's.
    """

    runs_in: ClassVar[Literal["thread"]] = "thread"

    def __init__(
        self,
        min_votes: int = 2,
        maths_only: bool = False,
        deadline: float = 2.0,
        memory_mib: int = 1024,
        ties: str = "nan",
    ) -> None:
        if min_votes < 1:
            raise ValueError(f"min_votes={min_votes} must be at least 1.")
        named = str(ties)  # on the command line ties=nan is the number
        if named not in TIES:
            raise ValueError(f"ties={ties!r} is unknown{did_you_mean(named, TIES)}: use {' or '.join(TIES)}.")
        self._min_votes, self._maths_only, self._first_wins = min_votes, maths_only, named == "first"
        self._maths = SympySolver(deadline=deadline, memory_mib=memory_mib)
        self._equality = Equality(self._maths)
        self._tally = Tally("ties", "too_few_votes", "says_nothing")

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in {0, 1, nan} per case; reads the slots ``query`` and ``answer``."""
        finals = [self._final(case["query"], case["answer"]) for case in cases]
        polls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for case, text in zip(cases, finals, strict=True):
            polls[case["query"]][text] += bool(text)
        verdicts = {query: self._count(query, +votes) for query, votes in polls.items()}
        return [verdicts[case["query"]].get(text, 0.0) for case, text in zip(cases, finals, strict=True)]

    def metrics(self) -> dict[str, float]:
        """Since the last call: queries with ``ties`` and with ``too_few_votes``, answers that said nothing
        (``says_nothing``), the mean ``share`` of the votes that a winner got, and what its maths worker did not answer
        (``timeouts``, ``worker_deaths``)."""
        return self._tally.metrics(self._maths.metrics())

    def close(self) -> None:
        """End the maths worker."""
        self._maths.close()

    def _final(self, query: str, answer: str) -> str:
        check()
        text = final(answer, maths_only=self._maths_only)
        if not text or plain(text) == plain(query):
            self._tally.counts["says_nothing"] += 1
            return ""
        return text

    def _count(self, query: str, votes: Counter[str]) -> dict[str, float]:
        """The score of each final answer to one query."""
        voters = votes.total()
        if voters < self._min_votes:
            self._tally.counts["too_few_votes"] += bool(voters)
            return dict.fromkeys(votes, math.nan)
        named = self._equality.classes(votes, query)
        sizes: Counter[str] = Counter()
        for text, number in votes.items():
            sizes[named[text]] += number
        (winner, most), *others = sizes.most_common(2)
        if others and others[0][1] == most:  # of equals `most_common` has the one first that was counted first
            self._tally.counts["ties"] += 1
            if not self._first_wins:
                return dict.fromkeys(votes, math.nan)
        self._tally.shares.append(most / voters)
        return {text: float(named[text] == winner) for text in votes}
