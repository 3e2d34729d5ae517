"""A key-value cache with room to grow, instead of one that is concatenated at every token.

Only full-attention layers are replaced; sliding-window, linear-attention and other layers keep transformers' own
class, so that any causal language model decodes through the same loop.
"""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

CHUNK = 32
"""Columns by which a cache grows: a copy of the whole every 32 tokens, and at most 31 columns of padding."""


class GrowingLayer(DynamicLayer):
    """Keys and values of shape (B, K, capacity, D), of which the first ``length`` positions are filled, the rest zero.

    ``keys`` and ``values`` are views of the filled part, which is all that transformers looks at; ``whole`` gives a
    kernel that wants contiguous memory the rest as well. ``by_feature`` names what lies as (B, K, D, capacity) in
    memory, because the kernel that decodes reads it in one go then: "keys", "values" or neither; others would copy it.
    """

    def __init__(self, by_feature: str = "") -> None:
        super().__init__()
        self.by_feature = by_feature
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if start == 0:
            # Prefill: its own keys are enough, the room is set aside when the rows to decode are selected.
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = self._roomy([self.keys], [self.values], end)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices`` (they may repeat), in a fresh allocation that has room for the next token."""
        self.take([self.keys[indices]], [self.values[indices]])

    def take(self, keys: list[Tensor], values: list[Tensor]) -> None:
        """Hold these blocks of rows, each aligned at the right: what is left of a shorter block is zero."""
        length = max(block.shape[-2] for block in keys)
        self._buffers = self._roomy(keys, values, length + 1)
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def _roomy(self, keys: list[Tensor], values: list[Tensor], columns: int) -> tuple[Tensor, Tensor]:
        return _roomy(keys, columns, self.by_feature == "keys"), _roomy(values, columns, self.by_feature == "values")


def _roomy(blocks: list[Tensor], columns: int, by_feature: bool = False) -> Tensor:
    """The blocks below each other in a buffer of at least ``columns`` columns, in whole chunks."""
    _, heads, _, width = blocks[0].shape
    length = max(block.shape[-2] for block in blocks)
    rows = sum(block.shape[0] for block in blocks)
    capacity = -(-columns // CHUNK) * CHUNK
    if by_feature:
        buffer = blocks[0].new_empty((rows, heads, width, capacity)).transpose(2, 3)
    else:
        buffer = blocks[0].new_empty((rows, heads, capacity, width))
    buffer[:, :, length:] = 0
    row = 0
    for block in blocks:
        own = buffer[row : row + len(block), :, :length]
        own[:, :, : length - block.shape[-2]] = 0
        own[:, :, length - block.shape[-2] :] = block
        row += len(block)
    return buffer


def whole(states: Tensor) -> Tensor:
    """The buffer (B, K, capacity, D) whose filled part is ``states`` (B, K, L, D), where less than a chunk is missing.

    Anything else comes back as it is.
    """
    rows, heads, length, width = states.shape
    capacity = -(-length // CHUNK) * CHUNK
    row = heads * capacity * width, capacity * width
    layouts = (*row, width, 1), (*row, 1, capacity)
    if states.stride() not in layouts or states.storage_offset():
        return states
    if states.untyped_storage().nbytes() < rows * heads * capacity * width * states.element_size():
        return states
    return states.as_strided((rows, heads, capacity, width), states.stride())


def decode_cache(config: PreTrainedConfig, by_feature: str = "") -> DynamicCache:
    """An empty cache for ``config``'s layers; ``by_feature`` as for ``GrowingLayer``."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer(by_feature) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def grows(cache: Cache) -> bool:
    """Whether every layer attends to the whole past, so that rows may join and prefixes be shared."""
    return all(type(layer) is GrowingLayer for layer in cache.layers)


def select(cache: Cache, rows: Tensor, by_feature: str | None = None) -> None:
    """Keep ``rows`` of every layer (they may repeat), from now on ``by_feature`` as ``GrowingLayer`` has it."""
    for layer in cache.layers:
        if by_feature is not None and type(layer) is GrowingLayer:
            layer.by_feature = by_feature
        layer.batch_select_indices(rows)


def join(cache: Cache, unused: int, other: Cache, rows: int) -> None:
    """Put the ``rows`` rows of another cache, which may be empty, below those of ``cache``, without the first
    ``unused`` columns of the latter."""
    for layer, new in zip(cache.layers, other.layers, strict=True):
        pairs = [(layer.keys, layer.values), (new.keys, new.values)]
        if new.get_seq_length() == 0:
            pairs[1] = tuple(x.new_empty(rows, x.shape[1], 0, x.shape[3]) for x in pairs[0])
        layer.take(*([one[:, :, unused:], two] for one, two in zip(*pairs, strict=True)))
