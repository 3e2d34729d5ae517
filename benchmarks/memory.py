"""Peak memory of one optimizer step against the vocabulary, at 60M parameters.

    python -m benchmarks.memory --vocab 512 4096 32000 64000 152064

128 completions of 96 tokens after 48 of prompt. One copy of their logits in float32 is 7.5 GB at the largest
vocabulary. Every point is a process of its own; "above the start" leaves out what the process held when the model, its
optimizer and the rows were there and no step had been taken.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import SUPPRESS
from typing import Any

from benchmarks.report import Report, parser
from benchmarks.trl_step import settings_of
from benchmarks.workers import Worker

COLUMNS = {
    "vocab": ("vocabulary", ""),
    "parameters": ("parameters", ".3g"),
    "dtype": ("dtype", ""),
    "logits_mib": ("one copy of the logits, MiB", ".0f"),
    "peak_mib": ("peak MiB", ".0f"),
    "extra_mib": ("above the start", ".0f"),
    "seconds": ("step s", ".1f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--vocab", nargs="+", type=int, default=[512, 4096, 32_000, 64_000, 152_064])
    line.add_argument("--parameters", type=float, default=60e6)
    line.add_argument("--branch", nargs=2, type=int, default=[16, 8], metavar=("N", "G"))
    line.add_argument("--prompt", type=int, default=48)
    line.add_argument("--max-tokens", type=int, default=96)
    line.add_argument("--dtype", choices=("float32", "bfloat16", "auto"), default="auto")
    line.add_argument("--learner", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of our learner")
    line.add_argument("--worker", help=SUPPRESS)
    options = line.parse_args(words)
    if options.worker:
        return work(json.loads(options.worker))
    report = Report("memory", "Peak memory of one optimizer step against the vocabulary", COLUMNS, options)
    for vocab in options.vocab:
        settings = {"vocab": vocab, "parameters": options.parameters, "branch": options.branch, "dtype": options.dtype,
                    "prompt": options.prompt, "max_tokens": options.max_tokens,
                    "learner": settings_of(options.learner)}  # fmt: skip
        with Worker("benchmarks.memory", settings, threads=options.threads) as worker:
            report.add(vocab=vocab, **worker.facts, **worker.step())
    report.finish()


def shape_for(vocab: int, parameters: float) -> Any:
    """A tied model of about that many parameters: narrower where the embedding alone would be too much."""
    from benchmarks.models import Size

    hidden = next((h for h in (512, 320, 128, 32) if vocab * h < 0.82 * parameters), 32)
    return Size(vocab, hidden, max(1, round((parameters - vocab * hidden) / (13 * hidden**2))), tied=True)


def work(settings: dict[str, Any]) -> None:
    """One point, in its own process."""
    import torch

    from benchmarks.models import make, step
    from benchmarks.timing import forget_peak, peak_mib
    from benchmarks.workers import Channel
    from learners.policy_gradient import PolicyGradient
    from models.engine import Engine
    from models.loading import choose_dtype

    channel = Channel()
    torch.set_num_threads(settings["threads"])
    model, tokenizer = make(shape_for(settings["vocab"], settings["parameters"]), None)
    engine = Engine(model, tokenizer, name="", dtype=choose_dtype(settings["dtype"], torch.device("cpu")))
    count, group = settings["branch"]
    answers = [settings["max_tokens"]] * (count * group)
    episodes = step(settings["vocab"], settings["prompt"], answers, group)
    learner = PolicyGradient(engine, lr=1e-6, kl="none", **settings["learner"])
    held = forget_peak()

    def measured() -> dict[str, Any]:
        started = time.perf_counter()
        learner.update(episodes)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "peak_mib": peak_mib(), "extra_mib": peak_mib() - held}

    logits = sum(answers) * settings["vocab"] * 4 / 2**20
    channel.serve(measured, dtype=engine.precision, parameters=model.num_parameters(), logits_mib=logits, held_mib=held)


if __name__ == "__main__":
    sys.exit(main())
