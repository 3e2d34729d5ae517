"""Siblings beside each other: a prompt is read once for all the completions that follow it, with gradient.

Self-play asks every question several times, so most positions of a training pass would be prompts that have been read
already. Here all tokens of a batch lie in one row without padding, each distinct prompt once and then its completions;
positions tell the model where they are, and attention lets a completion see its prompt and itself. Everything but
attention is computed per position and needs to know nothing of it.

Shape legend: N positions, U prompts, G completions of a prompt, P and T their tokens, H query heads, K key heads,
Q = H / K, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from selfplay.types import Completion

_WASTE = 1.5
"""How many scores a block of prompts may compute for every one that its largest members need."""


@dataclass(eq=False)
class Block:
    """Prompts of similar size with their completions, padded to one shape: the positions (U, P) of the prompts and
    (U, G, T) of the completions; padding is the batch's last position, which nobody reads."""

    prompt_UP: Tensor
    said_UGT: Tensor
    hidden_UP: Tensor | None
    """-inf where ``prompt_UP`` is padding; None where none is."""


@dataclass(eq=False)
class Siblings:
    """A batch of completions in one row: ``ids_N`` and ``position_N``; ``predicts_C``, where each of the C completion
    tokens is predicted, in the order of the completions; and the blocks by which attention is computed."""

    ids_N: Tensor
    position_N: Tensor
    predicts_C: Tensor
    blocks: list[Block]
    real: int
    """Positions that are not padding: the first so many."""
    _indices: dict[tuple[int, int], tuple[list[tuple[Tensor, Tensor]], Tensor]] = field(default_factory=dict)

    def rows(self, heads: int, shared: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """For a tensor (N, heads, D) seen as rows of D: those of each block's prompts, (U, K, P, Q) flat, and
        completions, (U, K, G, T, Q) flat, where K = ``shared``; and the way back: for every (position, head) its row
        in all of these one after the other; that of padding is any."""
        if (heads, shared) not in self._indices:
            device, pairs = self.ids_N.device, []
            head_KQ = torch.arange(heads, device=device).view(shared, -1)
            for block in self.blocks:
                prompt = block.prompt_UP[:, None, :, None] * heads + head_KQ[None, :, None, :]
                said = block.said_UGT[:, None, :, :, None] * heads + head_KQ[None, :, None, None, :]
                pairs.append((prompt.flatten(), said.flatten()))
            rows = torch.cat([row for pair in pairs for row in pair])
            back = rows.new_zeros(len(self.ids_N) * heads)
            back[rows] = torch.arange(len(rows), device=device)
            self._indices[heads, shared] = pairs, back
        return self._indices[heads, shared]


def beside(completions: Sequence[Completion], device: torch.device, multiple: int = 1) -> Siblings:
    """The layout of a batch; ``multiple`` rounds the number of positions up, so that shapes recur."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, completion in enumerate(completions):
        groups.setdefault(completion.prompt_ids, []).append(number)
    ids: list[int] = []
    positions: list[int] = []
    starts: dict[int, int] = {}  # of what a completion says
    ends: dict[tuple[int, ...], int] = {}  # of a prompt
    for prompt, members in groups.items():
        ids += prompt
        positions += range(len(prompt))
        ends[prompt] = len(ids)
        for number in members:
            said = completions[number].token_ids[:-1]  # the last token predicts nothing
            starts[number] = len(ids)
            ids += said
            positions += range(len(prompt), len(prompt) + len(said))
    padding = -(-(len(ids) + 1) // multiple) * multiple - len(ids)
    last = len(ids) + padding - 1
    predicts = chain.from_iterable(
        (ends[c.prompt_ids] - 1, *range(starts[n], starts[n] + len(c.token_ids) - 1)) for n, c in enumerate(completions)
    )
    shapes = {
        prompt: (len(prompt), len(members), max(len(completions[n].token_ids) for n in members) - 1)
        for prompt, members in groups.items()
    }
    blocks = []
    for prompts in _alike(shapes):
        longest, most, widest = (max(shapes[p][axis] for p in prompts) for axis in range(3))
        prompt_UP = [[*range(ends[p] - len(p), ends[p]), *[last] * (longest - len(p))] for p in prompts]
        said_UGT = [
            [_padded(range(starts[n], starts[n] + len(completions[n].token_ids) - 1), widest, last) for n in groups[p]]
            + [[last] * widest] * (most - len(groups[p]))
            for p in prompts
        ]
        blocks.append(_block(prompt_UP, said_UGT, last, device, widest))
    return Siblings(
        torch.tensor(ids + [0] * padding, device=device),
        torch.tensor(positions + [0] * padding, device=device),
        torch.tensor(list(predicts), device=device),
        blocks,
        len(ids),
    )


def _padded(places: Sequence[int], width: int, last: int) -> list[int]:
    return [*places, *[last] * (width - len(places))]


def _block(
    prompt_UP: list[list[int]], said_UGT: list[list[list[int]]], last: int, device: torch.device, width: int
) -> Block:
    prompt = torch.tensor(prompt_UP, device=device)
    padding = prompt == last
    hidden = torch.zeros(prompt.shape, device=device).masked_fill_(padding, -torch.inf) if padding.any() else None
    said = torch.tensor(said_UGT, device=device, dtype=torch.int64).view(len(said_UGT), len(said_UGT[0]), width)
    return Block(prompt, said, hidden)


def _alike(shapes: dict[tuple[int, ...], tuple[int, int, int]]) -> list[list[tuple[int, ...]]]:
    """Prompts of similar (P, G, T) together, so that little of a block is padding."""
    made: list[list[tuple[int, ...]]] = []
    largest, needed = (0, 0, 0), 0
    for prompt in sorted(shapes, key=lambda p: (_scores(shapes[p]), shapes[p]), reverse=True):
        shape = shapes[prompt]
        both = (max(largest[0], shape[0]), max(largest[1], shape[1]), max(largest[2], shape[2]))
        if made and (len(made[-1]) + 1) * _scores(both) <= _WASTE * (needed + _scores(shape)):
            made[-1].append(prompt)
            largest, needed = both, needed + _scores(shape)
        else:
            made.append([prompt])
            largest, needed = shape, _scores(shape)
    return made


def _scores(shape: tuple[int, int, int]) -> int:
    """The attention scores of one head over a prompt and its completions."""
    prompt, count, said = shape
    return prompt * prompt + count * said * (prompt + said)
