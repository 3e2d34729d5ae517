"""Sparring's side of ``trl_step``: the loop of main.py without the screen, one step per request."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from agents.dataset import Dataset
from agents.llm import LLM
from benchmarks.models import SIZES, make, prompts
from benchmarks.timing import forget_peak, peak_mib
from benchmarks.trl_side import length_reward
from benchmarks.workers import Channel
from envs.game import LanguageGame
from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from models.loading import choose_dtype
from selfplay.metrics import count_tokens
from selfplay.record import Stopwatch
from selfplay.rollout import rollout
from verifiers.panel import Panel


def stepper(
    engine: Engine, learner: PolicyGradient, texts: Sequence[str], group: int, max_tokens: int
) -> Callable[[], dict[str, float]]:
    """A call that does one whole step, rollout, verdicts, update, and returns its seconds and tokens."""
    turns = [{"role": "challenger", "says": "query"}, {"role": "solver", "says": "answer", "told": "{query}"}]
    game = LanguageGame(turns, {"solver": {"score": 1.0}})
    panel = Panel(score=lambda cases: length_reward([case["answer"] for case in cases]))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "prompts.jsonl"
        rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        data = Dataset(rows)
    seats: dict[str, Any] = {"challenger": data, "solver": LLM(engine, max_tokens=max_tokens), "verifier": panel}
    watch, seeds = Stopwatch(), iter(range(10**9))

    def step() -> dict[str, float]:
        watch.lap()
        branch = {"challenger": len(texts), "solver": group}
        episodes = rollout([game], seats, branch, seed=next(seeds), watch=watch)
        with watch("update"):
            learner.update(episodes)
        lap = watch.lap()
        seconds = {phase: lap[phase] for phase in ("generate", "update", "total")}
        return {**seconds, "tokens": float(count_tokens(episodes))}

    return step


def main() -> None:
    channel, settings = Channel(), json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    size, (count, group) = SIZES[settings["size"]], settings["branch"]
    dtype = choose_dtype(settings["dtype"], torch.device("cpu"))
    engine = Engine(*make(size, settings["mean"]), name=settings["size"], dtype=dtype)
    learner = PolicyGradient(engine, lr=1e-6, kl="none", credit="grpo_std", **settings["learner"])
    texts = prompts(count, settings["prompt"], size.vocab)
    step = stepper(engine, learner, texts, group, settings["max_tokens"])
    channel.serve(
        lambda: {**step(), "peak_mib": peak_mib()},
        dtype=engine.precision,
        baseline_mib=forget_peak(),
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
    )


if __name__ == "__main__":
    main()
