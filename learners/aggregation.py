"""How much a token weighs in the loss of a role: long answers against short ones.

The weights are made once for all turns of an optimizer step, so that cutting the step into batches that fit into
memory changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from difflib import get_close_matches

AGGREGATIONS = ("seq_sum", "seq_mean_token_mean", "token_mean", "constant")

log = logging.getLogger(__name__)


def token_weights(
    lengths: Sequence[int], aggregation: str, constant: int | None = None, alpha: float = 1.0
) -> list[float]:
    """The weight of every token of each of a role's n turns, of ``lengths`` tokens; ``alpha`` is the role's own.

    ``seq_sum``: 1/n, a turn's tokens are summed (LSP, arXiv 2509.07414; RLOO, 2402.14740). ``seq_mean_token_mean``:
    1/(n length), every turn counts the same (GRPO, 2402.03300; GSPO, 2507.18071). ``token_mean``: 1/(all tokens), every
    token counts the same (DAPO, 2503.14476). ``constant``: 1/(n L) for a fixed L (Dr. GRPO, 2503.20783).
    """
    turns = len(lengths)
    if aggregation == "seq_sum":
        return [alpha / turns] * turns
    if aggregation == "seq_mean_token_mean":
        return [alpha / (turns * length) for length in lengths]
    if aggregation == "token_mean":
        return [alpha / sum(lengths)] * turns
    assert constant is not None
    return [alpha / (turns * constant)] * turns


def check_aggregation(aggregation: str, constant: int | None, ratio: str) -> None:
    """Raises ``ValueError`` for keys that cannot be followed; warns where a ratio is weighed by its length."""
    if aggregation not in AGGREGATIONS:
        close = get_close_matches(aggregation, AGGREGATIONS, n=1)
        near = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"learner.aggregation={aggregation!r} is unknown{near}: use {', '.join(AGGREGATIONS)}")
    if aggregation == "constant" and (constant is None or constant < 1):
        raise ValueError(
            f"learner.aggregation=constant divides by learner.constant={constant}: use a number of tokens, usually the "
            "longest completion (${max_tokens})"
        )
    if aggregation != "constant" and constant is not None:
        raise ValueError(f"learner.constant={constant} is for learner.aggregation=constant, not for {aggregation}")
    if ratio == "geometric" and aggregation != "seq_mean_token_mean":
        log.warning(
            "learner.ratio=geometric with learner.aggregation=%s weighs an answer by its length: GSPO has "
            "seq_mean_token_mean",
            aggregation,
        )
