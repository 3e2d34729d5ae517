"""Small random models that vLLM's kernels take (heads of 32), in ``save_pretrained`` folders, and their engines."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

from models.vllm_engine import VllmEngine
from models.vllm_options import VllmOptions
from selfplay.types import Completion
from tests.helpers import chat, make_tokenizer

MODELS = [("llama", True), ("llama", False), ("qwen2", True), ("qwen2", False)]
"""Families and whether the language head is the embedding's weight; Qwen2 has biases, both have grouped queries."""

CHATS = [chat(text) for text in ("Hi", "A rather longer question than the first?", "", "Hi", "é漢\x00", "x" * 40)]
SEEDS = [11, 12, 13, 14, 15, 2**62]


@cache
def folder(style: str, tied: bool) -> Path:
    """A freshly initialised two-layer model with its tokenizer; written once per process."""
    path = Path(tempfile.mkdtemp(prefix=f"{style}-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    tokenizer = make_tokenizer(style)
    shape: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.3,  # wide, so that a random model has opinions and few near ties
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config({"llama": LlamaConfig, "qwen2": Qwen2Config}[style](**shape))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # as they are made, they are 0: nobody could tell whether they arrived
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def open_engine(style: str, tied: bool, dtype: torch.dtype = torch.float32, **options: Any) -> VllmEngine:
    """An engine whose sampler is vLLM; one at a time, so close it."""
    path = folder(style, tied)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    chosen = VllmOptions(**{"max_model_len": 256, "kv_cache_gib": 0.25, **options})
    return VllmEngine(model.eval(), tokenizer, name=f"{style} {tied}", source=str(path), dtype=dtype, options=chosen)


def sample(engine: VllmEngine, **changes: Any) -> list[Completion]:
    """What the six chats are answered."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "seeds": SEEDS, **changes}
    return engine.generate(CHATS, **options)


def gap(engine: VllmEngine, completions: Sequence[Completion]) -> float:
    """The largest difference between the sampler's log-probabilities and the trainer's."""
    with torch.no_grad():
        again_BT, _ = engine.logprobs(completions)
    return max(
        abs(a - b)
        for completion, row_T in zip(completions, again_BT.tolist(), strict=True)
        for a, b in zip(completion.logprobs, row_T, strict=False)  # the row is padded
    )


def step(engine: VllmEngine, lr: float) -> None:
    """One real optimizer step: towards some of what was just said and away from the rest."""
    said = sample(engine)
    optimizer = torch.optim.AdamW(engine.model.parameters(), lr=lr)
    logp_BT, _ = engine.logprobs(said)
    sign_B = torch.tensor([1.0, -1.0] * (len(said) // 2))
    (sign_B * logp_BT.sum(-1)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    engine.touched()
