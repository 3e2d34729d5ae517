"""A verifier made worse by a known amount: how good must a judge be before training on it helps?"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

Case = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Spoiled:
    """Shuffles a share of another verifier's scores among the cases of the batch.

    ``round(share * n)`` of the n scored cases are drawn and their scores permuted uniformly, so the scores as a
    whole, their mean and their spread, stay as they were and only their tie to the answers is cut. In expectation a
    perfect verifier of right and wrong answers falls to AUC = 1 - share / 2, at any rate of right answers: a clean
    pair is ranked right, a pair with a spoiled side is a coin flip on average. A drawn case may get its own score
    back (in a batch of one it always does): a shuffle that forbade it would carry the truth with its sign turned.

    The draw is seeded by (``seed``, the cases of the call), without state. nan (the verifier could not tell) stays
    where it is. A wrong number of scores is passed on for the caller to find.
    """

    verifier: Callable[[Sequence[Case]], Sequence[float]]
    share: float = 0.9
    seed: int = 0
    composite: ClassVar[bool] = True  # `verifier` is built, and isolated, by itself

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must lie between 0 (the verifier as it is) and 1 (noise).")

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        """The verifier's scores, a share of them moved to other cases."""
        scores = list(self.verifier(cases))
        told = [index for index, score in enumerate(scores) if score == score]
        # dict: a case may be any mapping, and JSON writes dicts only; it also spells out lone surrogates.
        content = json.dumps([self.seed, [dict(case) for case in cases]], sort_keys=True).encode()
        rng = random.Random(int.from_bytes(blake2b(content, digest_size=8).digest(), "big"))
        drawn = rng.sample(told, round(self.share * len(told)))
        spoiled = scores.copy()
        for source, target in zip(drawn, rng.sample(drawn, len(drawn)), strict=True):
            spoiled[target] = scores[source]
        return spoiled

    def metrics(self) -> dict[str, float]:
        """What the verifier itself counts."""
        own = getattr(self.verifier, "metrics", None)
        return own() if own is not None else {}
