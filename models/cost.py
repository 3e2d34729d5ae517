"""What a pass of a causal language model needs at least: FLOP (a multiply and an add are two) and bytes.

A lower bound: every weight is read once per pass, keys and values are written once and read once per step, activations
are free, and padding, copies and the sampler's arithmetic count for nothing. The formulas are pure functions of a few
sizes that any transformers model tells; rows and widths may be means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


class Cost(NamedTuple):
    """The least that a call needs."""

    flop: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a causal language model that its cost depends on. Counts are of parameters.

    ``body`` multiplies every token, ``head`` makes logits; the input embedding multiplies nothing unless it is tied to
    the head. ``experts`` are those of the body of which a token takes ``routed`` (a share). Per layer and position,
    attention multiplies ``attended`` features, heads x (key + value size), and the cache holds ``cached``, key-value
    heads x (key + value size). ``windows`` has one entry per attention layer: how far back it looks, None if all the
    way. ``trained*`` have a gradient; ``trained`` counts all of them, the embedding among them.
    """

    body: int
    head: int
    attended: int
    cached: int
    windows: tuple[int | None, ...]
    trained_body: int
    trained_head: int
    trained: int
    experts: int = 0
    routed: float = 1.0
    sampler_bytes: int = 4
    master_bytes: int = 4

    @property
    def active(self) -> float:
        """Parameters of the body that one token is multiplied by."""
        return self.body - self.experts * (1 - self.routed)

    def read(self, tokens: float) -> float:
        """Parameters that a pass over ``tokens`` reads: of the experts, those that evenly routed tokens would ask."""
        return self.body + self.head - self.experts * (1 - self.routed) ** tokens

    def positions(self, context: float) -> float:
        """Positions that one token at the end of ``context`` attends to, over all layers."""
        return sum(context if window is None else min(context, window) for window in self.windows)

    def pairs(self, width: float) -> float:
        """Pairs of tokens that attend, in one causal sequence of ``width``, over all layers."""
        total = 0.0
        for window in self.windows:
            ramp = width if window is None else min(width, window)
            total += ramp * (ramp + 1) / 2 + (width - ramp) * ramp
        return total


def shape_of(model: PreTrainedModel, dtype: torch.dtype) -> Shape:
    """The shape of a model as it stands; ``dtype`` is that of the copy which samples."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)  # none: a model of recurrent layers only
    keys = getattr(config, "qk_head_dim", None) or getattr(config, "head_dim", None)
    keys = keys or (config.hidden_size // heads if heads else 0)
    values = getattr(config, "v_head_dim", None) or keys
    out = model.get_output_embeddings()
    head = {id(p) for p in out.parameters()} if out is not None else set[int]()
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()} - head
    named = list(model.named_parameters())  # a tied weight comes once
    body = [(name, p) for name, p in named if id(p) not in tables | head]
    experts = sum(p.numel() for name, p in body if ".experts." in name)
    return Shape(
        body=sum(p.numel() for _, p in body),
        head=sum(p.numel() for _, p in named if id(p) in head),
        attended=heads * (keys + values),
        cached=_cached_heads(config, heads) * (keys + values),
        windows=_windows(config) if heads else (),
        trained_body=sum(p.numel() for _, p in body if p.requires_grad),
        trained_head=sum(p.numel() for _, p in named if id(p) in head and p.requires_grad),
        trained=sum(p.numel() for _, p in named if p.requires_grad),
        experts=experts,
        routed=_routed(config) if experts else 1.0,
        sampler_bytes=dtype.itemsize,
        master_bytes=named[0][1].element_size(),
    )


def _cached_heads(config: PreTrainedConfig, heads: int) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None) or heads


def _windows(config: PreTrainedConfig) -> tuple[int | None, ...]:
    kinds = getattr(config, "layer_types", None)
    sliding = getattr(config, "sliding_window", None) or None
    if kinds is None:
        return (sliding if getattr(config, "use_sliding_window", True) else None,) * config.num_hidden_layers
    width = {
        "full_attention": None,
        "sliding_attention": sliding,
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    return tuple(width[kind] for kind in kinds if kind in width)  # linear attention keeps no key-value cache


def _routed(config: PreTrainedConfig) -> float:
    """The share of the experts that a token goes to; 1 where the configuration does not tell."""
    every = [getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")]
    taken, count = getattr(config, "num_experts_per_tok", None), next(filter(None, every), None)
    return taken / count if taken and count else 1.0


def prefill(shape: Shape, rows: float, width: float, past: float = 0) -> Cost:
    """One pass over ``rows`` prompts of ``width`` tokens, with logits for the last position of each. They may follow
    ``past`` positions that are in the cache, shared by all rows: a common beginning."""
    tokens, pairs = rows * width, rows * (shape.pairs(past + width) - shape.pairs(past))
    flop = 2 * tokens * shape.active + 2 * rows * shape.head + 2 * shape.attended * pairs
    cached = shape.cached * (tokens * len(shape.windows) + shape.positions(past))
    return Cost(flop, (shape.read(tokens) + cached) * shape.sampler_bytes)


def decode(shape: Shape, rows: float, context: float) -> Cost:
    """One token more for each of ``rows``; it attends to ``context`` positions, itself included."""
    positions = shape.positions(context)
    flop = rows * (2 * (shape.active + shape.head) + 2 * shape.attended * positions)
    return Cost(flop, (shape.read(rows) + rows * shape.cached * positions) * shape.sampler_bytes)


def score(shape: Shape, rows: float, width: float, completion: float, again: float = 0) -> Cost:
    """One forward pass over ``rows`` of ``width`` tokens, with logits at ``completion`` positions of each. ``again``
    tokens of a row, at its beginning, are those of another row, too, and need not be read twice."""
    body, head = 2 * rows * (width - again) * shape.active, 2 * rows * completion * shape.head
    attention = 2 * shape.attended * rows * (shape.pairs(width) - shape.pairs(again))
    return Cost(body + head + attention, shape.read(rows * (width - again)) * shape.master_bytes)


def train(shape: Shape, rows: float, width: float, completion: float, again: float = 0) -> Cost:
    """Forward and backward: each product again for the gradient of its input, and again for that of its weight where
    the weight is trained. Weights are read twice, gradients written once, in float32."""
    forward = score(shape, rows, width, completion, again)
    share = shape.trained_body / shape.body if shape.body else 0.0
    weights = 2 * rows * ((width - again) * shape.active * share + completion * shape.trained_head)
    attention = (
        2 * shape.attended * rows * (shape.pairs(width) - shape.pairs(again))
    )  # two operands, so two gradients, and no weight
    return Cost(2 * forward.flop + attention + weights, 2 * forward.bytes + 4 * shape.trained)


def optimize(shape: Shape, bytes_per_parameter: float) -> Cost:
    """One step of the optimizer over all that is trained: memory only."""
    return Cost(0.0, bytes_per_parameter * shape.trained)
