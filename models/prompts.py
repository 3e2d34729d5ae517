"""Prompts that several rows continue: their keys and values are kept once and read once per token for all siblings.

A row of a decoding step attends to its prompt and to what it has said. With eight siblings to a prompt, most of what a
step reads from memory would be eight copies of the same keys; here the siblings' queries meet them in one product, and
only a row's own keys are its own. Shape legend: B rows, U prompts, G rows of a prompt at most, P columns of the
prompts, T tokens a row has said, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.cache import whole
from models.native import kernel
from models.native_attention import Packed, attend
from models.prefill import Ready

Layers = list[tuple[Tensor, Tensor]]


class Prompts:
    """What the rows of a batch continue: for every layer the keys and values (U, K, P, D) of the prompts, ``mask_UP``,
    which of their columns are a prompt's own (None: all), and ``prompt_B``, the prompt of each row."""

    def __init__(self, layers: Layers, mask_UP: Tensor | None, prompt_B: Tensor) -> None:
        self.layers, self.mask_UP, self.prompt_B = layers, mask_UP, prompt_B
        self._rows: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}
        self._packed: dict[int, Packed] = {}

    @classmethod
    def of(cls, ready: Ready, prompt_B: Tensor) -> Prompts:
        """The prompts that were just read."""
        return cls([(layer.keys, layer.values) for layer in ready.cache.layers], ready.mask_UP, prompt_B)

    @property
    def columns(self) -> int:
        return self.layers[0][0].shape[2]

    def keep(self, rows: Tensor) -> Prompts:
        """The rows ``rows``, and no prompt that none of them continues."""
        alive, prompt_B = self.prompt_B[rows].unique(return_inverse=True)
        if len(alive) == len(self.layers[0][0]):
            kept = Prompts(self.layers, self.mask_UP, prompt_B)
            kept._packed = self._packed
            return kept
        layers = [(keys[alive], values[alive]) for keys, values in self.layers]
        return Prompts(layers, None if self.mask_UP is None else self.mask_UP[alive], prompt_B)

    def join(self, other: Prompts) -> Prompts:
        """The rows of both, aligned at the right."""
        width = max(self.columns, other.columns)
        masks = [_wider_mask(prompts, width) for prompts in (self, other)]
        layers = [
            (_stacked([one[0], two[0]], width), _stacked([one[1], two[1]], width))
            for one, two in zip(self.layers, other.layers, strict=True)
        ]
        prompt_B = torch.cat((self.prompt_B, other.prompt_B + len(self.layers[0][0])))
        return Prompts(layers, torch.cat(masks), prompt_B)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        """Attention of one query per row, (B, H, 1, D), to its prompt and its own (B, K, T, D); result (B, 1, H, D).

        ``mask`` is None, boolean or additive, of shape (B or 1, 1, 1, T), and tells of a row's own columns.
        """
        if kernel("attend", query, key, value) is not None:
            if layer not in self._packed:
                self._packed[layer] = Packed.of(*self.layers[layer], self.mask_UP)
            found = attend(query, key, value, mask, scaling, self._packed[layer], self.prompt_B)
            if found is not None:
                return found
        return self._multiplied(layer, query, key, value, mask, scaling)

    def _multiplied(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        """``attend`` by products of matrices."""
        rows, heads, _, width = query.shape
        shared, said = key.shape[1], key.shape[2]
        prompt_key, prompt_value = self.layers[layer]
        count, columns = len(prompt_key), self.columns
        kin, back = self._kin(heads, shared)
        query_RD = (query * scaling).reshape(rows * heads, width)
        asked = query_RD.index_select(0, kin).view(count * shared, -1, width)
        before = torch.bmm(asked, prompt_key.flatten(0, 1).mT)
        if self.mask_UP is not None:
            before += self._hidden(shared, before.dtype)
        own = torch.bmm(query_RD.view(rows * shared, -1, width), whole(key).flatten(0, 1).mT)[..., :said]
        if mask is not None:
            filled = own.unflatten(0, (rows, shared))
            filled.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else filled.add_(mask)
        score = torch.cat((before.view(-1, columns).index_select(0, back), own.reshape(-1, said)), 1)
        weight = score.softmax(-1, dtype=torch.float32).to(value.dtype)
        given = weight[:, :columns].index_select(0, kin).view(count * shared, -1, columns)
        first = torch.bmm(given, prompt_value.flatten(0, 1)).view(-1, value.shape[-1]).index_select(0, back)
        full = whole(value)
        rest = weight.new_zeros(rows * heads, full.shape[2])
        rest[:, :said] = weight[:, columns:]
        second = torch.bmm(rest.view(rows * shared, -1, full.shape[2]), full.flatten(0, 1))
        return first.view(rows, 1, heads, -1) + second.view(rows, 1, heads, -1)

    def _hidden(self, shared: int, dtype: torch.dtype) -> Tensor:
        """What the scores (U K, ., P) of ``shared`` key heads are added to: -inf in the columns that are no prompt's
        own. Made once, for all layers and tokens."""
        assert self.mask_UP is not None
        if (shared, dtype) not in self._masks:
            hidden_UP = torch.zeros(self.mask_UP.shape, dtype=dtype, device=self.mask_UP.device)
            hidden_UP.masked_fill_(~self.mask_UP, -torch.inf)
            self._masks[shared, dtype] = hidden_UP.repeat_interleave(shared, 0)[:, None]
        return self._masks[shared, dtype]

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """(U, G), the rows of every prompt, row 0 where it has fewer than G; and (B,), each row's place in it, flat."""
        order = self.prompt_B.argsort(stable=True)
        count_U = torch.bincount(self.prompt_B)
        most = int(count_U.max())
        place_B = torch.arange(len(order), device=order.device) - (count_U.cumsum(0) - count_U)[self.prompt_B[order]]
        place_B += self.prompt_B[order] * most
        rows_UG = order.new_zeros(len(count_U) * most)
        rows_UG[place_B] = order
        return rows_UG.view(-1, most), place_B[order.argsort()]

    def _kin(self, heads: int, shared: int) -> tuple[Tensor, Tensor]:
        """For rows (B, H) flat: those of each prompt and key head, (U, K, G, H / K) flat, and the way back."""
        if (heads, shared) not in self._rows:
            rows_UG, place_B = self._places
            head_KQ = torch.arange(heads, device=rows_UG.device).view(shared, -1)
            kin = rows_UG[:, None, :, None] * heads + head_KQ[None, :, None, :]
            at = torch.arange(kin.numel(), device=kin.device).view(kin.shape).transpose(1, 2).flatten(0, 1)
            self._rows[heads, shared] = kin.flatten(), at[place_B].flatten()
        return self._rows[heads, shared]


def _wider_mask(prompts: Prompts, width: int) -> Tensor:
    mask = prompts.mask_UP
    if mask is None:
        keys = prompts.layers[0][0]
        mask = torch.ones(len(keys), keys.shape[2], dtype=torch.bool, device=keys.device)
    return pad(mask, (width - mask.shape[1], 0))


def _stacked(blocks: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat([pad(block, (0, 0, width - block.shape[2], 0)) for block in blocks])
