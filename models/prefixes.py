"""What prompts begin with, kept: the keys and values of prompts that were read under the present weights.

A prompt that begins like an earlier one (the same persona, the same rules, a dialogue that has grown by a line) is
read from where the two part. Shape legend: U prompts of a block, K key heads, P columns, D width.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache

MIN_PREFIX = 32
"""Tokens: what is shorter is read again faster than it is found and copied."""

Ids = tuple[int, ...]


class Found(NamedTuple):
    """The first ``length`` tokens of a prompt are those of row ``row`` of block ``block``."""

    block: int
    row: int
    length: int


class _Block(NamedTuple):
    """Prompts that were read together: keys and values (U, K, P, D) a layer, and the columns (U, P) of every row's
    tokens, in their order."""

    layers: list[tuple[Tensor, Tensor]]
    columns_UP: Tensor

    def nbytes(self) -> int:
        return sum(states.nbytes for pair in self.layers for states in pair)


class Prefixes:
    """At most ``limit`` bytes of prompts; the oldest go first. Whoever changes the weights calls ``clear``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._blocks: dict[int, _Block] = {}
        self._entries: list[tuple[Ids, int, int]] = []  # in the order of the ids, so that neighbours share most
        self._next, self._bytes = 0, 0

    def add(self, prompts: Sequence[Ids], cache: Cache, mask_UP: Tensor | None) -> None:
        """Keep the prompts whose keys and values ``cache`` holds, row by row, in the columns of ``mask_UP``."""
        if max(map(len, prompts)) < MIN_PREFIX:
            return
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        count, columns = layers[0][0].shape[0], layers[0][0].shape[2]
        if mask_UP is None:
            columns_UP = torch.arange(columns, device=layers[0][0].device).expand(count, columns)
        else:
            columns_UP = (~mask_UP).to(torch.uint8).argsort(stable=True)  # a row's own columns first
        block = _Block(layers, columns_UP)
        if block.nbytes() > self.limit:
            return
        self._blocks[self._next] = block
        self._bytes += block.nbytes()
        for row, prompt in enumerate(prompts):
            if len(prompt) >= MIN_PREFIX:
                insort(self._entries, (prompt, self._next, row))
        self._next += 1
        while self._bytes > self.limit:
            oldest = next(iter(self._blocks))
            self._bytes -= self._blocks.pop(oldest).nbytes()
            self._entries = [entry for entry in self._entries if entry[1] != oldest]

    def find(self, prompt: Ids) -> Found | None:
        """Where most of the prompt's beginning is kept: ``MIN_PREFIX`` tokens or more, and never its last one, whose
        logits are wanted."""
        place = bisect_left(self._entries, (prompt,))
        best: Found | None = None
        for ids, block, row in self._entries[max(0, place - 1) : place + 1]:
            length = min(common(ids, prompt), len(prompt) - 1)
            if length >= MIN_PREFIX and (best is None or length > best.length):
                best = Found(block, row, length)
        return best

    def gather(self, found: Sequence[Found]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values (R, K, P, D) a layer of R beginnings, aligned at the right, and the mask (R, P) of their
        columns."""
        width = max(one.length for one in found)
        device = next(iter(self._blocks.values())).columns_UP.device
        length_R = torch.tensor([one.length for one in found], device=device)
        place_RP = torch.arange(width, device=device) - (width - length_R)[:, None]
        whole: list[list[Tensor]] = []
        by_block: dict[int, list[int]] = {}
        for number, one in enumerate(found):
            by_block.setdefault(one.block, []).append(number)
        for name, numbers in by_block.items():
            block = self._blocks[name]
            rows = torch.tensor([found[number].row for number in numbers], device=device)
            chosen = torch.tensor(numbers, device=device)
            last = block.columns_UP.shape[1] - 1
            columns_RP = block.columns_UP[rows].gather(1, place_RP[chosen].clamp(0, last))
            for layer, pair in enumerate(block.layers):
                if len(whole) == layer:
                    whole.append([s.new_zeros((len(found), s.shape[1], width, s.shape[3])) for s in pair])
                for states, into in zip(pair, whole[layer], strict=True):
                    index = columns_RP[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
                    into[chosen] = states[rows].gather(2, index)
        return [(keys, values) for keys, values in whole], place_RP >= 0


def common(one: Ids, other: Ids) -> int:
    """How many tokens two prompts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def shared(prompts: Sequence[Ids]) -> list[Ids]:
    """What several of the prompts begin with, at least ``MIN_PREFIX`` tokens: one beginning per run of neighbours
    in their order that have so much in common."""
    found: list[Ids] = []
    run: Ids | None = None  # what the present run of prompts has in common
    ordered = sorted(set(prompts))
    for before, prompt in zip(ordered, [*ordered[1:], ()], strict=True):
        overlap = common(before, prompt)
        if overlap >= MIN_PREFIX:
            run = before[: min(overlap, len(run) if run is not None else overlap)]
        else:
            if run is not None:
                found.append(run)
            run = None
    return found
