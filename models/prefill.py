"""Prompts into the cache: each distinct prompt once, and what several prompts begin with once for all of them.

Shape legend: U unique prompts, P columns of what they begin with, S columns of the rest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from models.cache import decode_cache, grows, join
from models.prefixes import Found, Ids, Prefixes, shared


@dataclass(slots=True)
class Ready:
    """Prompts that can be answered: the logits of their next token, float32, and their keys and values.

    ``mask_UP`` tells the columns of the cache that are a row's own, None where all are; ``length_U`` counts them.
    """

    logits_UV: Tensor
    cache: Cache
    mask_UP: Tensor | None
    length_U: Tensor


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, P), both int64, every row ending at the last column."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def positions(mask_BP: Tensor) -> Tensor:
    """Position ids (B, P) that count from a row's first real token."""
    return (mask_BP.cumsum(-1) - 1).clamp(min=0)


def forward(
    model: PreTrainedModel, ids: Tensor, mask: Tensor | None, cache: Cache, position_ids: Tensor, **more: Any
) -> Tensor:
    """Next-token logits (B, V) in float32, of the last position only; ``more`` is for the attention."""
    # Asked for by its index, the last position is copied. As a slice of several it would be a view, which torch would
    # multiply by the head as a batch of matrices: with a copy of the head, vocabulary times width, for every row.
    keep = 1 if ids.shape[1] == 1 else torch.tensor([ids.shape[1] - 1], device=ids.device)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
        **more,
    )
    return out.logits[:, -1].float()


def prefill(model: PreTrainedModel, prompts: Sequence[Ids], pad_id: int, prefixes: Prefixes | None = None) -> Ready:
    """Read the prompts (U of them, all different, in this order).

    With ``prefixes``, what they share with each other or with earlier prompts is read once; a model with layers that
    do not attend to the whole past reads every prompt whole.
    """
    if prefixes is None or not grows(decode_cache(model.config)):
        return _read(model, prompts, pad_id)
    beginnings = [ids for ids in shared(prompts) if not _is_known(prefixes, ids)]
    if beginnings:
        begun = _read(model, beginnings, pad_id)
        prefixes.add(beginnings, begun.cache, begun.mask_UP)
    found = {row: place for row, prompt in enumerate(prompts) if (place := prefixes.find(prompt))}
    if not found:
        ready = _read(model, prompts, pad_id)
    else:
        ready = _read_on(model, [prompts[row] for row in found], list(found.values()), pad_id, prefixes)
        rest = [row for row in range(len(prompts)) if row not in found]
        if rest:
            ready = _stacked(ready, _read(model, [prompts[row] for row in rest], pad_id), [*found, *rest])
    prefixes.add(prompts, ready.cache, ready.mask_UP)
    return ready


def _is_known(prefixes: Prefixes, ids: Ids) -> bool:
    """Whether the whole of ``ids`` is kept; ``find`` leaves the last token of a prompt out."""
    place = prefixes.find((*ids, -1))
    return place is not None and place.length == len(ids)


def _read(model: PreTrainedModel, prompts: Sequence[Ids], pad_id: int) -> Ready:
    """All prompts from their first token on, in one forward pass."""
    cache = decode_cache(model.config)
    ids_UP, mask_UP = left_pad(prompts, pad_id, model.device)
    mask = None if min(map(len, prompts)) == ids_UP.shape[1] else mask_UP
    logits_UV = forward(model, ids_UP, mask, cache, positions(mask_UP))
    return Ready(logits_UV, cache, None if mask is None else mask.bool(), mask_UP.sum(-1))


def _read_on(
    model: PreTrainedModel, prompts: Sequence[Ids], found: Sequence[Found], pad_id: int, prefixes: Prefixes
) -> Ready:
    """Prompts whose beginnings are kept, in one forward pass over the rest of them."""
    cache = decode_cache(model.config)
    layers, mask_UP = prefixes.gather(found)
    for layer, (keys, values) in zip(cache.layers, layers, strict=True):
        layer.lazy_initialization(keys, values)
        layer.take([keys], [values])
    rest = [prompt[place.length :] for prompt, place in zip(prompts, found, strict=True)]
    ids_US, mask_US = left_pad(rest, pad_id, model.device)
    begun_U = mask_UP.sum(-1)
    mask = torch.cat((mask_UP, mask_US.bool()), 1)
    logits_UV = forward(model, ids_US, mask, cache, begun_U[:, None] + positions(mask_US))
    return Ready(logits_UV, cache, mask, begun_U + mask_US.sum(-1))


def _stacked(one: Ready, other: Ready, places: Sequence[int]) -> Ready:
    """Two readings as one, whose row ``places[i]`` is the i-th of both."""
    masks = [r.mask_UP if r.mask_UP is not None else _all_of(r.cache, r.length_U) for r in (one, other)]
    width = max(mask.shape[1] for mask in masks)
    join(one.cache, 0, other.cache, len(other.length_U))
    order = torch.tensor(places, device=one.length_U.device).argsort()
    for layer in one.cache.layers:
        layer.batch_select_indices(order)
    mask = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
    logits, lengths = torch.cat((one.logits_UV, other.logits_UV)), torch.cat((one.length_U, other.length_U))
    return Ready(logits[order], one.cache, mask[order], lengths[order])


def _all_of(cache: Cache, length_U: Tensor) -> Tensor:
    return torch.ones(len(length_U), cache.get_seq_length(), dtype=torch.bool, device=length_U.device)
