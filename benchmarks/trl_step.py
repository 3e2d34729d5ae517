"""One self-play step against TRL's GRPOTrainer: same model, prompts, group size, lengths and threads, in one run.

    python -m benchmarks.trl_step --size 1M 10M --threads 1 2 --lengths equal geometric --prompt 48 192

A step is 16 prompts x 8 samples at temperature 1 and one AdamW update. Every side is a process of its own; they take
turns, step by step, after warm-up steps that do not count. ``equal``: no end token can be drawn, all completions have
the maximum length; ``geometric``: the end token has a constant chance, the mean is a quarter of the maximum. Needs trl
(pip install -c constraints.txt trl datasets); without it ours is measured alone, and the page says so.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from itertools import product
from statistics import median
from typing import Any

from benchmarks.report import ISA, Report, installed, parser
from benchmarks.workers import Worker

SIDES = {
    "trl_fp32": ("benchmarks.trl_side", "TRL default, float32"),
    "trl": ("benchmarks.trl_side", "TRL default, bf16 autocast"),
    "trl_tuned": ("benchmarks.trl_side", "TRL tuned, bf16"),
    "ours": ("benchmarks.our_side", "Sparring"),
}
"""TRL 1.16 takes bf16 autocast unless told otherwise; ``trl_fp32`` is its defaults in full precision."""
SIZES = ("micro", "1M", "10M", "60M")
COLUMNS = {
    "size": ("size", ""),
    "threads": ("threads", ""),
    "prompt": ("prompt", ""),
    "lengths": ("lengths", ""),
    "label": ("side", ""),
    "tokens_per_s": ("tokens/s", ".0f"),
    "generate": ("generate s", ".2f"),
    "update": ("update s", ".2f"),
    "total": ("step s", ".2f"),
    "vs_trl_fp32": ("x TRL default fp32", ".2f"),
    "vs_trl": ("x TRL default bf16", ".2f"),
    "vs_trl_tuned": ("x TRL tuned", ".2f"),
    "peak_mib": ("peak MiB", ".0f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--size", nargs="+", choices=SIZES, default=["1M", "10M"])
    line.set_defaults(threads=[1, 2])
    next(action for action in line._actions if action.dest == "threads").nargs = "+"
    line.add_argument("--lengths", nargs="+", choices=("equal", "geometric"), default=["equal", "geometric"])
    line.add_argument("--prompt", nargs="+", type=int, default=[48, 192], help="tokens of a prompt")
    line.add_argument("--max-tokens", type=int, default=128)
    line.add_argument("--branch", nargs=2, type=int, default=[16, 8], metavar=("N", "G"), help="prompts, samples each")
    line.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    line.add_argument("--steps", type=int, default=3)
    line.add_argument("--warmup", type=int, default=1, help="more than 1 where ours compiles")
    line.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="ours; auto races")
    line.add_argument("--learner", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of our learner")
    line.add_argument("--tune", nargs="*", default=[], metavar="KEY=VALUE", help="further GRPOConfig keys, TRL tuned")
    line.add_argument("--isa", choices=ISA, help="instruction set that no side may go beyond")
    options = line.parse_args(words)
    report = Report("trl_step", "One step against TRL's GRPOTrainer, steps taken in turns (medians)", COLUMNS, options)
    sides = list(options.sides)
    if installed("trl") is None:
        report.note("trl is not installed: Sparring is measured alone (pip install -c constraints.txt trl datasets)")
        sides = [side for side in sides if side == "ours"]
    for size, threads, prompt, lengths in product(options.size, options.threads, options.prompt, options.lengths):
        point = {"size": size, "threads": threads, "prompt": prompt, "lengths": lengths}
        for row in compare(sides, point, options):
            report.add(**point, **row)
    report.finish()


def compare(sides: list[str], point: dict[str, Any], options: Any) -> list[dict[str, Any]]:
    """The sides' rows at one point: medians of the steps, and how many times faster than each side of TRL."""
    settings = {
        "size": point["size"],
        "prompt": point["prompt"],
        "mean": options.max_tokens / 4 if point["lengths"] == "geometric" else None,
        "max_tokens": options.max_tokens,
        "branch": options.branch,
        "steps": options.steps + options.warmup,
        "dtype": options.dtype,
        "learner": settings_of(options.learner),
    }
    tune = settings_of(options.tune)
    with ExitStack() as stack:
        workers = {
            side: stack.enter_context(
                Worker(
                    SIDES[side][0],
                    {**settings, "side": side, "tune": tune if side == "trl_tuned" else {}},
                    threads=point["threads"],
                    isa=options.isa,
                )
            )
            for side in sides
        }
        facts = {side: worker.facts for side, worker in workers.items()}  # all are ready before the first step
        for worker in workers.values():
            for _ in range(options.warmup):
                worker.step()
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(options.steps):
            for side, worker in workers.items():
                found[side].append(worker.step())
    # Lengths are drawn, so sides are compared by the tokens that they made in a second.
    speed = {side: median(step["tokens"] / step["total"] for step in steps) for side, steps in found.items()}
    rows: list[dict[str, Any]] = []
    for side, steps in found.items():
        label = f"{SIDES[side][1]} {facts[side]['dtype']}" if side == "ours" else SIDES[side][1]
        ratios = {f"vs_{base}": speed[side] / speed[base] for base in sides if base != "ours" and base != side}
        seconds = {key: median(step[key] for step in steps) for key in ("generate", "update", "total", "tokens")}
        rows.append({
            "side": side, "label": label, "tokens_per_s": speed[side], **seconds, **ratios,
            "peak_mib": max(step["peak_mib"] for step in steps), "facts": facts[side],
        })  # fmt: skip
    return rows


def settings_of(words: list[str]) -> dict[str, Any]:
    """``key=value`` words; a value is JSON where it can be read as that, else text."""
    made: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            made[key] = json.loads(value)
        except ValueError:
            made[key] = value
    return made


if __name__ == "__main__":
    sys.exit(main())
