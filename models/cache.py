"""A key-value cache that is allocated once per decode instead of being concatenated at every token.

Only full-attention layers are replaced; sliding-window, linear-attention and other layers keep transformers' own
class, so that any causal language model decodes through the same loop.
"""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """Keys and values of shape (B, H, capacity, D), of which the first ``length`` positions are filled.

    ``room`` is how many positions beyond the first update are set aside. ``keys`` and ``values`` are views of the
    filled part, which is all that transformers looks at.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None:
            # Prefill: its own keys are enough, the room is set aside when the rows to decode are selected.
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices`` (they may repeat), in a fresh allocation that still has the room."""
        length = self.get_seq_length()
        capacity = self._buffers[0].shape[-2] if self._buffers is not None else length + self.room
        fresh: list[Tensor] = []
        for states in (self.keys, self.values):
            buffer = states.new_empty((len(indices), states.shape[1], capacity, states.shape[3]))
            buffer[:, :, :length] = states[indices]
            fresh.append(buffer)
        self._buffers = (fresh[0], fresh[1])
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def decode_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """An empty cache for ``config``'s layers with ``room`` positions beyond the prompt."""
    cache = DynamicCache(config=config)
    cache.layers = [PreallocatedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
