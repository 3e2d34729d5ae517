"""One GPU, one table, under ten minutes: sampling, the update, whole steps, and their share of what the device can do.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --device cpu --size small      the same code at a size for a CPU

Freshly initialised models with the shapes of Qwen2.5 0.5B and 1.5B; nothing is downloaded. Each row is a process with
a time of its own (``--row-seconds``) and all of them share ``--seconds``: a row that fails or takes too long says so
and the table goes on. A step of generate or continuous batching is its sampling and our update, in seconds, added up.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import SUPPRESS, Namespace
from itertools import product
from typing import Any

from benchmarks.gpu_rows import MODELS, ROWS, work
from benchmarks.report import Report, parser
from benchmarks.trl_step import settings_of
from benchmarks.workers import Worker, WorkerError

COLUMNS = {
    "size": ("model", ""),
    "label": ("what", ""),
    "seconds": ("s", ".3f"),
    "tokens_per_s": ("tokens/s", ".0f"),
    "vs": ("Sparring is x times as fast", ".2f"),
    "share": ("of the roofline", ".1%"),
    "mfu": ("of peak FLOP/s", ".1%"),
    "memory_gib": ("peak GiB", ".1f"),
    "note": ("note", ""),
}
SAMPLERS = {"generate": "decode", "continuous": "decode", "step_generate": "step", "step_continuous": "step"}
"""Row of another sampler -> row of ours that it is compared with."""


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--device", default="cuda", help="cuda or cpu")
    line.add_argument("--size", nargs="+", choices=MODELS, default=["0.5B", "1.5B"])
    line.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    line.add_argument("--branch", nargs=2, type=int, default=[32, 8], metavar=("N", "G"), help="prompts, samples each")
    line.add_argument("--prompt", type=int, default=128)
    line.add_argument("--max-tokens", type=int, default=256)
    line.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    line.add_argument("--seconds", type=float, default=560.0, help="for the whole table")
    line.add_argument("--row-seconds", type=float, default=80.0, help="for one row, start and warm-up included")
    line.add_argument("--learner", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of our learner")
    line.add_argument("--worker", help=SUPPRESS)
    options = line.parse_args(words)
    if options.worker:
        return work(json.loads(options.worker))
    title = (
        f"One {options.device}: {' x '.join(map(str, options.branch))}, {options.prompt} + {options.max_tokens} tokens"
    )
    report = Report("gpu", title, COLUMNS, options)
    end = time.monotonic() + options.seconds
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for size, row in product(options.size, options.rows):
        found[size, row] = measure(size, row, min(options.row_seconds, end - time.monotonic()), options)
        report.add(size=size, row=row, label=ROWS[row], **compared(size, row, found))
    for size in options.size:
        for row in ("generate", "continuous"):
            update, sampled = found.get((size, "update"), {}), found.get((size, row), {})
            if "seconds" in update and "seconds" in sampled:
                seconds = update["seconds"] + sampled["seconds"]
                whole = {"seconds": seconds, "tokens_per_s": sampled["tokens"] / seconds}
                found[size, f"step_{row}"] = whole
                label = f"step: {ROWS[row]}, our update"
                report.add(size=size, row=f"step_{row}", label=label, **compared(size, f"step_{row}", found))
    report.finish()


def measure(size: str, row: str, seconds: float, options: Namespace) -> dict[str, Any]:
    """One row in a process of its own, or why there is none."""
    if seconds <= 0:
        return {"note": "no time was left"}
    settings = {
        "size": size, "side": row, "device": options.device, "dtype": options.dtype, "branch": options.branch,
        "prompt": options.prompt, "max_tokens": options.max_tokens, "seconds": seconds / 2,
        "learner": settings_of(options.learner),
    }  # fmt: skip
    end = time.monotonic() + seconds
    try:
        with Worker("benchmarks.gpu", settings, threads=options.threads, timeout=seconds) as worker:
            return worker.facts if "note" in worker.facts else worker.step(timeout=max(1.0, end - time.monotonic()))
    except WorkerError as error:
        return {"note": str(error).partition(" ")[2]}


def compared(size: str, row: str, found: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The row, with how many times as fast ours is, where ours was measured."""
    mine, ours = found[size, row], found.get((size, SAMPLERS.get(row, "")), {})
    if "tokens_per_s" in mine and "tokens_per_s" in ours:
        return mine | {"vs": ours["tokens_per_s"] / mine["tokens_per_s"]}
    return mine


if __name__ == "__main__":
    sys.exit(main())
