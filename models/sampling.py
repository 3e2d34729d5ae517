"""Drawing tokens: counter-based uniforms and the inverse of the cumulative distribution.

Row i, position t of a completion uses one uniform number that is a hash of (seed_i, t): what a row says does not
depend on who shares its batch, on the batch's order, or on when its neighbours finish.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.native import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1) of shape (B, count), float32 with 24 random bits, by the SplitMix64 mix of seed + position."""
    with np.errstate(over="ignore"):
        state = np.asarray(seeds, dtype=np.uint64)[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return torch.from_numpy((state >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))


def say(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """``draw``, and the log-probability of each token at temperature 1, (B,) float32."""
    run = kernel("draw", logits_BV) if temperature > 0 and top_p == 1 else None
    if run is None:
        token_B = draw(logits_BV, uniform_B, temperature, top_p)
        return token_B, logits_BV.gather(1, token_B[:, None]).squeeze(1) - logits_BV.logsumexp(-1)
    rows, words = logits_BV.shape
    token_B, logprob_B = torch.empty(rows, dtype=torch.long), torch.empty(rows)
    scratch = torch.empty(torch.get_num_threads() * words)
    run(logits_BV.contiguous(), uniform_B.contiguous(), token_B, logprob_B, scratch, rows, words, 1 / temperature)
    return token_B, logprob_B


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """One token per row, (B,) int64. Temperature 0 takes the likeliest token.

    The inverse of the cumulative distribution costs one cumulative sum and one binary search; ``torch.multinomial``
    takes about twice as long at a vocabulary of 32k.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    probs = torch.softmax(logits_BV if temperature == 1 else logits_BV / temperature, -1)
    if top_p < 1:
        probs = _nucleus(probs, top_p)
    cdf = probs.cumsum(-1)
    total = cdf[:, -1:]
    # Strictly below the total, so that rounding can never pick a token of probability zero at the end.
    target = torch.minimum(uniform_B[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    # Logits that are nan sort after everything: the clamp keeps the index inside, the learner refuses the nan.
    return torch.searchsorted(cdf, target, right=True).squeeze(1).clamp(max=logits_BV.shape[-1] - 1)


def _nucleus(probs_BV: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of likeliest tokens whose mass reaches ``top_p`` (arXiv 1904.09751)."""
    ordered, index = probs_BV.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probs_BV).scatter(-1, index, ordered.masked_fill(before >= top_p, 0.0))
