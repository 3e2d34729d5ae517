"""Freshly initialised models of a given size whose answers vary in length, and what they are prompted with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """A Llama's shape."""

    vocab: int
    hidden: int
    layers: int


SIZES = {"1M": Size(512, 128, 4), "10M": Size(4096, 320, 8)}


def make(size: Size, mean_length: float, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random model with a word-level tokenizer; a bias on the end token makes lengths geometric with that mean.

    A fresh model is near uniform over its vocabulary: P(end) = e^b / (V - 1 + e^b) = 1 / mean.
    """
    words = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", *(f"w{n}" for n in range(size.vocab - 4))]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.Sequence([])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    head = nn.Linear(size.hidden, size.vocab, bias=True)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[0] = -30.0  # padding is never said
        head.bias[1] = torch.log(torch.tensor((size.vocab - 1) / (mean_length - 1)))
    model.lm_head = head
    return model, tokenizer


def prompts(count: int, tokens: int, vocab: int) -> list[str]:
    """``count`` different prompts of ``tokens`` tokens each, the template's two included."""
    return [" ".join(f"w{(7 * row + 13 * n) % (vocab - 4)}" for n in range(tokens - 2)) for row in range(count)]
