"""The exact entropy of every next-token distribution beside the log-probabilities, and its gradient by hand.

H_t = -sum_v pi(v | prefix_t) log pi(v | prefix_t) is a sum over the vocabulary, as TRL and verl take it, and no
estimate from the word that was sampled. Of a move that was chosen among a few, the sum is over the words that were up
for choice. Shape legend: B completions, T tokens, N tokens of all, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learners.passes import Passes
from models.scoring import LOGITS, blocks, by_chunks, floats, head
from selfplay.types import Completion

_NEVER = -1e30
"""log 0, finite: a word that is ruled out adds 0 to the entropy, not nan."""


def with_entropies(
    passes: Passes, said: Sequence[Completion], *, at_once: int = LOGITS
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (B, T) as ``Passes.logprobs`` gives them, the mask (B, T), and the entropies (B, T) in nats of
    the distributions that the tokens were drawn from, all 0 outside the completions.

    One pass of the trunk gives both; at most ``at_once`` logits exist at once. Differentiable.
    """
    model = passes.engine.model
    state_ND, rows = passes.states(said)

    def chunk(state: Tensor, *scored: Tensor) -> Tensor:
        with passes.engine.autocast():
            logits_NV = head(model, state)
        return torch.stack(logprobs_and_entropies(logits_NV, *scored), -1)

    size = max(1, at_once // model.config.get_text_config().vocab_size)
    logp_N, entropy_N = by_chunks(chunk, (state_ND, *rows.scored), size).unbind(-1)
    return rows.placed(logp_N), rows.mask_BT, rows.placed(entropy_N)


def logprobs_and_entropies(
    logits_NV: Tensor, token_N: Tensor, allowed_NK: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """log softmax(logits)[token] and the entropy of softmax(logits), each (N,) in float32, over the words of
    ``allowed_NK`` (``models.layout``) where it is given. Keeps the logits as they are for the backward pass, and no
    copy."""
    return _Both.apply(logits_NV, token_N, allowed_NK)  # type: ignore[no-any-return]


class _Both(torch.autograd.Function):
    """d log p / d logits = onehot - p, and dH / d logits = -p (log p + H); both directions go through a block of rows
    at a time, so that nothing of size N x V exists in float32."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, token_N: Tensor, allowed_NK: Tensor | None) -> tuple[Tensor, Tensor]:
        logp_N = torch.empty(len(token_N), dtype=torch.float32, device=logits_NV.device)
        total_N, entropy_N = torch.empty_like(logp_N), torch.empty_like(logp_N)
        for rows in blocks(logits_NV):
            block = floats(logits_NV, allowed_NK, rows)
            total_N[rows] = block.logsumexp(-1)
            logp_N[rows] = block.gather(1, token_N[rows, None]).squeeze(1) - total_N[rows]
            block = block.sub(total_N[rows, None]).clamp_(min=_NEVER)
            entropy_N[rows] = -(block.exp() * block).sum(-1)
        ctx.save_for_backward(logits_NV, token_N, total_N, entropy_N, allowed_NK)
        return logp_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, upstream_N: Tensor, entropy_upstream_N: Tensor
    ) -> tuple[Tensor, None, None]:
        logits_NV, token_N, total_N, entropy_N, allowed_NK = ctx.saved_tensors
        gradient_NV = torch.empty_like(logits_NV)
        for rows in blocks(logits_NV):
            upstream, of_entropy = upstream_N[rows, None].float(), entropy_upstream_N[rows, None].float()
            block = floats(logits_NV, allowed_NK, rows).sub(total_N[rows, None]).clamp_(min=_NEVER)
            probability = block.exp()
            block = block.add_(entropy_N[rows, None]).mul_(-of_entropy).sub_(upstream).mul_(probability)
            gradient_NV[rows] = block.scatter_add_(1, token_N[rows, None], upstream).to(gradient_NV.dtype)
        return gradient_NV, None, None
