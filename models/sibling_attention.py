"""Attention among siblings, block by block: a completion sees its prompt and itself (``models.siblings``).

Plain products in the model's precision and scores normalised in float32: for rows of a few hundred tokens this beats
the fused kernel, whose backward pass in bfloat16 is slow on a CPU. The scores exist at once, so that long rows want
another kernel. Shape legend: as in ``models.siblings``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from models.siblings import Siblings

NAME = "siblings"


@torch.compiler.disable  # its shapes are the batch's: a compiled trunk breaks off here
def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    siblings: Siblings,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers asks for it: query (1, H, N, D), key and value (1, K, N, D), result (1, N, H, D)."""
    dtype = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else query.dtype
    query, key, value = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query * scaling, key, value, siblings)[None], None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, siblings: Siblings) -> Tensor:
        heads, shared = query_NHD.shape[1], key_NKD.shape[1]
        asked, back = siblings.rows(heads, shared)
        kept, _ = siblings.rows(shared, shared)
        flat = [states.reshape(-1, states.shape[-1]) for states in (query_NHD, key_NKD, value_NKD)]
        saved: list[Tensor] = []
        out: list[Tensor] = []
        for block, ask, keep in zip(siblings.blocks, asked, kept, strict=True):
            (count, length), (_, many, width) = block.prompt_UP.shape, block.said_UGT.shape
            batch, each = count * shared, heads // shared
            q, k, v = (
                _taken(states, rows, batch) for states, rows in zip(flat, (ask[0], keep[0], keep[0]), strict=True)
            )
            score = torch.bmm(q, k.mT)
            weight = score.add_(_causal(length, each, score)).softmax(-1, dtype=torch.float32).to(v.dtype)
            out.append(torch.bmm(weight, v))
            saved += [q, k, v, weight]
            if many * width:
                qs, ks, vs = (
                    _taken(states, rows, batch * many)
                    for states, rows in zip(flat, (ask[1], keep[1], keep[1]), strict=True)
                )
                score = torch.empty(batch, many * width * each, length + width, device=q.device)
                own = score.view(batch * many, width * each, length + width)
                score[..., :length] = torch.bmm(qs.view(batch, -1, qs.shape[-1]), k.mT)
                own[..., length:] = torch.bmm(qs, ks.mT)
                if block.hidden_UP is not None:
                    score[..., :length] += block.hidden_UP.repeat_interleave(shared, 0)[:, None]
                own[..., length:] += _causal(width, each, score)
                weight = score.softmax(-1)
                before = weight[..., :length].to(v.dtype, memory_format=torch.contiguous_format)
                own = weight.view_as(own)[..., length:].to(v.dtype, memory_format=torch.contiguous_format)
                said = torch.bmm(before, v).view(batch * many, width * each, -1)
                out.append(torch.baddbmm(said, own, vs))
                saved += [qs, ks, vs, before, own]
        ctx.save_for_backward(*saved, *out)
        ctx.siblings, ctx.shape = siblings, (heads, shared)
        return _gathered(out, back, heads, siblings.real)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_NHD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """dS = W (dW - rowsum(dO O)), as in FlashAttention-2 (arXiv 2307.08691): the two parts need not meet."""
        (heads, shared), siblings = ctx.shape, ctx.siblings
        asked, back_q = siblings.rows(heads, shared)
        _, back_k = siblings.rows(shared, shared)
        pieces = sum(2 if block.said_UGT.numel() else 1 for block in siblings.blocks)
        kept = ctx.saved_tensors  # once: recomputation gives them once
        saved, outs = iter(kept[:-pieces]), iter(kept[-pieces:])
        flat = upstream_NHD.reshape(-1, upstream_NHD.shape[-1])
        dq: list[Tensor] = []
        dk: list[Tensor] = []
        dv: list[Tensor] = []
        for block, ask in zip(siblings.blocks, asked, strict=True):
            batch, many = block.prompt_UP.shape[0] * shared, block.said_UGT.shape[1]
            q, k, v, weight = (next(saved) for _ in range(4))
            up = _taken(flat, ask[0], batch)
            score = torch.bmm(up, v.mT).sub_(_delta(up, next(outs))).mul_(weight)
            dq.append(torch.bmm(score, k))
            dk.append(torch.bmm(score.mT, q))
            dv.append(torch.bmm(weight.mT, up))
            if block.said_UGT.numel():
                qs, ks, vs, before, own = (next(saved) for _ in range(5))
                ups = _taken(flat, ask[1], batch * many)
                up, delta = ups.view(batch, -1, ups.shape[-1]), _delta(ups, next(outs))
                first = torch.bmm(up, v.mT).sub_(delta.view(batch, -1, 1)).mul_(before)
                rest = torch.bmm(ups, vs.mT).sub_(delta).mul_(own)
                dk[-1].baddbmm_(first.mT, qs.view(batch, -1, qs.shape[-1]))
                dv[-1].baddbmm_(before.mT, up)
                dq.append(torch.bmm(first, k).view_as(qs).baddbmm_(rest, ks))
                dk.append(torch.bmm(rest.mT, qs))
                dv.append(torch.bmm(own.mT, ups))
        real = siblings.real
        gradients = (
            _gathered(parts, back, width, real)
            for parts, back, width in ((dq, back_q, heads), (dk, back_k, shared), (dv, back_k, shared))
        )
        return (*gradients, None)


def _taken(states: Tensor, rows: Tensor, batch: int) -> Tensor:
    return states.index_select(0, rows).view(batch, -1, states.shape[-1])


def _delta(upstream: Tensor, out: Tensor) -> Tensor:
    return (upstream * out).sum(-1, keepdim=True)


def _gathered(parts: list[Tensor], back: Tensor, heads: int, real: int) -> Tensor:
    """The blocks' rows in the order of the positions, (N, heads, D); zero where there is padding."""
    rows = torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
    states = rows.index_select(0, back).view(-1, heads, rows.shape[-1])
    states[real:] = 0
    return states


def _causal(length: int, each: int, like: Tensor) -> Tensor:
    """0 where one of ``length`` queries, ``each`` times over, may look, else -inf: (length x each, length)."""
    mask = torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)
    return mask.repeat_interleave(each, 0)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
