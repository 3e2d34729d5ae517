"""The proof after every transfer of weights: what vLLM holds is the trainer's, tensor by tensor and by a probe.

A step of lr 1e-6 moves log-probabilities less than arithmetic in bfloat16 does, so a probe alone would let it pass:
the tensors are compared exactly, and the probe covers the rest (positions, caches, compiled code).
Shape legend: C columns, K inputs of a layer, N outputs, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from selfplay.types import Completion

if TYPE_CHECKING:
    from models.engine import Engine
    from models.vllm_sampler import VllmSampler

COLUMNS = 32
"""How many inputs of a layer with packed weights are read back; another choice of them after every update."""

EXACT = 1e-30
"""Equal but for numbers so small that some processors take them for 0."""


class StaleWeights(RuntimeError):
    """vLLM would sample by other weights than the trainer's."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differs`` says by how much each unequal tensor is off at most, ``share`` which part of vLLM's numbers was
    compared (by whole tensors), and ``unknown`` names the tensors that have no counterpart in the trainer's model."""

    differs: Mapping[str, float]
    share: float
    unknown: tuple[str, ...]


def compare(served: nn.Module, masters: Mapping[str, Tensor], dtype: torch.dtype, seed: int) -> Comparison:
    """vLLM's model against the trainer's tensors, rounded to ``dtype``. A fused projection is the trainer's parts, one
    below the other; a layer that keeps its weight packed is asked for columns of it, by way of one-hot inputs."""
    parts: Mapping[str, list[str]] = getattr(served, "packed_modules_mapping", {})
    differs: dict[str, float] = {}
    unknown: list[str] = []
    compared, total = 0, 0
    for name, module, held in _tensors(served):
        wanted = _wanted(masters, parts, name)
        size = held.numel() if wanted is None else wanted.numel()
        total += size
        if wanted is None:
            unknown.append(name)
            continue
        compared += size
        off = _difference(module, held, wanted.to(held.device, dtype), seed)
        if not off <= EXACT:  # nan is a difference
            differs[name] = off
    return Comparison(differs, compared / total if total else 0.0, tuple(unknown))


def _tensors(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Every parameter under every name that it has: a tied head is a layer of its own."""
    for path, module in model.named_modules():
        for leaf, held in module._parameters.items():
            if held is not None:
                yield f"{path}.{leaf}" if path else leaf, module, held


def _wanted(masters: Mapping[str, Tensor], parts: Mapping[str, list[str]], name: str) -> Tensor | None:
    """The trainer's tensor of vLLM's name."""
    if name in masters:
        return masters[name].detach()
    path, _, leaf = name.rpartition(".")
    parent, _, layer = path.rpartition(".")
    names = [f"{parent}.{part}.{leaf}" for part in parts.get(layer, ())]
    if not names or any(part not in masters for part in names):
        return None
    return torch.cat([masters[part].detach() for part in names])


def _difference(module: nn.Module, held: Tensor, wanted: Tensor, seed: int) -> float:
    """The largest absolute difference; infinite where the shapes disagree."""
    if _is_packed(module, held):
        width = wanted.shape[1]
        columns = sorted(random.Random(seed).sample(range(width), min(COLUMNS, width)))
        inputs_CK = torch.zeros(len(columns), width, dtype=wanted.dtype, device=wanted.device)
        inputs_CK[range(len(columns)), columns] = 1  # a product with a one and zeros is exact
        outputs_CN: Tensor = module.quant_method.apply(module, inputs_CK, None)  # type: ignore[union-attr,operator]
        held, wanted = outputs_CN.T, wanted[:, columns]
    if held.shape[1:] != wanted.shape[1:] or len(held) < len(wanted):
        return float("inf")
    off = (held[: len(wanted)].float() - wanted.float()).abs()  # rows of padding follow the vocabulary
    return float(off.max()) if off.numel() else 0.0  # the maximum of anything with a nan is nan


def _is_packed(module: nn.Module, held: Tensor) -> bool:
    """Whether the layer computes with something else than the tensor that it shows: on a CPU, linear layers keep an
    empty one, and the language head shows the embedding's."""
    if not hasattr(module, "cpu_linear") or held.ndim == 0 or held is module._parameters.get("bias"):
        return False
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    return not isinstance(module, VocabParallelEmbedding) or isinstance(module, ParallelLMHead)


@dataclass(frozen=True, slots=True)
class Gap:
    """Differences of log-probabilities over the probe's tokens, in nats: the largest and the mean. ``behind`` says
    that the sampler is nearer to what the trainer was at the last proof than to what it is."""

    largest: float
    mean: float
    behind: bool = False


class Probe:
    """A few rows of random ids, the same in every run, that the sampler and the trainer both score: the rows' own
    tokens (prefill) and ``EXTRA`` greedy ones after them (decoding, by way of the prefix cache).

    The rows are longer than a block of the cache, so that a block left over from older weights would be found.
    """

    ROWS, EXTRA, CLEAR = 2, 3, 3.0

    def __init__(self, vocabulary: int, block: int, context: int) -> None:
        draw = random.Random(0)
        longest = min(max(96, block + 16), context - self.EXTRA)
        self.rows = [
            tuple(draw.randrange(vocabulary) for _ in range(max(2, longest - 7 * row))) for row in range(self.ROWS)
        ]
        self._now: list[float] = []
        self._before: list[float] = []
        self._rounding = float("inf")

    def gap(self, trainer: Engine, sampler: VllmSampler) -> Gap:
        """Between the trainer's log-probabilities and the sampler's, by their present weights."""
        rows = sampler.examine(self.rows, self.EXTRA)
        told = [
            Completion("", ids[:1], (*ids[1:], *row.token_ids), (*row.scored, *row.logprobs), "length")
            for ids, row in zip(self.rows, rows, strict=True)
        ]
        with torch.no_grad():
            logp_BT, _ = trainer.logprobs(told)
        ours = [row_T[: len(one.token_ids)] for one, row_T in zip(told, logp_BT.tolist(), strict=True)]
        off = _differences([one.logprobs for one in told], ours)
        # The rows' own tokens are the same at every proof.
        theirs = [value for row in rows for value in row.scored]
        self._now = [value for row, values in zip(rows, ours, strict=True) for value in values[: len(row.scored)]]
        mean = sum(off) / len(off)
        return Gap(max(off, key=lambda one: (one != one, one)), mean, self._is_behind(theirs))  # nan is the largest

    def accept(self, gap: Gap) -> None:
        """The last gap was that of weights that had arrived: rounding, and the place from which to see a movement."""
        self._before, self._rounding = self._now, gap.mean

    def _is_behind(self, theirs: list[float]) -> bool:
        """Only a movement well above rounding can tell: in bfloat16 most updates are below it."""
        if not self._before:
            return False
        moved, new, old = (
            sum(_differences([a], [b]))
            for a, b in ((self._now, self._before), (theirs, self._now), (theirs, self._before))
        )
        return moved > self.CLEAR * self._rounding * len(theirs) and old < new


def _differences(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> list[float]:
    return [abs(x - y) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True)]
