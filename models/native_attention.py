"""Attention of a decoding step by one kernel of ours: scores, softmax and the weighted sum of a row in one pass.

As products of matrices, the scores of one query per row are matrices of a single row, which no library multiplies
well, and between them lie a dozen small operators. The kernel reads keys and values once, where they lie, and adds in
float32. Shape legend: B rows, U prompts, P their columns, T columns a row has said, H query heads, K key heads, D width
of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.cache import CHUNK, whole
from models.native import kernel

_LANES = 16
"""Columns that the kernel takes at once."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The prompts of a batch as the kernel reads them: keys (U, K, D, P), values (U, K, P, D), P a multiple of 16, and
    what is added to the scores (U, P): -inf in columns that are no prompt's own, None where there is none."""

    keys: Tensor
    values: Tensor
    hidden: Tensor | None

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, mask_UP: Tensor | None) -> Packed:
        """Keys and values (U, K, P, D) of any number of columns, ``mask_UP`` where not all are a prompt's own."""
        more = -keys.shape[2] % _LANES
        if mask_UP is None and more:
            mask_UP = torch.ones(len(keys), keys.shape[2], dtype=torch.bool)
        hidden = None
        if mask_UP is not None:
            own_UP = pad(mask_UP, (0, more))
            hidden = torch.zeros(own_UP.shape).masked_fill_(~own_UP, -torch.inf)
        keys, values = (pad(states, (0, 0, 0, more)) for states in (keys, values))
        return cls(keys.mT.contiguous(), values.contiguous(), hidden)


def available(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there is a kernel for such states, so that keys had better lie by feature."""
    return kernel("attend", torch.empty(0, dtype=dtype, device=device)) is not None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    prompts: Packed | None = None,
    prompt_B: Tensor | None = None,
) -> Tensor | None:
    """Attention of one query per row, (B, H, 1, D), to its prompt, number ``prompt_B`` of ``prompts``, and to its own
    keys and values (B, K, T, D) in a cache that keeps keys by feature; result (B, 1, H, D). ``mask`` (B or 1, 1, 1, T)
    is None or boolean. None where there is no kernel for what is asked."""
    rows, heads, _, width = query.shape
    key, value, said = whole(key), whole(value), key.shape[2]
    shared, capacity = key.shape[1], key.shape[2]
    by_feature = (shared * capacity * width, capacity * width, 1, capacity)
    if key.stride() != by_feature or not value.is_contiguous() or value.shape != key.shape or capacity % CHUNK:
        return None
    if mask is not None and (mask.dtype != torch.bool or mask.stride(-1) != 1):
        return None
    run = kernel("attend", query, key, value)
    if run is None:
        return None
    columns = prompts.keys.shape[3] if prompts else 0
    query, out = query.contiguous(), query.new_empty(rows, 1, heads, width)
    scratch = torch.empty(torch.get_num_threads() * (columns + capacity + 2 * width))
    before = (prompts.keys, prompts.values, prompt_B, prompts.hidden) if prompts else (None,) * 4
    apart = mask.stride(0) if mask is not None and len(mask) > 1 else 0
    run(
        query, key, value, *before, mask, apart, out, scratch,
        rows, heads, shared, width, said, capacity, columns, scaling,
    )  # fmt: skip
    return out
