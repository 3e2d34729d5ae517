"""A transfer that does not arrive, wholly or in part, is caught at the next word and named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from torch import Tensor

import models.vllm_engine
import models.vllm_sampler
from models.vllm_engine import VllmEngine
from models.vllm_proof import Comparison, StaleWeights
from tests.vllm.small import MODELS, open_engine, sample, step

SMALL = 1e-6
"""A learning rate at which one step moves every weight by about a millionth."""


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: f"{model[0]}-{'tied' if model[1] else 'untied'}")
def engine(request: pytest.FixtureRequest) -> Iterator[VllmEngine]:
    opened = open_engine(*request.param)
    yield opened
    opened.close()


def without(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    """From here on, the transfer passes one tensor by."""
    sent = engine._weights

    def fewer(masters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        names = []
        for name, tensor in sent(masters):
            names.append(name)
            if name != left_out:
                yield name, tensor
        assert left_out in names, "nothing was left out"

    monkeypatch.setattr(engine, "_weights", fewer)


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.qkv_proj.weight"),
        ("model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.down_proj.weight"),
        ("model.norm.weight", "model.norm.weight"),
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),
    ],
)
def test_one_tensor_that_is_left_out_is_named(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, left_out: str, named: str
) -> None:
    step(engine, lr=SMALL)
    with monkeypatch.context() as patched:
        without(engine, patched, left_out)
        with pytest.raises(StaleWeights, match="vLLM holds other weights than the trainer") as caught:
            sample(engine)
        assert named in str(caught.value)
        with pytest.raises(StaleWeights):
            sample(engine)  # it is refused again, not once
    assert sample(engine), "a whole transfer mends it"


def test_the_language_head(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untied, it is a tensor like the others; tied, vLLM computes with a packed copy of its own."""
    step(engine, lr=SMALL)
    with monkeypatch.context() as patched:
        if engine.model.config.tie_word_embeddings:
            patched.setattr(models.vllm_sampler, "_repack_tied", lambda model: None)
        else:
            without(engine, patched, "lm_head.weight")
        with pytest.raises(StaleWeights, match=r"lm_head\.weight differ by up to \d"):
            sample(engine)
    assert sample(engine)


def test_a_transfer_that_does_nothing(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    step(engine, lr=SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_transfer", lambda masters: None)
        with pytest.raises(StaleWeights, match=rf"after update {engine.version} of .* and \d+ more differ by up to 1"):
            sample(engine)
        # The probe sees it, too, without the comparison.
        patched.setattr(models.vllm_engine, "compare", lambda *_, **__: Comparison({}, 1.0, ()))
        with pytest.raises(StaleWeights, match="vLLM still speaks by the weights before it: the probe is off by up to"):
            sample(engine)
    assert sample(engine)


def test_a_probe_that_is_far_off(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(engine)
    monkeypatch.setattr(engine, "tolerance", 1e-9)
    engine.touched()
    with pytest.raises(StaleWeights, match=r"scores the probe differently .* nats \(model\.vllm\.tolerance=1e-09\)"):
        sample(engine)


def test_a_cache_of_the_old_weights(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors are right and what older ones left in the prefix cache is not: only the probe can tell."""
    sample(engine)
    step(engine, lr=1e-2)
    with monkeypatch.context() as patched:
        patched.setattr(engine.vllm._llm, "reset_prefix_cache", lambda: True)
        with pytest.raises(StaleWeights, match="probe"):
            sample(engine)
    assert sample(engine)
