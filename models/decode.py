"""The rollout loop over an unmodified transformers model: equal prompts prefilled once, finished rows dropped.

Shape legend: U unique prompts, B rows, P prompt length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from models.cache import decode_cache
from models.sampling import draw, uniforms
from selfplay.deadline import check

_KEEP = 0.75
"""Rows are compacted when this share of them or less is still speaking: a copy of the cache is not free."""


@dataclass(slots=True)
class Sample:
    """What one row said: token ids and their log-probabilities under the model at temperature 1."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def batches(lengths: Sequence[int], extra: int, budget: int) -> list[list[int]]:
    """Row numbers in batches of at most ``budget`` positions (row x (longest prompt + extra)), longest rows last.

    Rows of equal length stay in their order, so equal prompts stay neighbours if the caller made them so. A single
    row over the budget gets a batch of its own.
    """
    made: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if made and (len(made[-1]) + 1) * (lengths[row] + extra) <= budget:
            made[-1].append(row)
        else:
            made.append([row])
    return made


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    stop_ids: Collection[int],
    pad_id: int,
) -> list[Sample]:
    """Sample one completion per prompt, in one batch. Row i depends on ``prompts[i]`` and ``seeds[i]`` alone, up to
    the rounding of matrix products of another shape."""
    unique = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    cache = decode_cache(model.config, max_tokens)
    ids_UP, mask_UP = left_pad(list(unique), pad_id, model.device)
    padded = not bool(mask_UP.all())
    logits_UV = _forward(model, ids_UP, mask_UP if padded else None, cache, positions(mask_UP))

    select = torch.tensor([unique[prompt] for prompt in prompts], device=model.device)
    _select(cache, select)
    logits_BV = logits_UV[select]
    mask = torch.ones(len(prompts), ids_UP.shape[1] + max_tokens, dtype=mask_UP.dtype, device=model.device)
    mask[:, : ids_UP.shape[1]] = mask_UP[select]
    position = mask_UP.sum(-1)[select][:, None]
    chance = uniforms(seeds, max_tokens).to(model.device)
    stops = torch.tensor(sorted(stop_ids), device=model.device)

    samples = [Sample() for _ in prompts]
    rows = list(range(len(prompts)))
    speaking = torch.ones(len(rows), dtype=torch.bool, device=model.device)
    for t in range(max_tokens):
        check()  # a judge's call has a deadline; nothing else can end it
        token_B = draw(logits_BV, chance[:, t], temperature, top_p)
        logprob_B = logits_BV.gather(1, token_B[:, None]).squeeze(1) - logits_BV.logsumexp(-1)
        for row, spoke, token, logprob in zip(
            rows, speaking.tolist(), token_B.tolist(), logprob_B.tolist(), strict=True
        ):
            if spoke:
                samples[row].token_ids.append(token)
                samples[row].logprobs.append(logprob)
        speaking &= ~torch.isin(token_B, stops)
        alive = int(speaking.sum())
        if alive == 0 or t + 1 == max_tokens:
            break
        if alive <= _KEEP * len(rows):
            keep = speaking.nonzero().squeeze(1)
            _select(cache, keep)
            rows = [rows[i] for i in keep.tolist()]
            token_B, mask, position, chance, speaking = (
                tensor[keep] for tensor in (token_B, mask, position, chance, speaking)
            )
        seen = mask[:, : ids_UP.shape[1] + t + 1] if padded else None
        logits_BV = _forward(model, token_B[:, None], seen, cache, position + t)
    return samples


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, P), both int64, every row ending at the last column."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def positions(mask_BP: Tensor) -> Tensor:
    """Position ids (B, P) that count from a row's first real token."""
    return (mask_BP.cumsum(-1) - 1).clamp(min=0)


def _forward(model: PreTrainedModel, ids: Tensor, mask: Tensor | None, cache: Cache, position_ids: Tensor) -> Tensor:
    """Next-token logits (B, V) in float32, of the last position only."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1].float()


def _select(cache: Cache, rows: Tensor) -> None:
    for layer in cache.layers:
        layer.batch_select_indices(rows)
