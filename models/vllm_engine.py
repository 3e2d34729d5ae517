"""The engine whose sampler is vLLM, in one process: the trainer keeps the float32 masters, vLLM plays by a copy.

The copy is brought up to date when it is next asked and the version has changed, and is then proved
(``models/vllm_proof.py``): an engine that would sample by other weights than it trains raises ``StaleWeights``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.engine import Engine
from models.lora import has_lora, merged
from models.speech import Sample, Sampling
from models.vllm_options import VllmOptions
from models.vllm_proof import Gap, Probe, StaleWeights, compare
from models.vllm_sampler import VllmSampler

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1.0}
"""Largest difference of a log-probability, in nats, that rounding explains on the probe's random tokens."""


class Served:
    """What an engine asks of its sampler, by vLLM: brought up to date first."""

    def __init__(self, vllm: VllmSampler, sync: Callable[[], None], batch_tokens: int) -> None:
        self._vllm, self._sync = vllm, sync
        self.batch_tokens = batch_tokens  # vLLM makes its own batches: this one is for the snapshots

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, version: int
    ) -> list[Sample]:
        """One completion per prompt, in order."""
        self._sync()
        return [Sample(list(row.token_ids), list(row.logprobs)) for row in self._vllm.sample(prompts, seeds, sampling)]

    def weigh(self, prompts: Sequence[Sequence[int]], replies: Sequence[int], version: int) -> list[list[float]]:
        """The log-probabilities of the tokens ``replies`` as the next one after each prompt, at temperature 1."""
        self._sync()
        return [list(row) for row in self._vllm.choose(prompts, replies)]

    def forget(self) -> None:
        """Drop what was kept of prompts."""
        self._vllm.forget()


class VllmEngine(Engine):
    """``Engine`` whose words and choices come from vLLM. A ``snapshot`` is a plain engine over transformers.

    ``source`` is the folder or hub id whose configuration vLLM reads; the weights it gets from ``model``. The two
    compute with other kernels, so log-probabilities differ by rounding, which a learner can correct. Equal seeds give
    equal rows; what vLLM batches together may change the rounding. ``settings`` are those of ``Engine``.
    Raises ``VllmError``.
    """

    exact_sampler = False
    choose = None  # type: ignore[assignment]  # its sampler draws whole completions: who chooses moves is told so

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        source: str,
        dtype: torch.dtype = torch.float32,
        options: VllmOptions | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(model, tokenizer, name=name, dtype=dtype, **settings)
        options = options or VllmOptions()
        self.tolerance = TOLERANCE[dtype] if options.tolerance is None else options.tolerance
        self.vllm = VllmSampler(
            source, options, dtype=dtype, device=self.device, revision=revision, trust_remote_code=trust_remote_code
        )
        self._sampler = Served(self.vllm, self.sync, self.batch_tokens)
        self._context = self.vllm.max_model_len
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self._probe = Probe(vocabulary, self.vllm.block, self._context)
        self._served: int | None = None
        self._gap, self._share = Gap(0.0, 0.0), 0.0

    # -- the sampler's weights ---------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring vLLM's weights up to date with the masters and prove it; nothing to do for a version that it has.
        Raises ``StaleWeights``."""
        self.vllm.wake()
        if self._served == self.version:
            return
        self._served = None  # until it is proved
        self.model.eval()
        masters = self._masters()
        self._transfer(masters)
        self._prove(masters)
        self._served = self.version

    def sleep(self) -> None:
        """Lend vLLM's memory to the update, if the option ``sleep`` is on; the next ``generate`` takes it back."""
        if self.vllm.sleep():
            self._served = None

    def metrics(self) -> dict[str, float]:
        """Of the last proof: the probe's gap in nats, and the share of vLLM's numbers that were compared."""
        return {
            "probe_gap_max": self._gap.largest,
            "probe_gap_mean": self._gap.mean,
            "weights_compared": self._share,
        }

    def close(self) -> None:
        """End vLLM; the trainer's half stays of use."""
        self.vllm.close()

    def _masters(self) -> dict[str, Tensor]:
        """What vLLM is to hold: the trainer's tensors, with adapters merged."""
        model = merged(self.model, share=True) if has_lora(self.model) else self.model
        return model.state_dict()

    def _transfer(self, masters: Mapping[str, Tensor]) -> None:
        self.vllm.reload(self._weights(masters))

    def _weights(self, masters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The masters as a checkpoint has them, in the sampler's precision; a shared tensor once, by its first name."""
        seen: set[int] = set()
        for name, tensor in masters.items():
            if tensor.data_ptr() not in seen or not tensor.numel():
                seen.add(tensor.data_ptr())
                yield name, tensor.detach().to(self.dtype) if tensor.is_floating_point() else tensor

    def _prove(self, masters: Mapping[str, Tensor]) -> None:
        found = self.vllm.apply(lambda served: compare(served, masters, self.dtype, seed=self.version))
        self._share = found.share
        if found.unknown:
            log.info("%s: only the probe looks at %s of vLLM's model", self.name, ", ".join(found.unknown))
        if found.differs:
            worst = max(
                found.differs, key=lambda name: (found.differs[name] != found.differs[name], found.differs[name])
            )
            others = f" and {len(found.differs) - 1} more" if len(found.differs) > 1 else ""
            raise StaleWeights(
                f"after update {self.version} of {self.name!r} vLLM holds other weights than the trainer: "
                f"{worst}{others} differ by up to {found.differs[worst]:.3g}"
            )
        self._gap = self._probe.gap(self, self.vllm)
        if self._gap.behind:
            raise StaleWeights(
                f"after update {self.version} of {self.name!r} vLLM still speaks by the weights before it: the probe "
                f"is off by up to {self._gap.largest:.3g} nats"
            )
        if not self._gap.largest <= self.tolerance:
            raise StaleWeights(
                f"after update {self.version} of {self.name!r} vLLM scores the probe differently from the trainer, by "
                f"up to {self._gap.largest:.3g} nats (model.vllm.tolerance={self.tolerance:g})"
            )
        self._probe.accept(self._gap)
