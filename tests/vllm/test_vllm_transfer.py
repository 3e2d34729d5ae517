"""Transfers of weights in a lower precision, and one that breaks off in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from models.vllm_engine import VllmEngine
from models.vllm_proof import StaleWeights
from tests.vllm.small import open_engine, sample, step


def test_in_bfloat16_the_tensors_tell() -> None:
    """A small step vanishes in the probe's rounding; compared tensor by tensor it does not."""
    engine = open_engine("llama", True, torch.bfloat16)
    try:
        assert sample(engine) and engine.metrics()["probe_gap_max"] < engine.tolerance
        step(engine, lr=1e-5)
        engine.vllm.reload, whole = lambda weights: None, engine.vllm.reload
        with pytest.raises(StaleWeights, match="vLLM holds other weights than the trainer"):
            sample(engine)
        gap = engine._probe.gap(engine, engine.vllm)
        assert gap.largest < engine.tolerance and not gap.behind, "the probe alone would pass it"
        engine.vllm.reload = whole
        assert sample(engine)
    finally:
        engine.close()


def test_a_transfer_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are half new: the engine must not believe that it has a version."""
    engine = open_engine("llama", False)
    try:
        said = sample(engine)

        def broken(masters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
            yield next(iter(VllmEngine._weights(engine, masters)))
            raise KeyboardInterrupt

        engine.touched()
        with monkeypatch.context() as patched:
            patched.setattr(engine, "_weights", broken)
            with pytest.raises(KeyboardInterrupt):
                sample(engine)
        assert sample(engine) == said
    finally:
        engine.close()
