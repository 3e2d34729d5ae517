"""Freshly initialised models of a given size, what they are prompted with, and steps to learn from."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.engine import Engine
from selfplay.types import VERIFIER, Action, Completion, Episode, Turn

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
END = 1
"""The id of the end token."""
_NEVER = -30.0
"""A logit that is never drawn: exp(-30) of a vocabulary's mass."""


@dataclass(frozen=True)
class Size:
    """A Llama's shape; ``tied`` is one matrix for the embedding and the head."""

    vocab: int
    hidden: int
    layers: int
    tied: bool = False
    heads: int = 0
    kv_heads: int = 0
    intermediate: int = 0


SIZES = {
    "micro": Size(64, 32, 2),
    "1M": Size(512, 128, 4),
    "10M": Size(4096, 320, 8),
    "60M": Size(32_000, 512, 8),
    "160M": Size(32_000, 768, 14),
    "350M": Size(32_000, 1024, 20),
}
"""By their number of parameters; ``micro`` is for trying a benchmark out."""


def config(size: Size, context: int = 4096) -> LlamaConfig:
    heads = size.heads or max(1, size.hidden // (64 if size.hidden >= 512 else 32))
    return LlamaConfig(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate or 3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=size.kv_heads or heads,
        max_position_embeddings=context,
        tie_word_embeddings=size.tied,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=None,
    )


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """One token per word: padding, the end, two marks of the chat, then w0, w1, ..."""
    words = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", *(f"w{n}" for n in range(vocab - 4))]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.Sequence([])
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side="left",
    )
    made.chat_template = TEMPLATE
    return made


def make(size: Size, mean_length: float | None, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random model with a word-level tokenizer; a bias on the end token makes lengths geometric with that mean.

    A fresh model is near uniform over its vocabulary: P(end) = e^b / (V - 1 + e^b) = 1 / mean. ``None``: the end is
    never said, so that every completion has the length of the limit.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(size))
    head = nn.Linear(size.hidden, size.vocab, bias=True)
    with torch.no_grad():
        if size.tied:
            head.weight = model.get_input_embeddings().weight
        else:
            head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[0] = _NEVER  # padding is never said
    model.lm_head = head
    set_mean_length(model, mean_length)
    return model.eval(), tokenizer(size.vocab)


def set_mean_length(model: LlamaForCausalLM, mean: float | None) -> None:
    """Bias the end token of a model that ``make`` made, for another mean."""
    others = model.config.vocab_size - 1
    with torch.no_grad():
        model.lm_head.bias[END] = _NEVER if mean is None else math.log(others / (mean - 1))


def prompts(count: int, tokens: int, vocab: int, call: int = 0) -> list[str]:
    """``count`` different prompts of ``tokens`` tokens each, the template's two included; another ``call`` has others,
    for an engine that keeps the prefixes of the last one."""
    rows = range(call * count, (call + 1) * count)
    return [" ".join(f"w{(7 * row + 13 * n) % (vocab - 4)}" for n in range(tokens - 2)) for row in rows]


def lengths(count: int, longest: int, mean: float | None, seed: int = 0) -> list[int]:
    """Geometric lengths of that mean, cut at ``longest``; ``None``: all are ``longest``."""
    if mean is None:
        return [longest] * count
    draw = random.Random(seed)
    made: list[int] = []
    for _ in range(count):
        length = 1
        while length < longest and draw.random() > 1 / mean:
            length += 1
        made.append(length)
    return made


def step(
    vocab: int, prompt: int, answers: Sequence[int], group: int, engine: Engine | None = None, seed: int = 0
) -> list[Episode]:
    """Episodes as a rollout returns them, without the sampling: answers of these lengths to prompts of ``prompt``
    tokens, ``group`` siblings each, rewards that differ among them.

    With an ``engine`` the tokens have their log-probabilities under it; without, those of a uniform draw, which is what
    a fresh model is near to.
    """
    draw, uniform = random.Random(seed), -math.log(vocab)
    made: list[Completion] = []
    for row, length in enumerate(answers):
        asked = random.Random(f"{seed}-{row // group}")
        ids = tuple(asked.randrange(4, vocab) for _ in range(prompt))
        said = tuple(draw.randrange(4, vocab) for _ in range(length))
        made.append(Completion("", ids, said, (uniform,) * length, "length"))
    if engine is not None:
        with torch.no_grad():
            for start in range(0, len(made), 16):
                part = made[start : start + 16]
                logprobs_BT, _ = engine.logprobs(part)
                for row, found in enumerate(logprobs_BT.tolist()):
                    logprobs = tuple(found[: len(part[row].token_ids)])
                    made[start + row] = replace(part[row], logprobs=logprobs)
    episodes: list[Episode] = []
    for row, completion in enumerate(made):
        reward = float(row % group % 2)
        turn = Turn("solver", "solver_0", {"system": "", "user": ""}, Action("", completion), row // group)
        verdict = Turn(
            VERIFIER, "verifier_0", {"query": "", "answer": "", "reference": ""}, Action({"score": reward}), 0
        )
        episodes.append(Episode((turn, verdict), {"solver": reward}, verdict.observation, {"score": reward}))
    return episodes
