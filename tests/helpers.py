"""What several tests share: tiny random models in ``save_pretrained`` folders, and small trees of episodes.

Every model is made here, from a seed, with a tokenizer whose alphabet is the 256 bytes; nothing is downloaded. A
folder is written once per process and removed at its end.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from models.engine import Engine
from selfplay.types import VERIFIER, Action, Completion, Episode, Turn

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
    "{% if add_generation_prompt %} {% endif %}"
)
PIECES = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
STYLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # chat template, end of sequence, all control tokens
    "qwen2": (CHATML, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "llama": (HEADERS, "<|eot_id|>", ("<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "mistral": (BRACKETS, "</s>", ("<s>", "</s>", "[INST]", "[/INST]")),
    "gemma3": (PIECES, "<|end|>", ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
}
"""A family of models and the chat template that goes with it here."""

_SHAPE: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,  # grouped queries
    max_position_embeddings=512,
    initializer_range=0.5,  # wide, so that a random model has strong opinions and few near ties
)


def make_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges, with the style's control tokens and chat template."""
    template, end, control = STYLES[style]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=control[0],
        eos_token=end,
        pad_token=control[0],
        additional_special_tokens=[token for token in control if token not in (control[0], end)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def make_config(style: str, vocabulary: int, end: int, tied: bool) -> PreTrainedConfig:
    """A two-layer configuration of the style's family; Mistral's and Gemma's see a window of a few tokens only."""
    common = {**_SHAPE, "vocab_size": vocabulary, "eos_token_id": end, "bos_token_id": None, "pad_token_id": None}
    common["tie_word_embeddings"] = tied
    if style == "llama":
        return LlamaConfig(**common)
    if style == "qwen2":
        return Qwen2Config(**common)
    if style == "mistral":
        return MistralConfig(**common, sliding_window=8)
    return Gemma3TextConfig(**common, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"])


@cache
def model_folder(style: str = "llama", tied: bool = True, seed: int = 0) -> Path:
    """A ``save_pretrained`` folder of a freshly initialised model with its tokenizer."""
    folder = Path(tempfile.mkdtemp(prefix=f"{style}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = make_tokenizer(style)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(style, len(tokenizer), tokenizer.eos_token_id, tied))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_engine(
    style: str = "llama", *, tied: bool = True, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> Engine:
    """A fresh engine over ``model_folder``: yours to change."""
    folder = model_folder(style, tied, seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Engine(model.eval(), tokenizer, name=f"tiny {style}", dtype=dtype, **options)


@cache
def shared_engine(style: str = "llama", tied: bool = True) -> Engine:
    """One engine per process, for tests that only look."""
    return make_engine(style, tied=tied)


def chat(text: str, system: str = "") -> dict[str, str]:
    """A chat as a game tells it."""
    return {"system": system, "user": text}


def tree(
    score: Sequence[Sequence[float]],
    quality: Sequence[Sequence[float]] | None = None,
    completions: Sequence[Sequence[Completion | None]] = (),
    proposals: Sequence[Completion | None] = (),
) -> list[Episode]:
    """The episodes of one LSP step, N queries with G answers each: ``score[i][j]`` is R(q_i, a_i^j).

    Without ``quality`` the payoff is LSP-Zero's, (-R, R); with it LSP's, (-R + R_Q, R + R_Q). ``completions[i][j]``
    and ``proposals[i]`` are what was said, for a learner.
    """
    episodes: list[Episode] = []
    for i, row in enumerate(score):
        asked = Turn("challenger", "challenger_0", {}, Action(f"q{i}", proposals[i] if proposals else None), 0)
        for j, r in enumerate(row):
            said = completions[i][j] if completions else None
            answered = Turn("solver", "solver_0", {}, Action(f"a{i}{j}", said), 1 + i)
            q = quality[i][j] if quality else 0.0
            verdict = {"score": r, "quality": q}
            judged = Turn(VERIFIER, "verifier_0", {}, Action(verdict), 1 + len(score) + len(episodes))
            returns = {"challenger": -r + q, "solver": r + q}
            case = {"query": f"q{i}", "answer": f"a{i}{j}", "reference": ""}
            episodes.append(Episode((asked, answered, judged), returns, case, verdict, game="lsp_v0"))
    return episodes
