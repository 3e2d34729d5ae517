"""How attention is computed: transformers' own kernels, but for the one query of a decoding step on a CPU.

On a CPU the fused kernel takes twice to four times as long over one query as two batched products do: it packs every
block of keys for a matrix product that has a single row. In float32, where packing is cheap, it is still the faster
one when several query heads share a key head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from models.cache import whole
from models.native_attention import attend
from models.prompts import Prompts

NAME = "sparring"


def adopt(model: PreTrainedModel) -> None:
    """Let a model that runs transformers' ``sdpa`` attention use ours; any other choice is left as it is."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    prompts: Prompts | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: query (B, H, Q, D), key and value (B, K, L, D), result (B, Q, H, D).

    With ``prompts``, key and value are what the rows have said since.
    """
    if prompts is not None:
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return prompts.attend(module.layer_idx, query, key, value, attention_mask, scaling), None  # type: ignore[arg-type]
    plain = not any(options.get(name) is not None for name in ("softcap", "position_bias", "cache"))
    if plain and query.shape[2] == 1 and query.device.type == "cpu" and not torch.is_grad_enabled():
        scaling = scaling or query.shape[-1] ** -0.5
        found = attend(query, key, value, attention_mask, scaling)
        if found is None and (query.dtype == torch.bfloat16 or query.shape[1] == key.shape[1]):
            found = one_query(query, key, value, attention_mask, scaling)
        if found is not None:
            return found, None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)


def one_query(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention of one query per row, (B, 1, H, D); the H / K query heads of a key head share one product.

    ``mask`` is None, boolean or additive, of shape (B or 1, 1, 1, L).
    """
    rows, heads, _, width = query.shape
    shared, length = key.shape[1], key.shape[2]
    key, value = whole(key), whole(value)  # contiguous, or each product would copy them
    # (B K, H / K, D): the keys are read where they lie
    query_NGD = (query * scaling).reshape(rows * shared, heads // shared, width)
    score_NGL = torch.bmm(query_NGD, key.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        filled = score_NGL.unflatten(0, (rows, shared))[..., :length]
        filled.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else filled.add_(mask)
    score_NGL[..., length:] = -torch.inf
    weight_NGL = score_NGL.softmax(-1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(weight_NGL, value.flatten(0, 1)).reshape(rows, 1, heads, value.shape[-1])


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
