"""The engine over any transformers causal language model: generate, score, encode, snapshot, save.

Weights are kept in float32 (the masters a learner updates); where ``dtype`` is bfloat16 the arithmetic runs under
autocast and the sampler decodes from a bfloat16 copy that follows the masters. Shape legend: B rows, T completion
tokens, P prompt tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from models.chat import ChatEncoder, whole
from models.choices import next_logprobs, token_ids
from models.decode import batches, decode, left_pad, positions
from selfplay.types import Chat, Completion


class Engine:
    """One model with its tokenizer. ``version`` counts the updates; whoever changes the weights calls ``touched``.

    ``batch_tokens`` bounds rows x positions of one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int = 65_536,
    ) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.dtype, self.batch_tokens = dtype, batch_tokens
        self.version = 0
        self._chats = ChatEncoder(tokenizer, name)
        self._decoder: PreTrainedModel | None = None
        self._decoder_version = -1
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._stop_ids = _stop_ids(model, tokenizer)
        self._context: int | None = getattr(model.config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """The name of ``dtype`` as a configuration writes it."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of every training and scoring pass."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def touched(self) -> None:
        """The weights have changed: a new version."""
        self.version += 1

    def generate(
        self,
        chats: Sequence[Chat],
        *,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """One completion per chat, in order. Row i is a function of (weights, ``chats[i]``, ``seeds[i]``, sampling).

        ``temperature`` 0 is greedy; ``max_tokens`` bounds the sampled tokens. Log-probabilities are the model's at
        temperature 1. Raises ``ValueError`` on a prompt that leaves no room in the model's context.
        """
        prompts = self._chats(chats)
        for prompt in prompts:
            if not self._has_room(prompt, max_tokens):
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens and max_tokens={max_tokens} exceed the context of "
                    f"{self._context} tokens of {self.name!r}: ask `fits` first"
                )
        # Equal prompts become neighbours (stable sort below), so that a batch prefills each of them once.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        done: list[Completion | None] = [None] * len(prompts)
        decoder = self._sync_decoder()
        for batch in batches([len(prompts[i]) for i in order], max_tokens, self.batch_tokens):
            rows = [order[i] for i in batch]
            samples = decode(
                decoder,
                [prompts[i] for i in rows],
                [seeds[i] for i in rows],
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                stop_ids=self._stop_ids,
                pad_id=self._pad_id,
            )
            texts = self._texts([sample.token_ids for sample in samples])
            for row, sample, text in zip(rows, samples, texts, strict=True):
                finish = "stop" if sample.token_ids[-1] in self._stop_ids else "length"
                done[row] = Completion(text, prompts[row], tuple(sample.token_ids), tuple(sample.logprobs), finish)
        return [completion for completion in done if completion is not None]

    def fits(self, chats: Sequence[Chat], max_tokens: int) -> list[bool]:
        """Whether each chat leaves room for ``max_tokens`` in the model's context."""
        return [self._has_room(prompt, max_tokens) for prompt in self._chats(chats)]

    def logprobs(self, completions: Sequence[Completion]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) of the completions' tokens under the present weights, and the mask (B, T) of real
        tokens. Differentiable unless called under ``torch.no_grad``; logits are made for completions only."""
        ids_BP, mask_BP = left_pad([c.prompt_ids for c in completions], self._pad_id, self.device)
        width = max(len(c.token_ids) for c in completions)
        tokens_BT = torch.tensor(
            [list(c.token_ids) + [self._pad_id] * (width - len(c.token_ids)) for c in completions], device=self.device
        )
        mask_BT = torch.tensor(
            [[1] * len(c.token_ids) + [0] * (width - len(c.token_ids)) for c in completions], device=self.device
        )
        # Padding on the right needs no mask: attention is causal. Only prompts of unequal length need one.
        mask = torch.cat((mask_BP, torch.ones_like(mask_BT)), 1)
        padded = not bool(mask_BP.all())
        with self.autocast():
            logits = self.model(
                input_ids=torch.cat((ids_BP, tokens_BT), 1),
                attention_mask=mask if padded else None,
                position_ids=positions(mask),
                use_cache=False,
                logits_to_keep=width + 1,
            ).logits[:, :-1]
        logprobs = -F.cross_entropy(logits.float().transpose(1, 2), tokens_BT, reduction="none")
        return logprobs.masked_fill(mask_BT == 0, 0.0), mask_BT.bool()

    def choices(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[list[float]]:
        """The log-probability of each one-token reply as the next token after each chat, at temperature 1, by the
        weights that sample. Raises ``ValueError`` for a reply of several tokens."""
        ids = token_ids(self.tokenizer, replies, self.name)
        prompts, decoder = self._chats(chats), self._sync_decoder()
        found: dict[int, list[float]] = {}
        for rows in batches([len(prompt) for prompt in prompts], 1, self.batch_tokens):
            logprobs_BK = next_logprobs(decoder, [prompts[row] for row in rows], ids, self._pad_id)
            found |= zip(rows, logprobs_BK.tolist(), strict=True)
        return [found[row] for row in range(len(prompts))]

    def encode(self, chat: Chat, text: str) -> Completion:
        """Someone else's words as this model's tokens, end of sequence included; ``logprobs`` is empty: nobody
        sampled them."""
        ids = self.tokenizer(whole(text), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        end = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        return Completion(text, self._chats([chat])[0], tuple(ids + end), (), "stop")

    def snapshot(self) -> Engine:
        """A frozen copy of the present weights: a reference, an opponent, a teacher."""
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        frozen = Engine(
            model, self.tokenizer, name=f"{self.name} (frozen)", dtype=self.dtype, batch_tokens=self.batch_tokens
        )
        frozen.version = self.version
        return frozen

    def save(self, folder: Path) -> None:
        """A ``save_pretrained`` folder: it loads in transformers, vLLM and lm-eval as it is."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Take the weights of a folder that ``save`` wrote, exactly."""
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self.model.load_state_dict(saved.state_dict())
        self.touched()

    def _sync_decoder(self) -> PreTrainedModel:
        """The model that samples: the masters themselves, or their copy in the lower precision, brought up to date."""
        self.model.eval()
        if self.dtype == torch.float32:
            return self.model
        if self._decoder is None:
            self._decoder = copy.deepcopy(self.model).requires_grad_(False)
            # The parameters only: rotary frequencies are buffers, and rounded ones turn far positions by whole angles.
            for parameter in self._decoder.parameters():
                parameter.data = parameter.data.to(self.dtype)
        elif self._decoder_version != self.version:
            with torch.no_grad():
                for copied, master in zip(self._decoder.parameters(), self.model.parameters(), strict=True):
                    copied.copy_(master)
        self._decoder_version = self.version
        return self._decoder

    def _has_room(self, prompt: tuple[int, ...], max_tokens: int) -> bool:
        return self._context is None or len(prompt) + max_tokens <= self._context

    def _texts(self, rows: list[list[int]]) -> list[str]:
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a turn: the generation config's (often several) and the tokenizer's."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)
