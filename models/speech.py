"""What rows have said, and what they say next: the part of decoding that is no model.

All of it lives on the model's device and is updated in place, so that a step can be recorded once and replayed, and
nothing waits for the device between two tokens. Shape legend: N prompts, B rows in flight, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sampling import say, uniforms


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: ``temperature`` 0 is greedy, ``stop_ids`` end a row, ``max_tokens`` bounds it."""

    temperature: float
    top_p: float
    max_tokens: int
    stop_ids: Collection[int]


_STATE = ("token", "position", "said", "speaking")


@dataclass(slots=True)
class Sample:
    """What one row said: token ids and their log-probabilities under the model at temperature 1."""

    token_ids: list[int]
    logprobs: list[float]


class Speakers:
    """The rows in flight, (B,) each: their ``number`` among the prompts, the ``token`` said last and its
    ``position``, how many they have ``said``, and who is still ``speaking``."""

    def __init__(self, number: Tensor, length: Tensor) -> None:
        """``length`` of every row's prompt: the position of the first token that it will say."""
        self.number = number
        self.token = torch.zeros_like(number)
        self.position = length - 1
        self.said = torch.zeros_like(number)
        self.speaking = torch.ones_like(number, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.number)

    def load(self, other: Speakers) -> None:
        """The state of as many rows of ``other`` as there are, in place, numbers apart; rows beyond it are silent."""
        count = min(len(self), len(other))
        for name in _STATE:
            getattr(self, name)[:count] = getattr(other, name)[:count]
            getattr(self, name)[count:] = 0

    def keep(self, rows: Tensor) -> None:
        """Keep only ``rows``."""
        for name in ("number", *_STATE):
            setattr(self, name, getattr(self, name)[rows])

    def extend(self, other: Speakers) -> None:
        """Take the rows of ``other`` in at the end."""
        for name in ("number", *_STATE):
            setattr(self, name, torch.cat((getattr(self, name), getattr(other, name))))


class Speech:
    """Everything that N rows say, at most ``max_tokens`` each."""

    def __init__(self, seeds: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        count, last = len(seeds), sampling.max_tokens
        # One column more than a row can fill: there goes what a finished row says until it is dropped.
        chance_NT = torch.nn.functional.pad(uniforms(seeds, last), (0, 1))
        if device.type == "cuda":  # from pinned memory, so that nothing waits for the copy
            chance_NT = chance_NT.pin_memory()
        self._chance_NT = chance_NT.to(device, non_blocking=True)
        self._ids_NT = torch.zeros(count, last + 1, dtype=torch.long, device=device)
        self._logprobs_NT = torch.zeros(count, last + 1, device=device)
        self._said_N = torch.zeros(count, dtype=torch.long, device=device)
        self._stops = torch.tensor(sorted(sampling.stop_ids), device=device)

    def say(self, rows: Speakers, logits_BV: Tensor) -> None:
        """Draw the next token of every row from its logits (float32), and note it where the row still speaks."""
        place_B = rows.said.masked_fill(~rows.speaking, self.sampling.max_tokens)
        chance_B = self._chance_NT[rows.number, place_B]
        token_B, logprob_B = say(logits_BV, chance_B, self.sampling.temperature, self.sampling.top_p)
        self._ids_NT[rows.number, place_B] = token_B
        self._logprobs_NT[rows.number, place_B] = logprob_B
        rows.token.copy_(token_B)
        rows.position += rows.speaking  # a finished row stays inside the model's context
        rows.said += rows.speaking
        rows.speaking &= (token_B[:, None] != self._stops).all(-1) & (rows.said < self.sampling.max_tokens)
        self._said_N[rows.number] = rows.said

    def load(self, other: Speech, number_B: Tensor) -> None:
        """Take the rows ``number_B`` of ``other`` over as the first ones here."""
        for name in ("_chance_NT", "_ids_NT", "_logprobs_NT", "_said_N"):
            getattr(self, name)[: len(number_B)] = getattr(other, name)[number_B]

    def store(self, other: Speech, number_B: Tensor) -> None:
        """Take the first rows of ``other`` over as the rows ``number_B`` here: what ``load`` did, undone."""
        for name in ("_ids_NT", "_logprobs_NT", "_said_N"):
            getattr(self, name)[number_B] = getattr(other, name)[: len(number_B)]

    def samples(self) -> list[Sample]:
        """What each of the N rows has said."""
        ids, logprobs, said = self._ids_NT.tolist(), self._logprobs_NT.tolist(), self._said_N.tolist()
        return [Sample(ids[row][:count], logprobs[row][:count]) for row, count in enumerate(said)]
