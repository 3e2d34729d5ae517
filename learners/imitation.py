"""Somebody's words beside a learner's own loss: a cross-entropy that keeps what the model could do before.

Shape legend: B completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from learners.corpus import Corpus, Keys
from models.engine import Engine
from selfplay.compose import did_you_mean
from selfplay.types import Completion

_KEYS = ("corpus", "weight", "batch", "says", "context")
_CALLED = Keys("learner.sft.corpus", "learner.sft.says", "learner.sft.context")


@dataclass(frozen=True, slots=True)
class Window:
    """Words of the corpus, and what one of their tokens weighs in the loss."""

    completion: Completion
    share: float


class Imitation:
    """In every optimizer step ``weight`` times the mean over ``batch`` windows of a corpus of their mean -log pi(token)
    (SPAG, arXiv 2404.10642, has 0.5 on Alpaca; InstructGPT, arXiv 2203.02155, calls its like PPO-ptx).

    ``corpus``, ``says`` and ``context`` are ``Corpus``'s: a text, or JSONL with rows of ``prompt`` and ``reference``,
    of which the reply is learned. Its cursor is state. Raises ``ValueError`` for keys that cannot be followed.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: str | Path,
        *,
        weight: float = 0.5,
        batch: int = 16,
        says: str | None = None,
        context: int = 256,
        seed: int = 0,
    ) -> None:
        if not weight > 0 or batch < 1:
            raise ValueError(f"learner.sft: weight={weight} must be above 0, and batch={batch} at least 1")
        self.weight, self.batch = weight, batch
        self.corpus = Corpus(corpus, engine, says=says, context=context, seed=seed, keys=_CALLED)

    def draw(self) -> list[Window]:
        """The next windows, each counting the same, however long it is."""
        drawn = self.corpus.draw(self.batch)
        return [Window(words, self.weight / (len(drawn) * len(words.token_ids))) for words in drawn]


def imitation_loss(logp_BT: Tensor, windows: Sequence[Window]) -> Tensor:
    """-sum_b share_b sum_t log pi(token_bt), a scalar."""
    return -(logp_BT.new_tensor([window.share for window in windows]) * logp_BT.sum(-1)).sum()


def make_imitation(engine: Engine, keys: Mapping[str, Any] | None, seed: int) -> Imitation | None:
    """The imitation that ``learner.sft`` describes, if any. Raises ``ValueError`` for an unknown key."""
    if keys is None:
        return None
    if not isinstance(keys, Mapping):
        raise ValueError(f"learner.sft={keys!r} is no set of keys: write {{corpus: my.jsonl, weight: 0.5}}")
    for key in keys:
        if key not in _KEYS:
            raise ValueError(f"learner.sft has no key {key!r}{did_you_mean(key, _KEYS)}: use {', '.join(_KEYS)}")
    if "corpus" not in keys:
        raise ValueError("learner.sft needs a corpus: {corpus: my.jsonl, weight: 0.5}")
    return Imitation(engine, seed=seed, **keys)
