"""One self-play step against TRL's GRPOTrainer: same model, prompts, group size, lengths and threads, in one run.

``python -m benchmarks.trl_step --size 1M --threads 2``. Needs trl (``pip install -c constraints.txt trl``). Each
side does ``--steps`` steps of N x G completions, sampled at temperature 1 with geometric lengths, and one AdamW
update; the first step of each is warm-up. TRL runs its defaults (float32 on a CPU).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import SIZES, make, prompts

N, G, PROMPT, MAX_TOKENS = 16, 8, 48, 128
Seconds = dict[str, float]


def length_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Something that differs among siblings."""
    return [float(len(str(completion)) % 7) for completion in completions]


def ours(size: str, mean: float, steps: int, dtype: torch.dtype) -> Seconds:
    """The loop of main.py without the screen: rollout, panel, update."""
    from agents.dataset import Dataset
    from agents.llm import LLM
    from envs.game import LanguageGame
    from learners.policy_gradient import PolicyGradient
    from models.engine import Engine
    from selfplay.metrics import count_tokens
    from selfplay.record import Stopwatch
    from selfplay.rollout import rollout
    from verifiers.panel import Panel

    model, tokenizer = make(SIZES[size], mean)
    engine = Engine(model.eval(), tokenizer, name=size, dtype=dtype)
    turns = [{"role": "challenger", "says": "query"}, {"role": "solver", "says": "answer", "told": "{query}"}]
    game = LanguageGame(turns, {"solver": {"score": 1.0}})
    panel = Panel(score=lambda cases: length_reward([case["answer"] for case in cases]))
    learner = PolicyGradient(engine, lr=1e-6, kl="none", scale=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "prompts.jsonl"
        rows.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts(N, PROMPT, SIZES[size].vocab)))
        seats = {"challenger": Dataset(rows), "solver": LLM(engine, max_tokens=MAX_TOKENS), "verifier": panel}
        watch, tokens = Stopwatch(), 0
        for step in range(steps + 1):
            if step == 1:
                watch.lap()
                tokens = 0
            episodes = rollout([game], seats, {"challenger": N, "solver": G}, seed=step, watch=watch)
            with watch("update"):
                learner.update(episodes)
            tokens += count_tokens(episodes)
    lap = watch.lap()
    return {"generate": lap["generate"], "update": lap["update"], "total": lap["total"], "tokens": float(tokens)}


def trl(size: str, mean: float, steps: int, bf16: bool) -> Seconds:
    """GRPOTrainer with its defaults but for the sizes."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = make(SIZES[size], mean)
    spent = {"generate": 0.0, "tokens": 0.0, "begin": 0.0, "end": 0.0}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            spent["end"] = time.perf_counter()
            if state.global_step == 1:
                spent.update(generate=0.0, tokens=0.0, begin=time.perf_counter())

    rows = [{"prompt": [{"role": "user", "content": p}]} for p in prompts(N, PROMPT, SIZES[size].vocab)]
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=N * G,
            num_generations=G,
            max_completion_length=MAX_TOKENS,
            max_steps=steps + 1,
            learning_rate=1e-6,
            bf16=bf16,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=length_reward,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        inner = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            started = time.perf_counter()
            batch = inner(inputs)
            spent["generate"] += time.perf_counter() - started
            spent["tokens"] += float(batch["completion_mask"].sum())
            return batch

        trainer._generate_and_score_completions = timed
        with contextlib.redirect_stdout(None):
            trainer.train()
    total = spent["end"] - spent["begin"]
    return {
        "generate": spent["generate"],
        "update": total - spent["generate"],
        "total": total,
        "tokens": spent["tokens"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--mean", type=float, default=48, help="mean of the geometric answer lengths, in tokens")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from models.loading import choose_dtype

    dtype = choose_dtype("auto", torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    for size in options.size:
        sides = {
            "trl defaults": trl(size, options.mean, options.steps, bf16=False),
            "trl bf16": trl(size, options.mean, options.steps, bf16=True),
            "sparring float32": ours(size, options.mean, options.steps, torch.float32),
        }
        if dtype != torch.float32:
            sides["sparring auto (bfloat16)"] = ours(size, options.mean, options.steps, dtype)
        base = sides["trl defaults"]["tokens"] / sides["trl defaults"]["total"]
        for name, spent in sides.items():
            speed = spent["tokens"] / spent["total"]
            share = {key: spent[key] / options.steps for key in ("generate", "update", "total")}
            rows.append({"size": size, "side": name, "tokens_per_s": speed, "ratio": speed / base, **share})
            print(
                f"{size:>4} {name:<26} {speed:8.0f} tokens/s  {speed / base:5.2f} x trl defaults   s/step: "
                f"generate {share['generate']:.2f}  update {share['update']:.2f}  total {share['total']:.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
