"""Completions as tensors: where their tokens lie in a pass, and which words a token was drawn among.

A row is its prompt followed at once by its completion, padded on the right; or all rows are one, without padding; or
each distinct prompt is there once (``models.siblings``). Where a move was chosen among a few, its tokens'
log-probabilities are those of the model renormalised over the words that were up for choice.

Shape legend: B rows, L positions, T completion tokens of the longest row, N completion tokens of all rows, K words that
a token was drawn among, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor

from models.siblings import Siblings, beside
from selfplay.types import Completion


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of completions as tensors: ``ids_BL``, right-padded, or all in one row, and then ``position_BL`` tells
    each token's place and ``siblings``, where prompts are shared, who belongs to whom; ``predicts_N``, the flat
    position (of B x L) from which each completion token is predicted; ``token_N``; ``mask_BT``, where the N tokens go,
    row by row; and ``allowed_NK``, the ids that each was drawn among, the first of them again where there are fewer
    than K, and -1 where it was drawn from the whole vocabulary: None where all were."""

    ids_BL: Tensor
    position_BL: Tensor | None
    predicts_N: Tensor
    token_N: Tensor
    mask_BT: Tensor
    siblings: Siblings | None = None
    allowed_NK: Tensor | None = None

    @property
    def scored(self) -> tuple[Tensor, ...]:
        """What tells a token's log-probability from its logits: ``token_N``, and ``allowed_NK`` where there is one."""
        return (self.token_N,) if self.allowed_NK is None else (self.token_N, self.allowed_NK)

    def placed(self, value_N: Tensor) -> Tensor:
        """A number for every completion token, where it stands: (B, T), 0 outside the mask."""
        return value_N.new_zeros(self.mask_BT.shape).masked_scatter(self.mask_BT, value_N)


def lay_out(
    completions: Sequence[Completion],
    device: torch.device,
    multiple: tuple[int, int] = (1, 1),
    packed: bool = False,
    shared: bool = False,
) -> Rows:
    """The rows of a batch. ``multiple`` rounds the number of rows and of positions up, so that shapes recur;
    ``packed`` puts all into one row without padding, for attention of variable lengths; ``shared`` as well, and every
    distinct prompt is there once.

    The last token of a row predicts nothing and is left out. Raises ``ValueError`` for a completion without a prompt:
    nothing predicts its first token.
    """
    if not all(c.prompt_ids for c in completions):
        raise ValueError("a completion has an empty prompt: nothing predicts its first token")
    longest = max(len(c.token_ids) for c in completions)
    token_N = torch.tensor([token for c in completions for token in c.token_ids], device=device, dtype=torch.int64)
    mask_BT = torch.tensor([[t < len(c.token_ids) for t in range(longest)] for c in completions], device=device)
    allowed_NK = _allowed(completions, device)
    if shared:
        kin = beside(completions, device, multiple[0] * multiple[1])
        return Rows(kin.ids_N[None], kin.position_N[None], kin.predicts_C, token_N, mask_BT, kin, allowed_NK)
    rows = [(*c.prompt_ids, *c.token_ids)[:-1] for c in completions]
    if packed:
        starts = list(accumulate(map(len, rows), initial=0))[:-1]
        ids, positions = [list(chain(*rows))], [[n for row in rows for n in range(len(row))]]
    else:
        width = _up(max(map(len, rows)), multiple[1])
        starts, positions = [width * b for b in range(len(rows))], None
        ids = [[*row, *[0] * (width - len(row))] for row in rows]
        ids += [[0] * width] * (_up(len(rows), multiple[0]) - len(rows))
    pairs = list(zip(starts, completions, strict=True))
    predicts = [start + len(c.prompt_ids) - 1 + t for start, c in pairs for t in range(len(c.token_ids))]
    return Rows(
        torch.tensor(ids, device=device),
        None if positions is None else torch.tensor(positions, device=device),
        torch.tensor(predicts, device=device, dtype=torch.int64),
        token_N,
        mask_BT,
        allowed_NK=allowed_NK,
    )


def _allowed(completions: Sequence[Completion], device: torch.device) -> Tensor | None:
    """(N, K), as ``Rows`` has it. Raises ``ValueError`` where a completion does not say it of each of its tokens, or
    has a token that is not among them."""
    if not any(c.allowed for c in completions):
        return None
    for c in completions:
        listed = len(c.allowed) == len(c.token_ids)
        if c.allowed and not (listed and all(t in ids for t, ids in zip(c.token_ids, c.allowed, strict=True))):
            raise ValueError(f"the completion {c.text!r} has tokens that are not among those that it was drawn from")
    every: list[tuple[int, ...]] = [ids for c in completions for ids in c.allowed or ((),) * len(c.token_ids)]
    width = max(map(len, every))
    rows = [[*ids, *[ids[0]] * (width - len(ids))] if ids else [-1] * width for ids in every]
    return torch.tensor(rows, device=device, dtype=torch.int64).view(len(every), width)


def drawn(completion: Completion) -> int:
    """How many tokens were drawn: of a move that was chosen, those for which there was more than one."""
    return sum(len(ids) > 1 for ids in completion.allowed) if completion.allowed else len(completion.token_ids)


def drawn_mask(completions: Sequence[Completion], mask_BT: Tensor) -> Tensor:
    """The mask (B, T) of the real tokens without those that had to come: they tell nothing, and weigh nothing."""
    if not any(c.allowed for c in completions):
        return mask_BT
    given = [[t < len(c.allowed) and len(c.allowed[t]) == 1 for t in range(mask_BT.shape[1])] for c in completions]
    return mask_BT & ~torch.tensor(given, device=mask_BT.device)


def restrict(block_NV: Tensor, allowed_NK: Tensor | None) -> Tensor:
    """The logits with -inf for every word that a token was not drawn among: those of the renormalised distribution."""
    if allowed_NK is None:
        return block_NV
    out_NV = torch.ones_like(block_NV, dtype=torch.bool).scatter_(1, allowed_NK.clamp(min=0), False)
    out_NV &= allowed_NK[:, :1] >= 0
    return block_NV.masked_fill(out_NV, -torch.inf)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
