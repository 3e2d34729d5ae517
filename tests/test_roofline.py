"""The cost of a pass by hand and against torch's own counter, the ceilings of this machine, and the counter of work."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3NextConfig,
)

from models.cost import Cost, Shape, decode, optimize, prefill, score, shape_of, train
from models.roofline import Ceilings, Tally, Work, ceilings

TINY = {
    "vocab_size": 10,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 2,
}
BY_HAND = Shape(
    body=260, head=40, attended=8, cached=4, windows=(None, None), trained_body=260, trained_head=40, trained=340
)


def model_of(config: PreTrainedConfig) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def llama(**changes: object) -> PreTrainedModel:
    return model_of(LlamaConfig(**{**TINY, "tie_word_embeddings": False, **changes}))


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_the_shape_of_a_small_llama() -> None:
    """Hidden 4, 2 query heads and 1 key-value head of size 2, feed-forward 6. A layer has q 16, k 8, v 8, o 16,
    3 x 24 and two norms of 4: 128. Two layers and the last norm: 260. Head and embedding: 10 x 4 = 40 each."""
    assert shape_of(llama(), torch.float32) == BY_HAND


def test_a_tied_head_multiplies_and_a_frozen_model_trains_nothing() -> None:
    tied = shape_of(llama(tie_word_embeddings=True), torch.bfloat16)
    assert tied == replace(BY_HAND, trained=300, sampler_bytes=2)
    frozen = shape_of(llama().requires_grad_(False), torch.float32)
    assert (frozen.trained_body, frozen.trained_head, frozen.trained) == (0, 0, 0)


def test_sizes_of_other_architectures() -> None:
    """GPT-2 leaves 20 positions x 4 out beside the embedding, which is its head: 40; its layers have 4 heads' worth of
    keys and values. Multi-query Falcon caches one head. Mixtral sends a token to 2 of 4 experts, each 3 x 4 x 6 = 72
    parameters in 2 layers. DeepSeek's keys are 2 + 3 wide, its values 4. Windows: Gemma 2 alternates, Mistral slides
    everywhere; layers of linear attention have no cache of positions."""
    gpt2 = shape_of(model_of(GPT2Config(vocab_size=10, n_positions=20, n_embd=4, n_layer=2, n_head=2)), torch.float32)
    assert (gpt2.head, gpt2.attended, gpt2.cached) == (40, 8, 8)
    assert gpt2.trained == gpt2.body + 40 + 80
    falcon = FalconConfig(vocab_size=10, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, multi_query=True)
    assert shape_of(model_of(falcon), torch.float32).cached == 4
    mixtral = shape_of(model_of(MixtralConfig(**TINY, num_local_experts=4, num_experts_per_tok=2)), torch.float32)
    assert (mixtral.experts, mixtral.routed) == (2 * 4 * 72, 0.5)
    assert mixtral.active == mixtral.body - 2 * 2 * 72
    deepseek = DeepseekV3Config(
        **{**TINY, "num_key_value_heads": 2},
        moe_intermediate_size=6,
        first_k_dense_replace=2,
        kv_lora_rank=2,
        q_lora_rank=2,
        qk_nope_head_dim=2,
        qk_rope_head_dim=3,
        v_head_dim=4,
    )
    assert shape_of(model_of(deepseek), torch.float32).attended == 2 * (5 + 4)
    assert shape_of(model_of(Gemma2Config(**TINY, sliding_window=5)), torch.float32).windows == (5, None)
    assert shape_of(model_of(MistralConfig(**TINY, sliding_window=7)), torch.float32).windows == (7, 7)
    kinds = ["linear_attention", "full_attention"]
    hybrid = Qwen3NextConfig(**TINY, layer_types=kinds, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=6)
    assert shape_of(model_of(hybrid), torch.float32).windows == (None,)


# -- costs -----------------------------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    """Two FLOP per parameter and token, and per position 2 x 8 in each of 2 layers; 4 bytes a number.

    Decode, 3 rows at 5 positions: 3 x (2 x 300 + 2 x 8 x 10) = 2,280 FLOP; weights 300, cache 3 x 4 x 10 = 120.
    Prefill, 2 x 3 tokens: 2 x 6 x 260 + 2 x 2 x 40 + 2 x 8 x 2 x (2 x 6 pairs) = 3,664; 300 + 6 x 4 x 2 = 348.
    The same after 4 positions in the cache: 2 x 4 x 3 = 24 pairs more in each of 2 layers, and 4 x 4 x 2 = 32 read.
    Score, 2 x 5 with 3 logits: 2 x 10 x 260 + 2 x 2 x 3 x 40 + 2 x 8 x 2 x (2 x 15) = 6,640; 300.
    Train the same: three times the arithmetic; weights twice and 340 gradients: 940.
    """
    assert decode(BY_HAND, 3, 5) == Cost(2_280, 4 * 420)
    assert prefill(BY_HAND, 2, 3) == Cost(3_664, 4 * 348)
    assert prefill(BY_HAND, 2, 3, 4) == Cost(3_664 + 2 * 8 * 2 * 24, 4 * (348 + 32))
    assert score(BY_HAND, 2, 5, 3) == Cost(6_640, 4 * 300)
    assert train(BY_HAND, 2, 5, 3) == Cost(19_920, 4 * 940)
    assert optimize(BY_HAND, 28) == Cost(0, 340 * 28)


def test_windows_experts_and_adapters() -> None:
    """A window of 3 at 5 positions: 3 seen, and 1 + 2 + 3 + 3 + 3 = 12 pairs. 200 of 260 parameters are experts of
    which one in four is asked: a token is multiplied by 60 + 50 + 40; 2 tokens would read 260 + 40 - 200 x 0.75^2.
    With 26 of 260 parameters trained, the gradients of weights cost a tenth of a forward body, and none of the head."""
    windowed = replace(BY_HAND, windows=(3, None))
    assert (windowed.positions(5), windowed.pairs(5)) == (8, 12 + 15)
    experts = replace(BY_HAND, experts=200, routed=0.25)
    assert decode(experts, 1, 1).flop == 2 * 150 + 2 * 8 * 2
    assert experts.read(1) == pytest.approx(150) and experts.read(2) == pytest.approx(187.5)
    adapters = replace(BY_HAND, trained_body=26, trained_head=0, trained=26)
    forward, attention = score(adapters, 2, 5, 3), 2 * 8 * 2 * 30
    assert train(adapters, 2, 5, 3) == Cost(2 * forward.flop + attention + 2 * 10 * 26, 4 * (600 + 26))


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config, Gemma2Config, MixtralConfig, GPT2Config, GPTNeoXConfig])
def test_costs_agree_with_the_arithmetic_that_torch_counts(kind: type[PreTrainedConfig]) -> None:
    """Forward and backward with logits at every position. Torch counts matrix products as they are called: attention
    over the whole square, so the pairs that a causal mask hides are added, and no norms or biases. Of a mixture's 4
    experts each token goes to 2."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    more = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    grouped = kind not in (GPT2Config, GPTNeoXConfig)
    moe = experts if kind is MixtralConfig else {}
    model = model_of(kind(**sizes, **(more if grouped else {}), **moe))
    if moe:
        model.set_experts_implementation("eager")  # torch counts no grouped products
    shape = replace(shape_of(model, torch.float32), windows=(None, None))
    rows, width = 3, 16
    ids = torch.arange(rows * width).view(rows, width) % 50
    with FlopCounterMode(display=False) as counter:
        model(ids, use_cache=False).logits.sum().backward()
    small = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    hidden = 3 * 2 * shape.attended * rows * 2 * (width * width - width * (width + 1) / 2)
    ours = train(shape, rows, width, width).flop + hidden - 6 * rows * width * small
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


