"""Transformers' own ``generate``, with the settings that suit it best: what ours is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def hf_sampler(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int, seed: int = 0
) -> Callable[[Sequence[str]], list[int]]:
    """A call that samples one completion per prompt by ``model.generate`` and returns how long each is.

    Temperature 1, no top-k, no top-p, so that no logits processor is built; its default dynamic cache; one batch; the
    prompts are tokenised within the call, and its tokens become text, as in ours.
    """
    stop = tokenizer.eos_token_id

    def sample(texts: Sequence[str]) -> list[int]:
        torch.manual_seed(seed)
        chats = [[{"role": "user", "content": text}] for text in texts]
        asked = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        ).to(model.device)
        with torch.inference_mode():
            whole = model.generate(
                **asked, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=max_tokens,
                use_cache=True, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        said = whole[:, asked["input_ids"].shape[1] :]
        tokenizer.batch_decode(said, skip_special_tokens=True)
        ended = (said == stop).cumsum(-1) - (said == stop).long()  # what follows the end token is padding
        return (ended == 0).sum(-1).tolist()

    return sample
