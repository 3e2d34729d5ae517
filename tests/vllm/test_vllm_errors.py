"""What vLLM cannot do here is said in one sentence, and leaves the way free for another try."""

from __future__ import annotations

import pytest
import torch

from models.vllm_engine import VllmEngine
from models.vllm_options import VllmError, VllmOptions
from models.vllm_sampler import VllmSampler
from tests.helpers import chat, make_engine, model_folder
from tests.vllm.small import folder, open_engine, sample


def test_options_that_it_refuses() -> None:
    with pytest.raises(VllmError, match=r"vLLM refuses .*: .*max_model_len"):
        open_engine("llama", True, max_model_len=100_000)
    engine = open_engine("llama", True)
    assert sample(engine)
    engine.close()


def test_a_device_that_it_was_not_built_for() -> None:
    with pytest.raises(
        VllmError, match=r"this vLLM was built for .cpu. and the model trains on .meta.: set model\.device"
    ):
        VllmSampler(str(folder("llama", True)), VllmOptions(), dtype=torch.float32, device=torch.device("meta"))


def test_a_model_that_its_kernels_do_not_take() -> None:
    """Attention heads of eight numbers."""
    plain, source = make_engine("llama"), str(model_folder("llama"))
    engine = VllmEngine(
        plain.model, plain.tokenizer, name="narrow", source=source, options=VllmOptions(kv_cache_gib=0.1)
    )
    try:
        with pytest.raises(VllmError, match=r"vLLM cannot run .*head_dim=8"):
            engine.generate([chat("Hi")], temperature=1.0, top_p=1.0, max_tokens=4, seeds=[0])
    finally:
        engine.close()
