"""Attention among siblings, block by block: a completion sees its prompt and itself (``models.siblings``).

Plain products in the model's precision and scores normalised in float32: for rows of a few hundred tokens this beats
the fused kernel, whose backward pass in bfloat16 is slow on a CPU. The scores exist at once, so that long rows want
another kernel. Shape legend: as in ``models.siblings``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from models.sibling_weights import score_gradients, score_weights
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
        made, room = _room(flat[0], asked)
        saved: list[Tensor] = []
        for block, ask, keep in zip(siblings.blocks, asked, kept, strict=True):
            (count, length), (_, many, width) = block.prompt_UP.shape, block.said_UGT.shape
            batch, each = count * shared, heads // shared
            q, k, v = (
                _taken(states, rows, batch) for states, rows in zip(flat, (ask[0], keep[0], keep[0]), strict=True)
            )
            _, weight = score_weights(None, torch.bmm(q, k.mT)[:, None], None)
            torch.bmm(weight[:, 0], v, out=next(room).view_as(q))
            saved += [q, k, v, weight]
            out = next(room)
            if many * width:
                qs, ks, vs = (
                    _taken(states, rows, batch * many)
                    for states, rows in zip(flat, (ask[1], keep[1], keep[1]), strict=True)
                )
                score = torch.bmm(qs.view(batch, -1, qs.shape[-1]), k.mT).view(batch, many, width * each, length)
                own = torch.bmm(qs, ks.mT).view(batch, many, width * each, width)
                before, own = score_weights(score, own, block.hidden_UP)
                torch.bmm(before.flatten(1, 2), v, out=out.view(batch, -1, out.shape[-1]))
                out.view_as(qs).baddbmm_(own.flatten(0, 1), vs)
                saved += [qs, ks, vs, before, own]
        ctx.save_for_backward(*saved, made)
        ctx.siblings, ctx.shape = siblings, (heads, shared)
        return _placed(made, back, heads, siblings.real)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_NHD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """The two parts of a row have products of their own and meet in ``score_gradients`` alone."""
        (heads, shared), siblings = ctx.shape, ctx.siblings
        asked, back_q = siblings.rows(heads, shared)
        kept, back_k = siblings.rows(shared, shared)
        *tensors, made = ctx.saved_tensors  # once: recomputation gives them once
        saved, outs = iter(tensors), _split(made, asked)
        flat = upstream_NHD.reshape(-1, upstream_NHD.shape[-1])
        (dq, room_q), (dk, room_k), (dv, room_v) = (_room(flat, rows) for rows in (asked, kept, kept))
        for block, ask in zip(siblings.blocks, asked, strict=True):
            batch, many = block.prompt_UP.shape[0] * shared, block.said_UGT.shape[1]
            q, k, v, weight = (next(saved) for _ in range(4))
            up, out = _taken(flat, ask[0], batch), next(outs).view_as(q)
            _, score = score_gradients((None, weight), (None, torch.bmm(up, v.mT)[:, None]), up[:, None], out[:, None])
            score, weight = score[:, 0], weight[:, 0]
            to_k, to_v = next(room_k).view_as(k), next(room_v).view_as(v)
            torch.bmm(score, k, out=next(room_q).view_as(q))
            torch.bmm(score.mT, q, out=to_k)
            torch.bmm(weight.mT, up, out=to_v)
            to_qs, to_ks, to_vs, outs_said = (next(room) for room in (room_q, room_k, room_v, outs))
            if len(to_qs):
                qs, ks, vs, before, own = (next(saved) for _ in range(5))
                ups = _taken(flat, ask[1], batch * many)
                up, by_text = ups.view(batch, -1, ups.shape[-1]), (batch, many, -1, ups.shape[-1])
                first, rest = torch.bmm(up, v.mT).view_as(before), torch.bmm(ups, vs.mT).view_as(own)
                score_gradients((before, own), (first, rest), ups.view(by_text), outs_said.view(by_text))
                first, before = first.flatten(1, 2), before.flatten(1, 2)
                rest, own = rest.flatten(0, 1), own.flatten(0, 1)
                to_k.baddbmm_(first.mT, qs.view(batch, -1, qs.shape[-1]))
                to_v.baddbmm_(before.mT, up)
                torch.bmm(first, k, out=to_qs.view_as(up))
                to_qs.view_as(qs).baddbmm_(rest, ks)
                torch.bmm(rest.mT, qs, out=to_ks.view_as(ks))
                torch.bmm(own.mT, ups, out=to_vs.view_as(vs))
        real = siblings.real
        return (
            _placed(dq, back_q, heads, real),
            _placed(dk, back_k, shared, real),
            _placed(dv, back_k, shared, real),
            None,
        )


def _taken(states: Tensor, rows: Tensor, batch: int) -> Tensor:
    return states.index_select(0, rows).view(batch, -1, states.shape[-1])


def _room(states: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Iterator[Tensor]]:
    """All rows of the blocks, to be filled, and the same by block: those of its prompts, those of its completions."""
    made = states.new_empty(sum(len(rows) for pair in pairs for rows in pair), states.shape[-1])
    return made, _split(made, pairs)


def _split(made: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    return iter(made.split([len(rows) for pair in pairs for rows in pair]))


def _placed(made: Tensor, back: Tensor, heads: int, real: int) -> Tensor:
    """The blocks' rows in the order of the positions, (N, heads, D); zero where there is padding."""
    states = made.index_select(0, back).view(-1, heads, made.shape[-1])
    states[real:] = 0
    return states


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
