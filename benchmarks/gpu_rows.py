"""The rows of ``gpu``: what each measures, in a process of its own."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

MODELS: dict[str, dict[str, int]] = {
    "small": {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2},
    "0.5B": {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2},
    "1.5B": {"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2},
}  # fmt: skip
"""Shapes of Qwen2.5; ``small`` is for trying the script."""
ROWS = {
    "decode": "Sparring's sampling",
    "generate": "transformers generate",
    "continuous": "transformers continuous batching",
    "update": "Sparring's update",
    "step": "Sparring's whole step",
}
"""Row -> what it is called in the table."""


def work(settings: dict[str, Any]) -> None:
    """One row: warm up once (graphs are captured, kernels compiled), then measure for as long as there is time."""
    import torch

    from benchmarks.timing import forget_peak, peak_mib
    from benchmarks.workers import Channel
    from models.roofline import synchronize

    channel = Channel()
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    try:
        call, more = MAKERS[settings["side"]](settings, device)
        synchronize(device)
        forget_peak()
        call()
    except (torch.OutOfMemoryError, Unfit) as error:
        return channel.tell(note=str(error).partition("\n")[0][:80])

    def measured() -> dict[str, Any]:
        began, times, tokens = time.perf_counter(), [], 0.0
        while len(times) < 3 and (not times or time.perf_counter() - began + times[-1] < settings["seconds"] / 2):
            synchronize(device)
            started = time.perf_counter()
            tokens = call()
            synchronize(device)
            times.append(time.perf_counter() - started)
        seconds = sorted(times)[len(times) // 2]
        gib = torch.cuda.max_memory_reserved() / 2**30 if device.type == "cuda" else peak_mib() / 1024
        figures = {"seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds, "memory_gib": gib}
        return figures | more(seconds)

    channel.serve(measured, device=str(device))


class Unfit(RuntimeError):
    """What this machine cannot measure, in a few words."""


Row = tuple[Callable[[], float], Callable[[float], dict[str, Any]]]
"""A call that returns how many tokens were made or learned from, and further figures, given its seconds."""


def build(settings: dict[str, Any], device: Any) -> tuple[Any, Iterator[list[str]]]:
    """A fresh model of the size on the device, as an engine, and the prompts of one call after the other."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from benchmarks.models import END, prompts, tokenizer
    from models.engine import Engine
    from models.loading import choose_dtype

    shape = MODELS[settings["size"]]
    torch.manual_seed(0)
    config = Qwen2Config(**shape, max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=0,
                         bos_token_id=None, eos_token_id=END)  # fmt: skip
    with device:  # made where it lives: the CPU would take longer than the measurement
        model = Qwen2ForCausalLM(config).eval()
    engine = Engine(
        model,
        tokenizer(shape["vocab_size"]),
        name=settings["size"],
        dtype=choose_dtype(settings["dtype"], device),
    )
    return engine, (
        prompts(settings["branch"][0], settings["prompt"], shape["vocab_size"], call) for call in itertools.count()
    )


def grouped(texts: list[str], settings: dict[str, Any]) -> list[str]:
    """Each prompt as often as it is sampled."""
    return [text for text in texts for _ in range(settings["branch"][1])]


def decode(settings: dict[str, Any], device: Any) -> Row:
    from benchmarks.limits import generation_seconds

    engine, calls = build(settings, device)
    lengths: list[int] = []

    def call() -> float:
        chats = [{"system": "", "user": text} for text in grouped(next(calls), settings)]
        said = engine.generate(
            chats, temperature=1.0, top_p=1.0, max_tokens=settings["max_tokens"], seeds=range(len(chats))
        )
        lengths[:] = [len(completion.token_ids) for completion in said]
        return float(sum(lengths))

    def more(seconds: float) -> dict[str, Any]:
        limit = generation_seconds(engine.model, engine.dtype, settings["branch"][0], settings["prompt"], lengths)
        return {"share": limit / seconds, "dtype": engine.precision}

    return call, more


