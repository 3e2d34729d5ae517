"""Where the time goes: matrix products, attention, memory, other arithmetic, our kernels, dispatch, the interpreter.

    python -m benchmarks.breakdown --size 1M 10M 60M

Each operator's own time is taken from torch's profiler, and its share of a run without the profiler is what counts. A
trivial operator tells what dispatch alone costs, with the profiler (taken off) and without it (told as dispatch). What
is left of the time belongs to the interpreter. Kernels of ours are no operators: each call is timed. An operator within
another counts as one, though it is cheaper: so dispatch is an upper estimate, and the interpreter a lower one. On one
thread: seconds of several do not add up.
"""

from __future__ import annotations

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.models import SIZES, make, prompts, step
from benchmarks.report import Report, parser
from benchmarks.timing import interleaved
from learners.policy_gradient import PolicyGradient
from models import native
from models.engine import Engine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {
    "gemm": ("mm", "linear", "matmul", "convolution"),
    "attention": ("attention",),
    "memory": ("copy", "cat", "index", "gather", "scatter", "clone", "fill", "zero", "empty", "select", "embedding"),
}
"""Kind -> what an operator's name contains; the first that fits. All others are arithmetic element by element."""
PARTS = (*KINDS, "other", "kernels", "dispatch", "interpreter")
COLUMNS = {
    "what": ("what", ""),
    "size": ("size", ""),
    "dtype": ("dtype", ""),
    "seconds": ("s", ".2f"),
    "operators": ("operators", ""),
    **{part: (part, ".0%") for part in PARTS},
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.set_defaults(threads=1)
    line.add_argument("--size", nargs="+", choices=SIZES, default=["1M", "10M", "60M"])
    line.add_argument("--dtype", nargs="+", choices=DTYPES, default=["bfloat16"])
    line.add_argument("--branch", nargs=2, type=int, default=[16, 8], metavar=("N", "G"))
    line.add_argument("--prompt", type=int, default=48)
    line.add_argument("--max-tokens", type=int, default=32)
    options = line.parse_args(words)
    if options.threads != 1:
        line.error("seconds of several threads do not add up: --threads 1")
    torch.set_num_threads(1)
    report = Report("breakdown", "Where the time goes, one thread", COLUMNS, options)
    for size, dtype in itertools.product(options.size, options.dtype):
        generate, update = calls(size, DTYPES[dtype], options)
        report.add(what="generation", size=size, dtype=dtype, **shares(generate))
        report.add(what="update", size=size, dtype=dtype, **shares(update))
    report.finish()


def calls(name: str, dtype: torch.dtype, options: Namespace) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call that samples and a call that learns, ours, at the sizes of ``options``."""
    size, (count, group) = SIZES[name], options.branch
    engine = Engine(*make(size, None), name=name, dtype=dtype)
    learner = PolicyGradient(engine, lr=1e-6, kl="none")
    episodes = step(size.vocab, options.prompt, [options.max_tokens] * (count * group), group)
    numbers = itertools.count()

    def generate() -> None:
        asked = prompts(count, options.prompt, size.vocab, next(numbers))
        chats = [{"system": "", "user": text} for text in asked for _ in range(group)]
        engine.generate(chats, temperature=1.0, top_p=1.0, max_tokens=options.max_tokens, seeds=range(len(chats)))

    return generate, lambda: learner.update(episodes)


def shares(call: Callable[[], object]) -> dict[str, Any]:
    """The parts of the seconds that ``call`` takes without the profiler."""
    seconds = interleaved({"": call}, 3)[""]
    watched, plain = dispatch_seconds()
    with kernels_timed() as kernels, profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    spent, operators = dict.fromkeys(PARTS, 0.0) | {"kernels": sum(kernels)}, 0
    for event in found.key_averages():
        if not event.key.startswith("aten::") and "mkldnn" not in event.key:
            continue  # a label around operators, and no operator itself
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "other")
        spent[kind] += max(0.0, event.self_cpu_time_total * 1e-6 - event.count * watched)
        operators += event.count
    left = max(0.0, seconds - sum(spent.values()))
    spent["dispatch"] = min(left, operators * plain)
    spent["interpreter"] = left - spent["dispatch"]
    return {"seconds": seconds, "operators": operators} | {part: spent[part] / seconds for part in PARTS}


@contextmanager
def kernels_timed() -> Generator[list[float]]:
    """The seconds of every call of a kernel while it lasts."""
    seconds: list[float] = []

    def timed(run: native.Kernel) -> native.Kernel:
        def call(*arguments: Any) -> None:
            started = time.perf_counter()
            run(*arguments)
            seconds.append(time.perf_counter() - started)

        return call

    watched = {key: timed(run) for key, run in (native.compiled() or {}).items()} or None
    with patch.object(native, "compiled", lambda: watched):
        yield seconds


def dispatch_seconds(count: int = 2000) -> tuple[float, float]:
    """Seconds of an operator that has next to nothing to do: in the profiler's eyes, and without it."""
    one = torch.ones(1)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(count):
            one.add_(1)
    (event,) = (event for event in found.key_averages() if event.key == "aten::add_")
    started = time.perf_counter()
    for _ in range(count):
        one.add_(1)
    return event.self_cpu_time_total * 1e-6 / event.count, (time.perf_counter() - started) / count


if __name__ == "__main__":
    sys.exit(main())
