"""Imitation: the cross-entropy of given words, as pure functions.

Shape legend: B completions, T tokens. ``logp_BT`` is log pi(token_t | prefix) with gradient, 0 outside the mask: the
prompt is in no term.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def cross_entropy(logp_BT: Tensor, share_B: Tensor) -> Tensor:
    """-sum_b share_b sum_t log pi(token_bt): a scalar, in nats. ``token_shares`` make it the mean over tokens."""
    return -(share_B * logp_BT.sum(-1)).sum()


def token_shares(lengths: Sequence[int], weights: Sequence[float] | None = None) -> list[float]:
    """w_b / sum_b w_b |o_b| for each completion: every token counts alike, whatever it was batched with.

    ``weights`` (1 each) say how much a completion's tokens count. Weights that are all 0 give shares of 0: nothing is
    learned, and there is no nan. Raises ``ValueError`` for a weight below 0 or not finite.
    """
    given = list(weights) if weights is not None else [1.0] * len(lengths)
    if not all(0 <= weight < float("inf") for weight in given):
        raise ValueError(f"the weights of an imitation must be finite and not below 0, not {min(given)}")
    total = sum(weight * length for weight, length in zip(given, lengths, strict=True))
    return [weight / total if total else 0.0 for weight in given]


def sequence_shares(count: int) -> list[float]:
    """1 / B for each of B rows: every row counts alike, however long it is."""
    return [1 / count] * count
