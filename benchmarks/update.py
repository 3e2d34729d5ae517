"""One optimizer step: ours against plain eager training; seconds and peak memory.

    python -m benchmarks.update --size 1M 10M --lengths equal geometric

Plain eager is what a first version does: float32, one batch padded on both sides, logits of every position, their whole
log-softmax, AdamW. The loss and the rows are the same. Every side is a process of its own; they take turns.
"""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS
from contextlib import ExitStack
from itertools import product
from statistics import median
from typing import Any

from benchmarks.report import Report, parser
from benchmarks.trl_step import settings_of
from benchmarks.workers import Worker

SIDES = ("eager", "ours float32", "ours bfloat16")
SIZES = ("micro", "1M", "10M", "60M")
COLUMNS = {
    "size": ("size", ""),
    "lengths": ("lengths", ""),
    "side": ("side", ""),
    "seconds": ("step s", ".3f"),
    "vs_eager": ("x eager", ".2f"),
    "tokens_per_s": ("tokens/s", ".0f"),
    "share": ("of the limit", ".1%"),
    "peak_mib": ("peak MiB", ".0f"),
    "extra_mib": ("above the start", ".0f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--size", nargs="+", choices=SIZES, default=["1M", "10M"])
    line.add_argument("--lengths", nargs="+", choices=("equal", "geometric"), default=["equal", "geometric"])
    line.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    line.add_argument("--prompt", type=int, default=48)
    line.add_argument("--max-tokens", type=int, default=128)
    line.add_argument("--branch", nargs=2, type=int, default=[16, 8], metavar=("N", "G"))
    line.add_argument("--steps", type=int, default=3)
    line.add_argument("--warmup", type=int, default=1, help="more than 1 where ours compiles")
    line.add_argument("--learner", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of our learner")
    line.add_argument("--worker", help=SUPPRESS)
    options = line.parse_args(words)
    if options.worker:
        return work(json.loads(options.worker))
    report = Report("update", f"One optimizer step, {options.threads} threads (medians)", COLUMNS, options)
    for size, lengths in product(options.size, options.lengths):
        settings = {
            "size": size, "prompt": options.prompt, "max_tokens": options.max_tokens, "branch": options.branch,
            "mean": options.max_tokens / 4 if lengths == "geometric" else None, "learner": settings_of(options.learner),
        }  # fmt: skip
        for row in compare(settings, options):
            report.add(size=size, lengths=lengths, **row)
    report.finish()


def compare(settings: dict[str, Any], options: Any) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        workers = {
            side: stack.enter_context(Worker("benchmarks.update", {**settings, "side": side}, threads=options.threads))
            for side in options.sides
        }
        start = {side: worker.facts["baseline_mib"] for side, worker in workers.items()}  # all are ready
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in workers}
        for number in range(options.warmup + options.steps):
            for side, worker in workers.items():
                taken = worker.step()
                if number >= options.warmup:
                    found[side].append(taken)
    seconds = {side: median(step["seconds"] for step in steps) for side, steps in found.items()}
    return [
        {
            "side": side,
            "seconds": seconds[side],
            "share": steps[-1]["least"] / seconds[side],
            "vs_eager": seconds["eager"] / seconds[side] if "eager" in seconds else None,
            "tokens_per_s": steps[-1]["tokens"] / seconds[side],
            "peak_mib": steps[-1]["peak_mib"],
            "extra_mib": steps[-1]["peak_mib"] - start[side],
        }
        for side, steps in found.items()
    ]


def work(settings: dict[str, Any]) -> None:
    """One side, in its own process."""
    import time

    import torch

    from benchmarks.eager import eager_update
    from benchmarks.limits import update_seconds
    from benchmarks.models import SIZES as MODELS
    from benchmarks.models import lengths, make, step
    from benchmarks.timing import forget_peak, peak_mib
    from benchmarks.workers import Channel
    from learners.policy_gradient import PolicyGradient
    from models.engine import Engine

    channel = Channel()
    torch.set_num_threads(settings["threads"])
    size, (count, group) = MODELS[settings["size"]], settings["branch"]
    model, tokenizer = make(size, None)
    answers = lengths(count * group, settings["max_tokens"], settings["mean"])
    if settings["side"] == "eager":  # nothing of ours touches its model
        dtype = torch.float32
        episodes = step(size.vocab, settings["prompt"], answers, group)
        call = eager_update(model, lr=1e-6)
    else:
        dtype = torch.bfloat16 if settings["side"].endswith("bfloat16") else torch.float32
        engine = Engine(model, tokenizer, name=settings["size"], dtype=dtype)
        episodes = step(size.vocab, settings["prompt"], answers, group, engine)
        call = PolicyGradient(engine, lr=1e-6, kl="none", credit="grpo_std", **settings["learner"]).update
    least = update_seconds(model, dtype, settings["prompt"], answers)

    def measured() -> dict[str, Any]:
        started = time.perf_counter()
        call(episodes)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "tokens": sum(answers), "least": least, "peak_mib": peak_mib()}

    channel.serve(measured, baseline_mib=forget_peak())


if __name__ == "__main__":
    sys.exit(main())
