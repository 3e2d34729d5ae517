"""The plain way to take a policy-gradient step, which ``update`` compares ours with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from selfplay.estimators import make_estimator
from selfplay.types import Episode


def eager_update(model: PreTrainedModel, lr: float) -> Callable[[Sequence[Episode]], None]:
    """A step in float32: one batch, prompts padded on the left and answers on the right, logits of every position,
    their log-softmax as a whole, the mean over rows of -A sum_t log pi, gradients clipped to norm 1, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)

    def update(episodes: Sequence[Episode]) -> None:
        credit = make_estimator("grpo_std")(episodes)
        rows = [(turn.action.completion, worth) for turn, worth in credit.items() if turn.action.completion is not None]
        asked = [torch.tensor(completion.prompt_ids) for completion, _ in rows]
        said = [torch.tensor(completion.token_ids) for completion, _ in rows]
        prompt_BP = pad_sequence(asked, batch_first=True, padding_side="left")
        token_BT = pad_sequence(said, batch_first=True)
        mask_BP = pad_sequence([torch.ones_like(ids) for ids in asked], batch_first=True, padding_side="left")
        mask_BT = pad_sequence([torch.ones_like(ids) for ids in said], batch_first=True)
        mask = torch.cat((mask_BP, mask_BT), 1)
        logits = model(input_ids=torch.cat((prompt_BP, token_BT), 1), attention_mask=mask, use_cache=False).logits
        logprob = logits[:, :-1].float().log_softmax(-1)[:, prompt_BP.shape[1] - 1 :]
        logprob_BT = logprob.gather(2, token_BT[:, :, None]).squeeze(2) * mask_BT
        worth_B = torch.tensor([worth for _, worth in rows])
        loss = -(worth_B * logprob_BT.sum(-1)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update
