"""Tokens per second of sampling: ours, transformers' ``generate``, and vLLM where there is one.

    python -m benchmarks.generation --size 1M 10M 60M --rows 1 32 128

Same model, prompts, precision, threads and lengths; every side is a process of its own, and they take turns. ``--group
8`` asks every prompt eight times, as self-play does. ``geometric`` lengths have a quarter of the maximum as their mean.
vLLM wants an environment of its own: ``--vllm-python`` names its interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.limits import generation_seconds
from benchmarks.models import SIZES, make
from benchmarks.report import VLLM, Report, installed, parser
from benchmarks.workers import Worker

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ENVIRONMENT = Path(".venv-vllm/bin/python")
"""Where ``make test-vllm`` puts vLLM's environment."""
COLUMNS = {
    "size": ("size", ""),
    "dtype": ("dtype", ""),
    "rows": ("rows", ""),
    "group": ("group", ""),
    "lengths": ("lengths", ""),
    "hf": ("generate tokens/s", ".0f"),
    "vllm": ("vLLM tokens/s", ".0f"),
    "ours": ("Sparring tokens/s", ".0f"),
    "vs_hf": ("x generate", ".2f"),
    "vs_vllm": ("x vLLM", ".2f"),
    "share": ("of the limit", ".1%"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--size", nargs="+", choices=SIZES, default=["1M", "10M", "60M"])
    line.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    line.add_argument("--rows", nargs="+", type=int, default=[1, 32, 128], help="completions in one call")
    line.add_argument("--group", nargs="+", type=int, default=[1, 8], help="completions of one prompt")
    line.add_argument("--lengths", nargs="+", choices=("equal", "geometric"), default=["equal", "geometric"])
    line.add_argument("--prompt", type=int, default=48, help="tokens of a prompt")
    line.add_argument("--max-tokens", type=int, default=64)
    line.add_argument("--repeats", type=int, default=3)
    line.add_argument("--budget", type=float, default=30.0, help="seconds after which no further repeat begins")
    line.add_argument(
        "--vllm-python", type=Path, default=ENVIRONMENT if ENVIRONMENT.exists() else None, metavar="PYTHON"
    )
    options = line.parse_args(words)
    torch.set_num_threads(options.threads)
    report = Report("generation", "Sampling, tokens per second (medians, sides in turns)", COLUMNS, options)
    pythons = {"hf": sys.executable, "ours": sys.executable}
    if vllm := vllm_python(options, report):
        pythons["vllm"] = vllm
    for size, dtype in product(options.size, options.dtype):
        for row in compare(size, dtype, pythons, options):
            report.add(size=size, dtype=dtype, **row)
    report.finish()


def compare(size: str, dtype: str, pythons: dict[str, str], options: Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one model and precision, whose sides stay alive from point to point."""
    settings = {
        "size": size, "dtype": dtype, "prompt": options.prompt, "max_tokens": options.max_tokens,
        "rows": max(options.rows),
    }  # fmt: skip
    model, _ = make(SIZES[size], None)
    with ExitStack() as stack:
        workers = {
            side: stack.enter_context(
                Worker("benchmarks.generation_side", settings | {"side": side}, threads=options.threads, python=python)
            )
            for side, python in pythons.items()
        }
        assert all(worker.facts is not None for worker in workers.values())  # all are ready
        for point in points(options):
            seconds, lengths = measure(workers, point, options)
            speed = {side: sum(lengths[side]) / seconds[side] for side in workers}
            different = -(-point["rows"] // point["group"])
            limit = generation_seconds(model, DTYPES[dtype], different, options.prompt, lengths["ours"])
            ratios = {f"vs_{side}": speed["ours"] / speed[side] for side in workers if side != "ours"}
            tokens = {side: sum(said) for side, said in lengths.items()}
            yield {**point, **speed, **ratios, "share": limit / seconds["ours"], "seconds": seconds, "tokens": tokens}


def points(options: Namespace) -> list[dict[str, Any]]:
    """Every combination that makes sense: one row is no group, and its length is one number and no distribution."""
    return [
        {"rows": rows, "group": group, "lengths": lengths}
        for rows, group, lengths in product(options.rows, options.group, options.lengths)
        if group <= rows and (rows > 1 or lengths == "equal")
    ]


def measure(
    workers: dict[str, Worker], point: dict[str, Any], options: Namespace
) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Each side's median seconds and the lengths of what it said; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    lengths: dict[str, list[int]] = {}
    for call in range(1 + options.repeats):  # every call has other prompts, as every step of a run
        if call > 1 and sum(map(sum, seconds.values())) > options.budget:
            break
        for side, worker in workers.items():
            done = worker.step({**point, "call": call})
            lengths[side] = done["lengths"]
            if call:
                seconds[side].append(done["seconds"])
    return {side: median(found) for side, found in seconds.items()}, lengths


def vllm_python(options: Namespace, report: Report) -> str | None:
    """An interpreter that can import vLLM, or ``None``, and why."""
    if installed(*VLLM):
        return sys.executable
    if options.vllm_python is None:
        report.note("vLLM is absent: it wants an environment of its own (make test-vllm builds one); see --vllm-python")
        return None
    asked = f"import sys; from benchmarks.report import installed; sys.exit(not installed(*{VLLM}))"
    if subprocess.run([str(options.vllm_python), "-c", asked], check=False).returncode:
        report.note(f"vLLM is absent: {options.vllm_python} cannot import it")
        return None
    return str(options.vllm_python)


if __name__ == "__main__":
    sys.exit(main())
