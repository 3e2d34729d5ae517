"""The rollout loop over an unmodified transformers model: equal prompts prefilled once, finished rows dropped, and
waiting prompts put in their place.

Shape legend: N prompts, U unique prompts, B rows in flight, P prompt length, L cached columns, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.attention import NAME as SPARRING
from models.cache import decode_cache, grows, join, select
from models.graphs import Graphs, can_record
from models.native_attention import available
from models.prefill import forward, prefill
from models.prefixes import Prefixes
from models.prompts import Prompts
from models.speech import Sample, Sampling, Speakers, Speech
from selfplay.deadline import check

_KEEP = 0.75
"""Rows are compacted when this share of them or less is still speaking: a copy of the cache is not free."""


def batches(lengths: Sequence[int], extra: int, budget: int) -> list[list[int]]:
    """Row numbers in batches of at most ``budget`` positions (row x (longest prompt + extra)), longest rows last.

    Rows of equal length stay in their order, so equal prompts stay neighbours if the caller made them so. A single
    row over the budget gets a batch of its own.
    """
    made: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if made and (len(made[-1]) + 1) * (lengths[row] + extra) <= budget:
            made[-1].append(row)
        else:
            made.append([row])
    return made


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    pad_id: int,
    budget: int,
    prefixes: Prefixes | None = None,
    graphs: Graphs | None = None,
    shared: bool = False,
) -> list[Sample]:
    """Sample one completion per prompt, with at most ``budget`` positions (rows x (prompt + tokens)) in flight.

    The prompts come shortest first. Row i depends on ``prompts[i]`` and ``seeds[i]`` alone, up to the rounding of
    matrix products of another shape. ``shared``: the model's attention takes prompts that several rows continue.
    """
    shared = shared and 2 * len(set(prompts)) <= len(prompts)
    speech = Speech(seeds, sampling, model.device)
    waiting = list(range(len(prompts)))

    def start(rows: list[int]) -> _Flight:
        flight = _Flight(model, [prompts[row] for row in rows], rows, pad_id, prefixes, shared)
        speech.say(flight.speakers, flight.logits_BV)
        return flight

    flight: _Flight | None = None
    while True:
        check()  # a judge's call has a deadline; nothing else can end it
        alive = int(flight.speakers.speaking.sum()) if flight else 0
        if flight is None or alive == 0:
            if not waiting:
                return speech.samples()
            flight = start(_admit(waiting, prompts, 0, 0, sampling.max_tokens, budget))
            continue
        if alive <= _KEEP * len(flight.speakers):
            flight.drop()
            if waiting and grows(flight.cache):
                rows = _admit(waiting, prompts, alive, flight.columns, sampling.max_tokens, budget)
                if rows:
                    flight.join(start(rows))
        if graphs and can_record(model, flight.cache):
            graphs.run(model, flight, speech, _KEEP)
        else:
            flight.step(model)
            speech.say(flight.speakers, flight.logits_BV)


def _admit(
    waiting: list[int], prompts: Sequence[tuple[int, ...]], beside: int, columns: int, extra: int, budget: int
) -> list[int]:
    """Take from ``waiting`` the rows that fit into the budget beside so many others of so many columns; where there
    are no others, one at least."""
    count = 0
    while count < len(waiting):
        columns = max(columns, len(prompts[waiting[count]]))
        if (beside + count + 1) * (columns + extra) > budget and beside + count:
            break
        count += 1
    taken = waiting[:count]
    del waiting[:count]
    return taken


def _by_feature(model: PreTrainedModel, shared: bool) -> str:
    """What a cache had better keep by feature for the attention that the model decodes with."""
    if model.config._attn_implementation == SPARRING and available(model.dtype, model.device):
        return "keys"
    return "values" if shared and model.dtype == torch.bfloat16 else ""


class _Flight:
    """Rows that are decoded together: who speaks, the keys and values of what they have said, and the logits of what
    they say next."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[tuple[int, ...]],
        rows: Sequence[int],
        pad_id: int,
        prefixes: Prefixes | None,
        shared: bool,
    ) -> None:
        unique = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        ready = prefill(model, list(unique), pad_id, prefixes)
        chosen = torch.tensor([unique[prompt] for prompt in prompts], device=model.device)
        self.prompts = Prompts.of(ready, chosen) if shared else None
        by_feature = _by_feature(model, shared)
        if shared:
            self.cache, self.mask_BL = decode_cache(model.config, by_feature), None
        else:
            select(ready.cache, chosen, by_feature)
            self.cache = ready.cache
            self.mask_BL = None if ready.mask_UP is None else ready.mask_UP[chosen]
        self.logits_BV = ready.logits_UV[chosen]
        self.speakers = Speakers(torch.tensor(rows, device=model.device), ready.length_U[chosen])

    @property
    def columns(self) -> int:
        """That a row attends to at most."""
        return self.cache.get_seq_length() + (self.prompts.columns if self.prompts else 0)

    def step(self, model: PreTrainedModel) -> None:
        """Feed the tokens that were said last: their keys and values, and the logits of the next ones."""
        rows = self.speakers
        if self.mask_BL is not None:
            self.mask_BL = torch.cat((self.mask_BL, self.mask_BL.new_ones(len(rows), 1)), 1)
        more = {"prompts": self.prompts} if self.prompts else {}
        self.logits_BV = forward(model, rows.token[:, None], self.mask_BL, self.cache, rows.position[:, None], **more)

    def drop(self) -> None:
        """Let go of the rows that have finished."""
        keep = self.speakers.speaking.nonzero().squeeze(1)
        if self.cache.get_seq_length():
            select(self.cache, keep)
        if self.prompts:
            self.prompts = self.prompts.keep(keep)
        self.speakers.keep(keep)
        if self.mask_BL is not None:
            self.mask_BL = self.mask_BL[keep]

    def join(self, other: _Flight) -> None:
        """Take the rows of ``other`` in; all are aligned at the right, and columns that nobody needs are let go."""
        if self.prompts and other.prompts:
            self.prompts = self.prompts.join(other.prompts)
        if self.cache.get_seq_length():  # else nobody has said a word, and prompts are all there is
            masks = [flight.mask_BL if flight.mask_BL is not None else flight._everything() for flight in (self, other)]
            unused = int(masks[0].any(0).int().argmax())
            masks[0] = masks[0][:, unused:]
            width = max(mask.shape[1] for mask in masks)
            join(self.cache, unused, other.cache, len(other.speakers))
            self.mask_BL = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
        self.speakers.extend(other.speakers)

    def _everything(self) -> Tensor:
        columns = self.cache.get_seq_length()
        return torch.ones(len(self.speakers), columns, dtype=torch.bool, device=self.speakers.token.device)
