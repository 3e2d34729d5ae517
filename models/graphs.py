"""Decoding steps as CUDA graphs: every shape and address fixed, so that a token costs one launch and no wait.

A step is the model's forward pass over one token per row and everything that ``Speech.say`` does; it is recorded once
per shape and replayed per token. Without a graph (``record=False``, any device) the same step runs operation by
operation: that is how it is tested.

Shape legend: B rows, C columns of the cache, K key heads, D head width, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from models.speech import Sampling, Speakers, Speech

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024)
"""Numbers of rows that are recorded; what lies between is filled up with rows that say nothing."""
COLUMNS = 256
"""The columns of a cache are a multiple of this."""
LOOK = 16
"""Tokens between two looks at who still speaks: a look waits for the device."""
_KEPT = 8
"""Shapes whose graphs are kept, with their caches."""
_ROPE_FIXED = {None, "default", "linear", "llama3", "yarn", "proportional"}
"""Rotary embeddings whose frequencies do not depend on the length: the others look at it, which waits."""


class FixedLayer(DynamicLayer):
    """Keys and values (B, K, C, D) at fixed addresses; the next token's go into the column that ``column`` holds."""

    def __init__(self, column: Tensor) -> None:
        super().__init__()
        self.column = column

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self.column, key_states)
        self.values.index_copy_(2, self.column, value_states)
        return self.keys, self.values


def can_record(model: PreTrainedModel, cache: Cache) -> bool:
    """Whether a step's operations depend on nothing but shapes: full attention by transformers' fused kernel, over
    rotary or learned positions."""
    text = model.config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    return (
        all(isinstance(layer, DynamicLayer) and not layer.is_sliding for layer in cache.layers)
        and model.config._attn_implementation in ("sdpa", "sparring")
        and rope.get("rope_type") in _ROPE_FIXED
        and not getattr(text, "alibi", False)
        and not getattr(text, "num_local_experts", 0)  # experts are chosen by looking at the tokens
        and not getattr(text, "num_experts", 0)
    )


class Graphs:
    """Recorded steps of the last few shapes."""

    def __init__(self, *, record: bool = True) -> None:
        self._record = record
        self._steps: dict[tuple[object, ...], _Step] = {}

    def run(self, model: PreTrainedModel, flight: Flight, speech: Speech, keep: float) -> None:
        """Let the rows of ``flight`` speak until no more than the share ``keep`` of them does, or the cache is full."""
        rows = len(flight.speakers)
        room = speech.sampling.max_tokens
        step = self._step(model, flight, rows, flight.columns + room, speech.sampling)
        step.load(flight, speech)
        for count in range(1, room + 1):
            step()
            if count % LOOK == 0 and step.alive() <= keep * rows:
                break
        step.unload(flight, speech)

    def _step(self, model: PreTrainedModel, flight: Flight, rows: int, columns: int, sampling: Sampling) -> _Step:
        rows = next((size for size in ROWS if size >= rows), -(-rows // ROWS[-1]) * ROWS[-1])
        columns = -(-columns // COLUMNS) * COLUMNS
        key = (id(model), rows, columns, sampling.temperature, sampling.top_p, sampling.max_tokens)
        if key not in self._steps:
            while len(self._steps) >= _KEPT:
                del self._steps[next(iter(self._steps))]
            self._steps[key] = _Step(model, flight.cache, rows, columns, sampling, self._record)
        self._steps[key] = self._steps.pop(key)  # used last
        return self._steps[key]


class Flight(Protocol):
    """What ``models.decode`` has in flight, as far as it matters here."""

    cache: Cache
    mask_BL: Tensor | None
    speakers: Speakers

    @property
    def columns(self) -> int: ...


class _Step:
    """One step over ``rows`` rows and ``columns`` columns: its state, and the graph that advances it by a token."""

    def __init__(
        self, model: PreTrainedModel, like: Cache, rows: int, columns: int, sampling: Sampling, record: bool
    ) -> None:
        device = model.device
        self._model = model
        self._speech = Speech([0] * rows, sampling, device)
        self._speakers = Speakers(torch.arange(rows, device=device), torch.ones(rows, dtype=torch.long, device=device))
        self._mask = torch.zeros(rows, 1, 1, columns, dtype=torch.bool, device=device)
        self._column = torch.zeros(1, dtype=torch.long, device=device)
        self._cache = DynamicCache(config=model.config)
        self._cache.layers = [FixedLayer(self._column) for _ in like.layers]
        for layer, source in zip(self._cache.layers, like.layers, strict=True):
            layer.lazy_initialization(source.keys, source.values)
            layer.keys, layer.values = (
                states.new_zeros((rows, states.shape[1], columns, states.shape[3]))
                for states in (source.keys, source.values)
            )
        self._graph = self._recorded() if record else None

    def __call__(self) -> None:
        """Every row says one more token."""
        if self._graph is None:
            self._advance()
        else:
            self._graph.replay()

    def alive(self) -> int:
        """How many rows still speak; this waits for the device."""
        return int(self._speakers.speaking.sum())

    def load(self, flight: Flight, speech: Speech) -> None:
        """Take the state of ``flight`` over, into the first rows; the others are silent."""
        count, columns = len(flight.speakers), flight.columns
        for layer, source in zip(self._cache.layers, flight.cache.layers, strict=True):
            layer.keys[:count, :, :columns] = source.keys
            layer.values[:count, :, :columns] = source.values
        self._mask.zero_()
        self._mask[:count, 0, 0, :columns] = True if flight.mask_BL is None else flight.mask_BL
        self._column.fill_(columns)
        self._speakers.load(flight.speakers)
        self._speech.load(speech, flight.speakers.number)

    def unload(self, flight: Flight, speech: Speech) -> None:
        """Give the state back to ``flight``, which must copy what it keeps before this step is used again."""
        count, columns = len(flight.speakers), int(self._column)
        for layer, target in zip(self._cache.layers, flight.cache.layers, strict=True):
            target.keys, target.values = layer.keys[:count, :, :columns], layer.values[:count, :, :columns]
        flight.mask_BL = self._mask[:count, 0, 0, :columns].clone()
        flight.speakers.load(self._speakers)
        speech.store(self._speech, flight.speakers.number)

    def _advance(self) -> None:
        rows = self._speakers
        self._mask.index_fill_(3, self._column, True)
        out = self._model(
            input_ids=rows.token[:, None],
            attention_mask=self._mask,
            position_ids=rows.position[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._speech.say(rows, out.logits[:, -1].float())
        self._column += 1

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """The graph of ``_advance``. The first calls choose kernels and allocate, so they come before it, on a stream
        of their own; what they did to the state ``load`` writes over."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._column.zero_()
                self._advance()
        torch.cuda.current_stream().wait_stream(stream)
        self._column.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance()
        return graph
