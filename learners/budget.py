"""The budget of positions of one forward and backward pass, from free memory, and the batches that keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.decode import batches as positions_within
from selfplay.types import Completion

CAP = {"cpu": 4_096, "cuda": 65_536}
"""More positions per pass gain nothing and take memory: a CPU is as fast with 4,096 as with 16,384, a GPU is full."""
LEAST = 1_024
_SHARE = 0.5
"""Of the free memory, what activations may take: their gradients, the logits and the allocator want the rest."""


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers in batches of rows x longest row <= ``budget`` positions, by length, the longest batch first.

    Sorted, so that little is padding; the longest first, so that memory that does not suffice shows at once. Rows of
    equal length stay in their order. A row over the budget is a batch of its own.
    """
    return positions_within(lengths, 0, budget)[::-1]


def shared_batches(rows: Sequence[Sequence[Completion]], budget: int) -> list[list[int]]:
    """Row numbers in batches of at most ``budget`` positions, where a row is the completions that it scores and a
    prompt counts once in every batch: siblings next to each other, the longest prompts first.

    A row over the budget is a batch of its own.
    """
    made: list[list[int]] = []
    read: set[tuple[int, ...]] = set()
    positions = 0
    for row in sorted(
        range(len(rows)), key=lambda i: [(len(c.prompt_ids), c.prompt_ids) for c in rows[i]], reverse=True
    ):
        said = sum(len(c.token_ids) for c in rows[row])
        prompts = {c.prompt_ids for c in rows[row]}
        positions += said + sum(map(len, prompts - read))
        if not made or positions > budget:
            made.append([])
            read, positions = set(), said + sum(map(len, prompts))
        made[-1].append(row)
        read |= prompts
    return made


def tokens_that_fit(free: int, per_position: float, cap: int) -> int:
    """The budget for ``free`` bytes when a position keeps ``per_position`` bytes for its backward pass.

    A power of two between ``LEAST`` and ``cap``: a little more or less free memory must not change the batches, and
    with them the rounding of a run that is repeated.
    """
    fit = _SHARE * free / max(per_position, 1.0)
    budget = LEAST
    while 2 * budget <= min(fit, cap):
        budget *= 2
    return budget


def kept_bytes(forward: Callable[[], Any]) -> int:
    """The bytes that ``forward`` keeps for its backward pass, every storage counted once, parameters left out."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive = forward()  # until it has been counted: a freed address would be used again
    del alive
    return sum(kept.values())
