"""What the machine allows: matrix products, memory, cache; and how much of it sampling and the update reach.

    python -m benchmarks.ceilings --size 1M 10M 60M

Square products are what the processor can do; skinny ones (few rows, a layer's weights) are what decoding asks for. The
shares compare our engine and our learner with ``models.roofline``'s lower bound for the same work.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.limits import generation_seconds, update_seconds
from benchmarks.models import SIZES, Size, make, prompts, step
from benchmarks.report import Report, parser
from benchmarks.timing import best, interleaved
from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from models.roofline import ceilings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MIB = 1 << 20
COLUMNS = {
    "what": ("what", ""),
    "shape": ("shape", ""),
    "dtype": ("dtype", ""),
    "value": ("reached", ".1f"),
    "unit": ("unit", ""),
    "share": ("of the limit", ".1%"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--size", nargs="+", choices=SIZES, default=["1M", "10M", "60M"])
    line.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    line.add_argument("--square", nargs="+", type=int, default=[256, 512, 1024, 2048])
    line.add_argument("--rows", nargs="+", type=int, default=[1, 32, 128], help="rows of a skinny product")
    line.add_argument("--memory", nargs="+", type=int, default=[1, 8, 24, 512], help="MiB that are read or copied")
    line.add_argument("--prompt", type=int, default=48)
    line.add_argument("--max-tokens", type=int, default=64)
    line.add_argument("--branch", nargs=2, type=int, default=[16, 8], metavar=("N", "G"))
    line.add_argument("--budget", type=float, default=20.0, help="seconds after which no further repeat begins")
    options = line.parse_args(words)
    torch.set_num_threads(options.threads)
    report = Report("ceilings", f"Ceilings, {options.threads} threads, and the share of them reached", COLUMNS, options)
    for found in itertools.chain(products(options), memory(options), shares(options)):
        report.add(**found)
    report.finish()


def products(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Square products, then a decode step's: the widest product of a layer, and the head."""
    for name in options.dtype:
        dtype = DTYPES[name]
        top = ceilings("cpu", dtype).flops
        yield row("limit", "as models.roofline has it", name, top / 1e9, "GFLOP/s")
        shapes = [(n, n, n) for n in options.square]
        for size in map(SIZES.__getitem__, options.size):
            shapes += [(rows, size.hidden, 3 * size.hidden) for rows in options.rows]
            shapes += [(rows, size.hidden, size.vocab) for rows in options.rows]
        for rows, inner, outer in shapes:
            a, weight = torch.rand(rows, inner).to(dtype), torch.rand(outer, inner).to(dtype)
            flops = 2 * rows * inner * outer / best(lambda a=a, b=weight: torch.nn.functional.linear(a, b))
            yield row("product", f"{rows} x {inner} x {outer}", name, flops / 1e9, "GFLOP/s", flops / top)


def memory(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Reading and copying blocks that fit a cache, and one that fits none."""
    limit = ceilings("cpu", torch.float32)
    yield row("limit", "memory, as models.roofline has it", "", limit.bytes_per_second / 1e9, "GB/s")
    for fits, rate in limit.caches:
        yield row("limit", f"caches, {fits // MIB} MiB", "", rate / 1e9, "GB/s")
    for mib in options.memory:
        source = torch.ones(mib * MIB // 4)
        target = torch.empty_like(source)
        read = mib * MIB / best(lambda s=source: s.sum())
        copied = 2 * mib * MIB / best(lambda s=source, t=target: t.copy_(s))
        yield row("read", f"{mib} MiB", "", read / 1e9, "GB/s")
        yield row("copy", f"{mib} MiB, read and written", "", copied / 1e9, "GB/s")


def shares(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Our engine's tokens per second and our learner's, and the share of the roofline."""
    (count, group), longest = options.branch, options.max_tokens
    for name in options.size:
        for precision in options.dtype:
            yield from share(SIZES[name], name, DTYPES[precision], precision, count, group, longest, options)


def share(
    size: Size, name: str, dtype: torch.dtype, precision: str, count: int, group: int, longest: int,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    model, tokenizer = make(size, None)
    engine = Engine(model, tokenizer, name=name, dtype=dtype)
    answers = [longest] * (count * group)
    calls = itertools.count()
    tokens = sum(answers)

    def generate() -> None:
        asked = prompts(count, options.prompt, size.vocab, next(calls))
        chats = [{"system": "", "user": text} for text in asked for _ in range(group)]
        engine.generate(chats, temperature=1.0, top_p=1.0, max_tokens=longest, seeds=range(len(chats)))

    seconds = interleaved({"": generate}, 3, budget=options.budget)[""]
    least = generation_seconds(model, dtype, count, options.prompt, answers)
    shape = f"{name}, {count} x {group}, {options.prompt} + {longest} tokens"
    yield row("generation", shape, precision, tokens / seconds, "tokens/s", least / seconds)
    learner = PolicyGradient(engine, lr=1e-6, kl="none")
    episodes = step(size.vocab, options.prompt, answers, group, engine)
    seconds = interleaved({"": lambda: learner.update(episodes)}, 3, budget=options.budget)[""]
    least = update_seconds(model, dtype, options.prompt, answers)
    yield row("update", shape, precision, tokens / seconds, "tokens/s", least / seconds)


def row(what: str, shape: str, dtype: str, value: float, unit: str, share: float | None = None) -> dict[str, Any]:
    return {"what": what, "shape": shape, "dtype": dtype, "value": value, "unit": unit, "share": share}


if __name__ == "__main__":
    sys.exit(main())
