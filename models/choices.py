"""How likely each of a few one-token replies is as the next thing a model says: a judge's digits, yes and no."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.decode import left_pad, positions
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
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], ids: Sequence[int], pad_id: int
) -> Tensor:
    """Log-probabilities (B, K), on the CPU in float32, of the K tokens ``ids`` after each of the B prompts."""
    check()
    ids_BP, mask_BP = left_pad(prompts, pad_id, model.device)
    out = model(
        input_ids=ids_BP,
        attention_mask=None if bool(mask_BP.all()) else mask_BP,
        position_ids=positions(mask_BP),
        use_cache=False,
        logits_to_keep=1,
    )
    return out.logits[:, -1].float().log_softmax(-1)[:, list(ids)].cpu()
