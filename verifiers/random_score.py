"""The random-reward control: whatever a run gains under it did not come from a verifier (arXiv 2506.10947)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class RandomScore:
    """Scores every case 0.0 or 1.0 with even odds, whatever it says, and the same again in a replay.

    The coin is a hash of (``seed``, the call, query, answer, how often this pair came before in the call). Without
    the last, identical siblings would always earn the same. Without the call, an answer that is given in every step
    would always earn the same, and a policy could learn which answers the hash favours: the control would leak. The
    call enters as the unordered set of its cases, so the order of a batch does not matter.
    """

    seed: int = 0

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in {0.0, 1.0} per case."""
        pairs = [json.dumps([case["query"], case["answer"]]) for case in cases]
        call = _digest([self.seed, *sorted(pairs)])
        seen: Counter[str] = Counter()
        scores: list[float] = []
        for pair in pairs:
            scores.append(float(_digest([call, pair, seen[pair]])[0] & 1))
            seen[pair] += 1
        return scores


def _digest(values: Sequence[object]) -> bytes:
    """JSON keeps the values apart and spells out lone surrogates, so that any string can be hashed."""
    text = json.dumps([value.hex() if isinstance(value, bytes) else value for value in values])
    return blake2b(text.encode(), digest_size=16).digest()