def generate(settings: dict[str, Any], device: Any) -> Row:
    from benchmarks.hf_generate import hf_sampler

    engine, calls = build(settings, device)
    model = engine.model.to(engine.dtype)
    sample = hf_sampler(model, engine.tokenizer, settings["max_tokens"])
    return lambda: float(sum(sample(grouped(next(calls), settings)))), lambda seconds: {"dtype": engine.precision}


def continuous(settings: dict[str, Any], device: Any) -> Row:
    """Its manager outlives the call, so that graphs are captured once, as a trainer would have it. On a GPU it takes
    what memory is free, its default; on a CPU, where that would be the machine's, what the rows need."""
    import logging

    from transformers import ContinuousBatchingConfig, GenerationConfig

    if device.type == "cpu" and importlib.util.find_spec("psutil") is None:
        raise Unfit("on a CPU it needs psutil")
    engine, calls = build(settings, device)
    model = engine.model.to(engine.dtype)
    model.set_attn_implementation("sdpa")  # the engine's own is none that it takes
    plan = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, eos_token_id=-1,
                            max_new_tokens=settings["max_tokens"], use_cache=True)  # fmt: skip

    rows = settings["branch"][0] * settings["branch"][1]
    pages = 2 * rows * -(-(settings["prompt"] + settings["max_tokens"]) // 256)
    room = ContinuousBatchingConfig(num_blocks=pages, max_batch_tokens=1024) if device.type == "cpu" else None
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)

    def call() -> float:
        chats = [[{"role": "user", "content": text}] for text in grouped(next(calls), settings)]
        ids = engine.tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=False)
        said = model.generate_batch(
            ids, generation_config=plan, continuous_batching_config=room, progress_bar=False, persistent_manager=True
        )
        if len(said) != len(ids):
            raise RuntimeError(f"continuous batching answered {len(said)} of {len(ids)} prompts")
        made = [list(output.generated_tokens) for output in said.values()]
        engine.tokenizer.batch_decode(made, skip_special_tokens=True)
        return float(sum(map(len, made)))

    return call, lambda seconds: {"dtype": engine.precision}


def update(settings: dict[str, Any], device: Any) -> Row:
    from benchmarks.limits import update_seconds
    from benchmarks.models import step
    from learners.policy_gradient import PolicyGradient
    from models.cost import shape_of, train
    from models.roofline import ceilings

    engine, _ = build(settings, device)
    (count, group), length = settings["branch"], settings["max_tokens"]
    rows = count * group
    learner = PolicyGradient(engine, lr=1e-6, kl="none", credit="grpo_std", **settings["learner"])
    episodes = step(MODELS[settings["size"]]["vocab_size"], settings["prompt"], [length] * rows, group)

    def call() -> float:
        learner.update(episodes)
        return float(rows * length)

    def more(seconds: float) -> dict[str, Any]:
        flop = train(shape_of(engine.model, engine.dtype), rows, settings["prompt"] + length, length).flop
        limit = update_seconds(engine.model, engine.dtype, settings["prompt"], [length] * rows)
        peak = ceilings(device, engine.dtype).flops
        return {"share": limit / seconds, "mfu": flop / seconds / peak, "dtype": engine.precision}

    return call, more


def whole(settings: dict[str, Any], device: Any) -> Row:
    from benchmarks.our_side import stepper
    from learners.policy_gradient import PolicyGradient

    engine, calls = build(settings, device)
    learner = PolicyGradient(engine, lr=1e-6, kl="none", credit="grpo_std", **settings["learner"])
    step = stepper(engine, learner, next(calls), settings["branch"][1], settings["max_tokens"])
    return lambda: step()["tokens"], lambda seconds: {"dtype": engine.precision}


MAKERS = {"decode": decode, "generate": generate, "continuous": continuous, "update": update, "step": whole}
