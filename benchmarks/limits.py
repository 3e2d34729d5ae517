"""The least time that this machine needs for a benchmark's work (``models.roofline``): what a share is a share of."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from transformers import PreTrainedModel

from models.roofline import Work


def generation_seconds(
    model: PreTrainedModel, dtype: torch.dtype, prompts: int, prompt: int, lengths: Sequence[int]
) -> float:
    """Sampling completions of ``lengths``: ``prompts`` different prompts of ``prompt`` tokens are prefilled once, then
    every step takes one token for each row that is still speaking."""
    work = Work(model, dtype)
    work.prefill(prompts, prompt)
    for said in range(1, max(lengths)):  # the prefill gave the first token
        work.decode(sum(length > said for length in lengths), prompt + said)
    return work.take().seconds


def update_seconds(
    model: PreTrainedModel, dtype: torch.dtype, prompt: int, lengths: Sequence[int], *, optimizer: bool = True
) -> float:
    """Forward and backward over prompts of ``prompt`` tokens with completions of ``lengths``, and one AdamW step."""
    work = Work(model, dtype)
    work.train(len(lengths), prompt + fmean(lengths), fmean(lengths))
    if optimizer:
        work.optimize()
    return work.take().seconds
