"""What a step costs against completion length, group size and model size.

    python -m benchmarks.scaling --lengths 16 64 256 --groups 1 8 32 --size 1M 10M 60M 160M 350M

One thing varies at a time around 1M parameters, 128 completions, 8 of each prompt, 48 + 64 tokens. Large models sample
few tokens: every row's time is estimated first from the row before it, and a row whose estimate is over ``--budget``
samples fewer tokens until it fits.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import Any

import torch

from benchmarks.limits import generation_seconds, update_seconds
from benchmarks.models import SIZES, make, prompts, step
from benchmarks.report import Report, parser
from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from models.loading import choose_dtype

COLUMNS = {
    "varies": ("varies", ""),
    "size": ("size", ""),
    "rows": ("rows", ""),
    "group": ("group", ""),
    "prompt": ("prompt", ""),
    "length": ("length", ""),
    "generate": ("generate s", ".2f"),
    "generate_per_s": ("tokens/s", ".0f"),
    "generate_share": ("of the limit", ".1%"),
    "update": ("update s", ".2f"),
    "update_per_s": ("tokens/s", ".0f"),
    "update_share": ("of the limit", ".1%"),
}
LEAST = 4
"""Tokens of a completion, at the least."""


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--lengths", nargs="*", type=int, default=[16, 64, 128, 256, 512])
    line.add_argument("--groups", nargs="*", type=int, default=[2, 8, 32, 128])
    line.add_argument("--size", nargs="*", choices=SIZES, default=["1M", "10M", "60M", "160M", "350M"])
    line.add_argument("--base", choices=SIZES, default="1M", help="the model when its size does not vary")
    line.add_argument("--rows", type=int, default=128)
    line.add_argument("--prompt", type=int, default=48)
    line.add_argument("--dtype", choices=("float32", "bfloat16", "auto"), default="auto")
    line.add_argument("--budget", type=float, default=60.0, help="seconds for one row of the table")
    options = line.parse_args(words)
    torch.set_num_threads(options.threads)
    dtype = choose_dtype(options.dtype, torch.device("cpu"))
    report = Report("scaling", f"Cost of a step, {options.threads} threads, {dtype}", COLUMNS, options)
    middle = {"size": options.base, "rows": options.rows, "group": 8, "length": 64}
    plan = [middle | {"varies": "length", "length": length} for length in options.lengths]
    plan += [middle | {"varies": "group", "group": group} for group in options.groups if group <= options.rows]
    plan += [middle | {"varies": "size", "size": size} for size in options.size]
    work, spent = 0.0, 0.0  # parameters x tokens of the row before, and its seconds
    for point in plan:
        parameters = parameters_of(point["size"])
        if work:
            point, estimate = fitted(point, parameters, spent / work, options)
            report.note(f"{point['size']}, {point['rows']} x {point['length']} tokens: about {estimate:.0f} s")
        began = time.perf_counter()
        report.add(**point, prompt=options.prompt, **measure(point, dtype, options))
        work, spent = parameters * tokens_of(point, options), time.perf_counter() - began
    report.finish(dtype=str(dtype))


def parameters_of(name: str) -> float:
    size = SIZES[name]
    return 13 * size.hidden**2 * size.layers + size.vocab * size.hidden


def tokens_of(point: dict[str, Any], options: Namespace) -> int:
    return point["rows"] * (options.prompt + point["length"])


def fitted(point: dict[str, Any], parameters: float, rate: float, options: Namespace) -> tuple[dict[str, Any], float]:
    """The point with as few tokens, then as few rows, as its budget asks for, and the estimate of its seconds."""
    point = dict(point)
    while (estimate := rate * parameters * tokens_of(point, options)) > options.budget:
        if point["length"] > LEAST and point["varies"] == "size":
            point["length"] //= 2
        elif point["rows"] > 2 * point["group"]:
            point["rows"] //= 2
        else:
            break
    return point, estimate


def measure(point: dict[str, Any], dtype: torch.dtype, options: Namespace) -> dict[str, float]:
    """Seconds of sampling and of one update, and their share of the machine's limit; one short call warms up."""
    size, group = SIZES[point["size"]], point["group"]
    model, tokenizer = make(size, None)
    engine = Engine(model, tokenizer, name=point["size"], dtype=dtype)
    count = -(-point["rows"] // group)

    def generate(length: int, call: int) -> float:
        different = prompts(count, options.prompt, size.vocab, call)
        chats = [{"system": "", "user": different[row // group]} for row in range(point["rows"])]
        started = time.perf_counter()
        engine.generate(chats, temperature=1.0, top_p=1.0, max_tokens=length, seeds=range(len(chats)))
        return time.perf_counter() - started

    generate(2, 0)
    seconds = generate(point["length"], 1)
    answers = [point["length"]] * point["rows"]
    tokens = sum(answers)
    learner = PolicyGradient(engine, lr=1e-6, kl="none")
    learner.update(step(size.vocab, options.prompt, answers[: 2 * group], group))
    episodes = step(size.vocab, options.prompt, answers, group)
    started = time.perf_counter()
    learner.update(episodes)
    update = time.perf_counter() - started
    limit = generation_seconds(model, dtype, count, options.prompt, answers)
    return {
        "generate": seconds,
        "generate_per_s": tokens / seconds,
        "generate_share": limit / seconds,
        "update": update,
        "update_per_s": tokens / update,
        "update_share": update_seconds(model, dtype, options.prompt, answers) / update,
    }


if __name__ == "__main__":
    sys.exit(main())
