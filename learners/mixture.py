"""The loss of self-play pre-training as pure functions: fragments beside a corpus, and words that an opponent knew.

Shape legend: N tokens. Losses are negative log-probabilities in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def annealed(start: float, end: float, taken: int, steps: int | None) -> float:
    """A value that goes from ``start`` to ``end`` in a straight line over ``steps`` steps; ``start`` where their number
    is not known."""
    if not steps:
        return start
    done = min(1.0, taken / steps)
    return (1 - done) * start + done * end


def shares(
    weights: Sequence[float], lengths: Sequence[int], corpus_tokens: int, mu: float
) -> tuple[list[float], float]:
    """What one token of each fragment, and one of the corpus, weighs in

        L = (1 - mu) CE(corpus) + mu sum_i w_i CE(x_i) / sum_i w_i, where CE is a mean over tokens.

    Where no fragment has a weight above 0, L is CE(corpus): there is nothing for the rest to be a mean of. Raises
    ``ValueError`` for a weight outside [0, 1].
    """
    for weight in weights:
        if not 0 <= weight <= 1:
            raise ValueError(f"a fragment weighs {weight}: it must be between 0 and 1")
    total = sum(weights)
    if not total:
        return [0.0] * len(weights), 1 / corpus_tokens
    mine = [mu * weight / total / length for weight, length in zip(weights, lengths, strict=True)]
    return mine, (1 - mu) / corpus_tokens


def harder_than_before(loss_N: Tensor, opponent_N: Tensor) -> Tensor:
    """w = sigmoid(sg(loss) - loss of a frozen earlier self), over its mean, (N,): a token that the model now knows
    worse than its opponent did weighs more than 1; a model that is its own opponent has w = 1
    (github.com/woodRock/self-play, which trains on (1 - lambda) CE + lambda mean(w CE))."""
    weight_N = torch.sigmoid(loss_N.detach() - opponent_N)
    return weight_N / weight_N.mean()


def beaten(scores: Sequence[float]) -> list[float]:
    """For each of a group, the share of the others that score less, ties counting half; 1 for one that is alone: a
    comparison that nobody made says nothing against it."""
    if len(scores) == 1:
        return [1.0]
    return [
        (sum((mine > other) + 0.5 * (mine == other) for other in scores) - 0.5) / (len(scores) - 1) for mine in scores
    ]
