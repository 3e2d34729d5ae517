"""The roofline: what this machine allows, and the least time in which it could do what an engine did.

A pass needs some arithmetic and moves some bytes (``models.cost``); it cannot end before the slower of the two would
alone (Williams, Waterman, Patterson, 2009, doi:10.1145/1498765.1498785). The least time over the time it took is the
share of the roofline: what is missing to 1 is what better code could win.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from transformers import PreTrainedModel

from models.cost import Cost, Shape, decode, optimize, prefill, score, shape_of, train
from models.linear import product

log = logging.getLogger(__name__)

_MIB = 1 << 20
_CACHES = (4 * _MIB, 16 * _MIB, 32 * _MIB)
"""Working sets that a processor's caches may hold: small models live there, and are faster than memory allows."""
_FOLD = 8192
"""Calls that a counter keeps before it sums them up: it stays small where nobody ever takes."""
_ADAMW_BYTES = 28
"""Per parameter in float32: weight, gradient and two moments read, weight and two moments written."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """FLOP per second and bytes per second. ``caches`` are (bytes that fit, bytes per second), the smallest first:
    a working set that fits is read again and again at that rate, not at the memory's."""

    flops: float
    bytes_per_second: float
    caches: tuple[tuple[int, float], ...] = ()

    def seconds(self, cost: Cost) -> float:
        """The shortest time in which one call can be over."""
        rate = next((rate for fits, rate in self.caches if cost.bytes <= fits), self.bytes_per_second)
        return max(cost.flop / self.flops, cost.bytes / rate)


# -- the machine -----------------------------------------------------------------------------------------------------


def ceilings(device: torch.device | str, dtype: torch.dtype) -> Ceilings:
    """What ``device`` reaches in ``dtype`` with the threads set now: the best of a few matrix products and of a few
    reads of memory. Takes some ten milliseconds, once per process, device, precision and number of threads; on a busy
    machine the answer is too low, and a share of it can exceed 1."""
    return _ceilings(torch.device(device), dtype, torch.get_num_threads())


@cache
def _ceilings(device: torch.device, dtype: torch.dtype, threads: int) -> Ceilings:
    with torch.inference_mode():
        flops = _gemm_flops(device, dtype)
        largest = (64 if device.type == "cpu" else 512) * _MIB  # beyond the caches of most processors, and of any GPU
        # Written by one thread: many that touch fresh memory at once wait for the kernel's page tables.
        data = torch.from_numpy(np.ones(largest // 4, dtype=np.float32)).to(device)
        # On a GPU the launch of a kernel takes longer than reading what its caches hold: nothing to measure.
        sizes = _CACHES if device.type == "cpu" else ()
        caches = tuple((size, _read_rate(data[: size // 4])) for size in sizes)
        memory = _read_rate(data)
    told = "%s on %s with %d threads: %.0f GFLOP/s, %.0f GB/s of memory"
    log.info(told, str(dtype).removeprefix("torch."), device, threads, flops / 1e9, memory / 1e9)
    return Ceilings(flops, memory, tuple((size, rate) for size, rate in caches if rate > memory))


def _gemm_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of square products, whose size doubles until one takes half a millisecond."""
    rate, size = 0.0, 512
    generator = torch.Generator(device).manual_seed(0)  # constant operands draw less power and run too fast on a GPU
    while True:
        a, b = (torch.rand(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
        seconds = _best(lambda a=a, b=b: product(a, b), device)
        rate = max(rate, 2 * size**3 / seconds)
        if seconds >= 5e-4 or size >= 8192:
            return rate
        size *= 2


def _read_rate(data: torch.Tensor) -> float:
    return data.numel() * data.element_size() / _best(data.sum, data.device)


def _best(call: Callable[[], object], device: torch.device, budget: float = 2e-3) -> float:
    """Seconds of the fastest of at least three calls, and of more until ``budget`` seconds are over."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < budget:
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done all that it was given: before and after whatever is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


# -- the counter -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done, and ``seconds``: the least that it can take on this machine, call by call."""

    calls: int = 0
    flop: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0


class Work:
    """What an engine did since the last ``take()``; a frozen copy of the model shares the counter of its original.

    An engine reports each pass in a fraction of a microsecond; sizes and ceilings are looked up by ``take``. ``rows``
    and ``width`` are of the real work, means where rows differ: then padding and finished rows count as waste, as they
    should. Counting is not locked: beside a take in another thread, a call may be counted a take later.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self._calls: list[tuple[Callable[..., Cost], tuple[float, ...]]] = []
        self._tally = Tally()

    @cached_property
    def shape(self) -> Shape:
        """The model's, as it is when first asked for: after adapters were put in, before the first update."""
        return shape_of(self._model, self._dtype)

    def prefill(self, rows: float, width: float, past: float = 0) -> None:
        self._note(prefill, rows, width, past)

    def decode(self, rows: float, context: float) -> None:
        self._note(decode, rows, context)

    def speak(self, prompts: Sequence[int], said: Sequence[int]) -> None:
        """The decode steps of rows that began together, from the tokens of each row's prompt and completion.

        For a loop that does not know at every token who still speaks, or an engine that is not ours. The first token
        of a row comes from its prefill.
        """
        rows = sorted(zip(said, prompts, strict=True), reverse=True)
        prompted, step = sum(prompts), 1
        while rows:
            while rows and rows[-1][0] <= step:
                prompted -= rows.pop()[1]
            if rows:
                self.decode(len(rows), prompted / len(rows) + step)
            step += 1

    def score(self, rows: float, width: float, completion: float, again: float = 0) -> None:
        self._note(score, rows, width, completion, again)

    def train(self, rows: float, width: float, completion: float, again: float = 0) -> None:
        self._note(train, rows, width, completion, again)

    def optimize(self, bytes_per_parameter: float = _ADAMW_BYTES) -> None:
        self._note(optimize, bytes_per_parameter)

    def take(self) -> Tally:
        """The sum since the last take; starts a new one."""
        self._fold()
        taken, self._tally = self._tally, Tally()
        return taken

    def _note(self, cost: Callable[..., Cost], *sizes: float) -> None:
        self._calls.append((cost, sizes))
        if len(self._calls) >= _FOLD:
            self._fold()

    def _fold(self) -> None:
        calls, self._calls = self._calls, []
        limit = ceilings(self._model.device, self._dtype)
        costs = [cost(self.shape, *sizes) for cost, sizes in calls]
        self._tally = Tally(
            self._tally.calls + len(costs),
            self._tally.flop + sum(cost.flop for cost in costs),
            self._tally.bytes + sum(cost.bytes for cost in costs),
            self._tally.seconds + sum(limit.seconds(cost) for cost in costs),
        )