# -- the machine -----------------------------------------------------------------------------------------------------


def test_a_call_takes_as_long_as_its_slower_half() -> None:
    """10 FLOP/s, 2 bytes/s from memory, 5 bytes/s where 20 bytes fit: 30 FLOP take 3 s, 20 bytes 4 s, 22 bytes 11 s."""
    machine = Ceilings(10.0, 2.0, ((20, 5.0),))
    assert machine.seconds(Cost(30, 1)) == 3.0
    assert machine.seconds(Cost(30, 20)) == 4.0
    assert machine.seconds(Cost(30, 22)) == 11.0


def test_the_ceilings_of_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    """Above what a machine of twenty years ago did, below any that there is; asked again, the same object at once."""
    before = torch.random.get_rng_state()
    with caplog.at_level(logging.INFO):
        found = ceilings("cpu", torch.float32)
    assert 1e8 < found.flops < 1e15 and 1e7 < found.bytes_per_second < 1e14
    assert all(rate > found.bytes_per_second for _, rate in found.caches)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is not ours"
    assert ceilings(torch.device("cpu"), torch.float32) is found
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert ceilings("cpu", torch.float32) is not found, "other threads, another machine"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_ceilings_of_a_gpu() -> None:
    """A GPU is far above a processor, which shows that the clock waited for the kernels and did not outrun them."""
    found = ceilings("cuda", torch.float32)
    assert 1e12 < found.flops < 1e16 and 1e11 < found.bytes_per_second < 2e13
    assert found.caches == ()


# -- the counter -----------------------------------------------------------------------------------------------------


def test_work_is_the_sum_of_its_calls() -> None:
    """By hand as above; the least time is that of every call for itself."""
    work = Work(llama(), torch.float32)
    assert work.take() == Tally()
    work.prefill(2, 3)
    work.decode(3, 5)
    work.score(2, 5, 3)
    work.train(2, 5, 3)
    work.optimize()
    costs = [Cost(3_664, 1_392), Cost(2_280, 1_680), Cost(6_640, 1_200), Cost(19_920, 3_760), Cost(0, 340 * 28)]
    machine = ceilings("cpu", torch.float32)
    taken = work.take()
    assert (taken.calls, taken.flop, taken.bytes) == (5, 32_504, 8_032 + 9_520)
    assert taken.seconds == pytest.approx(sum(map(machine.seconds, costs)))
    assert work.take() == Tally(), "what was taken is gone"


def test_the_steps_of_a_speech() -> None:
    """Prompts of 4, 6 and 8 tokens, answered by 1, 3 and 2: the first needs no step, the others one at contexts 7 and
    9, mean 8, and the second another one at 8."""
    work, by_hand = Work(llama(), torch.float32), Work(llama(), torch.float32)
    work.speak([4, 6, 8], [1, 3, 2])
    by_hand.decode(2, 8)
    by_hand.decode(1, 8)
    assert work.take() == by_hand.take()
    work.speak([], [])
    assert work.take() == Tally()


def test_a_counter_that_nobody_reads_stays_small() -> None:
    work = Work(llama(), torch.float32)
    for _ in range(20_000):
        work.decode(3, 5)
    assert len(work._calls) < 10_000
    taken = work.take()
    assert (taken.calls, taken.flop) == (20_000, 20_000 * 2_280.0)


def test_counting_costs_microseconds() -> None:
    """Best of five rounds, so that a busy machine does not matter; a decode step of any model takes far longer."""
    work, best = Work(llama(), torch.float32), 1.0
    work.take()
    for _ in range(5):
        began = time.perf_counter()
        for context in range(1_000):
            work.decode(128, context)
        work.take()
        best = min(best, (time.perf_counter() - began) / 1_000)
    assert best < 50e-6
