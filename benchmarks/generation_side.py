"""One side of ``generation`` in a process of its own: ``ours``, transformers' ``generate`` (``hf``), or ``vllm``.

A side loads one model and then samples whatever it is asked for: so many rows, so many of each prompt, such lengths.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaForCausalLM

from benchmarks.models import SIZES, config, lengths, make, prompts, set_mean_length, tokenizer
from benchmarks.workers import Channel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Sample = Callable[[Sequence[str], float | None], list[int]]
"""From prompts and the mean length (None: all are the longest) to the number of tokens of every completion."""


def main() -> None:
    channel, settings = Channel(), json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    sample = SIDES[settings["side"]](settings)
    vocab, prompt = SIZES[settings["size"]].vocab, settings["prompt"]

    def step(rows: int, group: int, lengths: str, call: int) -> dict[str, Any]:
        different = prompts(-(-rows // group), prompt, vocab, call)
        asked = [different[row // group] for row in range(rows)]
        mean = settings["max_tokens"] / 4 if lengths == "geometric" else None
        started = time.perf_counter()
        said = sample(asked, mean)
        return {"seconds": time.perf_counter() - started, "lengths": said}

    channel.serve(step)


def ours(settings: dict[str, Any]) -> Sample:
    from models.engine import Engine

    model, words = make(SIZES[settings["size"]], None)
    engine = Engine(model, words, name=settings["size"], dtype=DTYPES[settings["dtype"]])
    now: list[float | None] = [None]

    def sample(asked: Sequence[str], mean: float | None) -> list[int]:
        if mean != now[0]:  # in a warm-up call: the weights that sample are brought up to date
            set_mean_length(model, mean)
            engine.touched()
            now[0] = mean
        chats = [{"system": "", "user": text} for text in asked]
        said = engine.generate(
            chats, temperature=1.0, top_p=1.0, max_tokens=settings["max_tokens"], seeds=range(len(chats))
        )
        return [len(completion.token_ids) for completion in said]

    return sample


def hf(settings: dict[str, Any]) -> Sample:
    from benchmarks.hf_generate import hf_sampler

    model, words = make(SIZES[settings["size"]], None)
    generate = hf_sampler(model.to(DTYPES[settings["dtype"]]), words, settings["max_tokens"])

    def sample(asked: Sequence[str], mean: float | None) -> list[int]:
        set_mean_length(model, mean)
        return generate(asked)

    return sample


def vllm(settings: dict[str, Any]) -> Sample:
    """vLLM keeps no bias on the head: geometric lengths are drawn beforehand and are each row's limit. The lengths are
    distributed as on the other sides, and no end token is looked for."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, as our engine uses it
    for name, value in {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                        "VLLM_LOGGING_LEVEL": "WARNING"}.items():  # fmt: skip
        os.environ.setdefault(name, value)
    library = importlib.import_module("vllm")
    size = SIZES[settings["size"]]
    words = tokenizer(size.vocab)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(config(size)).save_pretrained(folder)
        words.save_pretrained(folder)
        llm = library.LLM(
            folder, dtype=settings["dtype"], seed=0, enable_prefix_caching=True, disable_log_stats=True,
            enable_chunked_prefill=torch.cuda.is_available(),  # on a CPU it fails for rows with a seed
            max_model_len=settings["prompt"] + settings["max_tokens"] + 16, max_num_seqs=settings["rows"],
        )  # fmt: skip

    def sample(asked: Sequence[str], mean: float | None) -> list[int]:
        limits = lengths(len(asked), settings["max_tokens"], mean)
        plans = [
            library.SamplingParams(temperature=1.0, max_tokens=limit, ignore_eos=True, seed=row, logprobs=0)
            for row, limit in enumerate(limits)
        ]
        chats = [[{"role": "user", "content": text}] for text in asked]
        ids = words.apply_chat_template(chats, add_generation_prompt=True, return_dict=False)
        said = llm.generate([{"prompt_token_ids": row} for row in ids], plans, use_tqdm=False)
        return [len(row.outputs[0].token_ids) for row in said]

    return sample


SIDES: dict[str, Callable[[dict[str, Any]], Sample]] = {"ours": ours, "hf": hf, "vllm": vllm}


if __name__ == "__main__":
    main()
