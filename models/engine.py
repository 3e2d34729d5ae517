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
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from models.allocator import keep_freed_memory
from models.attention import adopt
from models.chat import ChatEncoder, whole
from models.choices import readings, token_ids, tree
from models.fused import adopt_fused
from models.linear import adopt_linear
from models.lora import has_lora, load_lora, merged, save_lora
from models.roofline import Work
from models.rotary import adopt_rotary
from models.sampler import Sampler
from models.scoring import known_as, score
from models.speech import Sampling
from selfplay.types import Chat, Completion


class Engine:
    """One model with its tokenizer. ``version`` counts the updates; whoever changes the weights calls ``touched``.

    ``batch_tokens`` bounds the positions (rows x columns) that are decoded at once, ``prefix_mib`` what is kept of
    prompts that were read. ``attention="auto"`` puts our kernel for decoding in the place of transformers' ``sdpa``.
    A ``frozen`` engine never changes its weights.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int = 65_536,
        prefix_mib: int = 256,
        attention: str = "auto",
        frozen: bool = False,
    ) -> None:
        if attention == "auto":
            adopt(model)
        adopt_rotary(model)
        if model.device.type == "cpu":
            keep_freed_memory()
            adopt_fused(model)
            if dtype == torch.float32:
                adopt_linear(model)
        self.model, self.tokenizer, self.name, self.dtype = model, tokenizer, name, dtype
        self.version, self._frozen = 0, frozen
        self.work = Work(model, dtype)
        self._chats = ChatEncoder(tokenizer, name)
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        # What a frozen engine remembers would outlive a step, and a run that is resumed would not have it.
        self._sampler = Sampler(
            model, dtype, batch_tokens=batch_tokens, prefix_mib=prefix_mib, pad_id=self._pad_id, remembers=not frozen
        )
        self._settings: dict[str, Any] = {
            "dtype": dtype,
            "batch_tokens": batch_tokens,
            "prefix_mib": prefix_mib,
            "attention": attention,
        }
        self._stop_ids = _stop_ids(model, tokenizer)
        self._context: int | None = getattr(model.config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """The name of ``dtype`` as a configuration writes it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def batch_tokens(self) -> int:
        """The positions that are decoded at once; fewer than asked for where memory did not suffice."""
        return self._sampler.batch_tokens

    @property
    def exact_sampler(self) -> bool:
        """Whether what samples is what learns, up to rounding: no importance weights are needed then."""
        return self.dtype == torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of every training and scoring pass."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def touched(self) -> None:
        """The weights have changed: a new version."""
        self.version += 1

    def begin_step(self) -> None:
        """Forget what was kept of earlier prompts: a run that is resumed here must not differ by its rounding."""
        self._sampler.forget()

    def sleep(self) -> None:
        """Lend the sampler's memory to an update: nothing to lend where the sampler is this model."""

    def metrics(self) -> dict[str, float]:
        """What there is to tell of the sampler."""
        return {}

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
        if not chats:
            return []
        prompts = self._chats(chats)
        for prompt in prompts:
            if not self._has_room(prompt, max_tokens):
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens and max_tokens={max_tokens} exceed the context of "
                    f"{self._context} tokens of {self.name!r}: ask `fits` first"
                )
        sampling = Sampling(temperature, top_p, max_tokens, self._stop_ids)
        samples = self._sampler.sample(prompts, seeds, sampling, self.version)
        self._count_reading(prompts)
        self.work.speak([len(prompt) for prompt in prompts], [len(sample.token_ids) for sample in samples])
        texts = self._texts([sample.token_ids for sample in samples])
        return [
            Completion(
                text,
                prompt,
                tuple(sample.token_ids),
                tuple(sample.logprobs),
                "stop" if sample.token_ids[-1] in self._stop_ids else "length",
            )
            for prompt, sample, text in zip(prompts, samples, texts, strict=True)
        ]

    def fits(self, chats: Sequence[Chat], max_tokens: int) -> list[bool]:
        """Whether each chat leaves room for ``max_tokens`` in the model's context."""
        return [self._has_room(prompt, max_tokens) for prompt in self._chats(chats)]

    def logprobs(self, completions: Sequence[Completion]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) of the completions' tokens under the present weights, and the mask (B, T) of real
        tokens. Differentiable unless called under ``torch.no_grad``; logits are made for completions only."""
        with self.autocast():
            return score(self.model, completions)

    def choices(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[list[float]]:
        """The log-probability of each one-token reply as the next token after each chat, at temperature 1, by the
        weights that sample. Raises ``ValueError`` for a reply of several tokens."""
        ids = token_ids(self.tokenizer, replies, self.name)
        prompts = self._chats(chats)
        self._count_reading(prompts)
        return self._sampler.weigh(prompts, ids, self.version)

    def choose(
        self, chats: Sequence[Chat], legal: Sequence[Sequence[str]], *, temperature: float, seeds: Sequence[int]
    ) -> list[Completion]:
        """One of the texts ``legal[i]`` per chat, drawn token by token among those that a legal text goes on with.

        ``text`` is the whole move; ``token_ids`` end with the last token that was drawn, for the rest of the move is
        given then: a row with one legal move has none, and nothing is asked. ``temperature`` 0 is greedy at each token.
        Row i is a function of (weights, ``chats[i]``, the set of ``legal[i]``, ``seeds[i]``, temperature). A chat that
        leaves no room for its longest move is answered with silence. Raises ``ValueError`` for moves that cannot be
        chosen among: none, equal ones, those without tokens.
        """
        listed = [tuple(moves) for moves in legal]
        texts = list(dict.fromkeys(move for moves in listed for move in moves))
        tokens = dict(zip(texts, self._words(texts), strict=True))
        trees = {moves: tree(moves, tokens, self.tokenizer.eos_token_id, self.name) for moves in dict.fromkeys(listed)}
        prompts = self._chats(chats)
        pairs = enumerate(zip(prompts, listed, strict=True))
        rows = [i for i, (prompt, moves) in pairs if self._has_room(prompt, trees[moves].longest)]
        said = [Completion("", prompt, (), (), "length") for prompt in prompts]
        if not rows:
            return said
        asked, drawn = [prompts[i] for i in rows], [seeds[i] for i in rows]
        chosen = self._sampler.choose(asked, [trees[listed[i]] for i in rows], drawn, temperature, self.version)
        for count, new, before in readings(asked, chosen):
            self.work.prefill(count, new, before)
        for i, one in zip(rows, chosen, strict=True):
            parts = tuple(one.token_ids), tuple(one.logprobs), "stop", tuple(one.allowed)
            said[i] = Completion(listed[i][one.move], prompts[i], *parts)
        return said

    def encode(self, chat: Chat, text: str) -> Completion:
        """Someone else's words as this model's tokens, end of sequence included; ``logprobs`` is empty: nobody
        sampled them."""
        end = (self.tokenizer.eos_token_id,) if self.tokenizer.eos_token_id is not None else ()
        return Completion(text, self._chats([chat])[0], self._words([text])[0] + end, (), "stop")

    def snapshot(self) -> Engine:
        """A frozen copy of the present weights: a reference, an opponent, a teacher."""
        if has_lora(self.model):
            model = merged(self.model, share=True)
        else:
            model = copy.deepcopy(self.model).requires_grad_(False).eval()
            known_as(model, self.model)
        frozen = Engine(model, self.tokenizer, name=f"{self.name} (frozen)", frozen=True, **self._settings)
        frozen.version, frozen.work = self.version, self.work
        return frozen

    def twin(self) -> Engine:
        """A second model that starts from the present weights and can be trained apart."""
        model = copy.deepcopy(self.model)
        known_as(model, self.model)
        return Engine(model, self.tokenizer, name=f"{self.name} (twin)", **self._settings)

    def save(self, folder: Path) -> None:
        """A ``save_pretrained`` folder: it loads in transformers, vLLM and lm-eval as it is. Adapters are merged, and
        written apart as well."""
        if has_lora(self.model):
            merged(self.model).save_pretrained(folder)
            save_lora(self.model, folder)
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Take the weights of a folder that ``save`` wrote, exactly."""
        if has_lora(self.model):
            load_lora(self.model, folder)
            self.touched()
            return
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        # A frozen copy may hold tensors of its original (adapters leave most weights where they are): it lets them go.
        self.model.load_state_dict(saved.to(self.device).state_dict(), assign=self._frozen)
        if self._frozen:
            self.model.tie_weights()
            self.model.requires_grad_(False)
        self.touched()

    def _count_reading(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Equal prompts are read once."""
        if lengths := [len(prompt) for prompt in set(prompts)]:
            self.work.prefill(len(lengths), fmean(lengths))

    def _has_room(self, prompt: tuple[int, ...], max_tokens: int) -> bool:
        return self._context is None or len(prompt) + max_tokens <= self._context

    def _words(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of players' words; what spells a control token is letters."""
        if not texts:
            return []
        spelled = [whole(text) for text in texts]
        rows = self.tokenizer(spelled, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [tuple(row) for row in rows]

    def _texts(self, rows: list[list[int]]) -> list[str]:
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a turn: the generation config's (often several) and the tokenizer's."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)
