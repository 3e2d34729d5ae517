"""How likely each of a few one-token replies is as the next thing a model says: a judge's digits, yes and no."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.prefill import prefill
from models.prefixes import Prefixes
from selfplay.deadline import check


def token_ids(tokenizer: PreTrainedTokenizerBase, replies: Sequence[str], name: str) -> list[int]:
    """The one token of each reply. Raises ``ValueError`` where a reply takes several, or two begin alike."""
    found = [tokenizer(reply, add_special_tokens=False, split_special_tokens=True)["input_ids"] for reply in replies]
    for reply, ids in zip(replies, found, strict=True):
        if len(ids) != 1:
            raise ValueError(f"{reply!r} is {len(ids)} tokens of {name!r}: only replies of one token can be weighed")
    firsts = [ids[0] for ids in found]
    if len(set(firsts)) < len(firsts):
        raise ValueError(f"two of the replies {list(replies)} are the same token of {name!r}")
    return firsts


@torch.inference_mode()
def next_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    ids: Sequence[int],
    pad_id: int,
    prefixes: Prefixes | None = None,
) -> Tensor:
    """Log-probabilities (B, K), on the CPU in float32, of the K tokens ``ids`` after each of the B prompts."""
    check()
    unique = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    logits_UV = prefill(model, list(unique), pad_id, prefixes).logits_UV
    return logits_UV.log_softmax(-1)[:, list(ids)].cpu()[[unique[prompt] for prompt in prompts]]
