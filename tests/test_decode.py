"""What makes decoding fast changes no answer: shared beginnings, fixed shapes, batches that are cut, our kernel."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaConfig, PreTrainedModel

from models import sampler as sampler_module
from models.attention import one_query
from models.cache import CHUNK, GrowingLayer, whole
from models.decode import decode
from models.engine import Engine
from models.graphs import LOOK, ROWS, Graphs
from models.memory import LEAST, MOST, batch_tokens, free_memory
from models.prefill import prefill
from models.prefixes import MIN_PREFIX, Prefixes, common, shared
from models.speech import Sampling
from tests.architectures import build

RULES = " ".join(f"w{n % 80}" for n in range(60))


@pytest.fixture
def engine() -> Engine:
    model, tokenizer = build("llama")
    return Engine(model, tokenizer, name="llama")


@pytest.fixture
def prompts_read(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> list[int]:
    """The positions of every forward pass over more than one token a row."""
    read: list[int] = []
    inner = engine.model.forward

    def forward(**inputs):
        if inputs["input_ids"].shape[1] > 1:
            read.append(inputs["input_ids"].numel())
        return inner(**inputs)

    monkeypatch.setattr(engine.model, "forward", forward)
    return read


def sample(engine: Engine, users: list[str], system: str = "", temperature: float = 1.0, max_tokens: int = 24):
    asked = [{"system": system, "user": user} for user in users]
    return engine.generate(asked, seeds=range(len(asked)), temperature=temperature, top_p=1.0, max_tokens=max_tokens)


def assert_same(one, other, tolerance: float = 1e-4) -> None:
    assert [completion.token_ids for completion in one] == [completion.token_ids for completion in other]
    for a, b in zip(one, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=tolerance)


# -- shared beginnings -----------------------------------------------------------------------------------------------


def test_a_long_beginning_is_read_once(engine: Engine, prompts_read: list[int]) -> None:
    """Eight prompts of 60 + a few tokens: the 60 are read once, then a few tokens a row."""
    users = [f"{RULES} w{n} w{n + 1}" for n in range(8)]
    shared_once = sample(engine, users)
    assert sum(prompts_read) < 60 + 8 * 8
    prompts_read.clear()
    plain = Engine(engine.model, engine.tokenizer, name="plain", prefix_mib=0)
    assert_same(sample(plain, users), shared_once)
    assert sum(prompts_read) > 8 * 60


def test_a_dialogue_that_grows_is_read_from_where_it_grew(engine: Engine, prompts_read: list[int]) -> None:
    """The second turn's prompts begin with the first turn's, of different lengths, and one is new."""
    first = [f"{RULES} " + "w5 " * n + "w1" for n in range(1, 5)]
    sample(engine, first)
    prompts_read.clear()
    second = [f"{user} w2 w3 w4" for user in first] + ["w9 w8 w7"]
    grown = sample(engine, second)
    assert sum(prompts_read) < 5 * 12
    plain = Engine(engine.model, engine.tokenizer, name="plain", prefix_mib=0)
    assert_same(sample(plain, second), grown)


@pytest.mark.parametrize("how", ["touched", "begin_step"])
def test_what_was_read_is_forgotten(engine: Engine, prompts_read: list[int], how: str) -> None:
    """New weights make it wrong; a new step must not depend on what an unbroken run happens to remember."""
    sample(engine, [RULES])
    getattr(engine, how)()
    prompts_read.clear()
    sample(engine, [RULES])
    assert sum(prompts_read) >= 60


def test_new_weights_are_seen_behind_a_kept_beginning(engine: Engine) -> None:
    users = [f"{RULES} w{n}" for n in range(4)]
    sample(engine, users)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.mul_(1.05)
    engine.touched()
    plain = Engine(engine.model, engine.tokenizer, name="plain", prefix_mib=0)
    assert_same(sample(engine, users), sample(plain, users))


def test_a_frozen_copy_remembers_nothing_between_calls(engine: Engine) -> None:
    frozen = engine.snapshot()
    sample(frozen, [RULES])
    assert frozen._sampler._prefixes is not None
    sample(frozen, ["w1 w2"])
    assert not frozen._sampler._prefixes._entries


def test_prompts_beyond_the_limit_push_the_oldest_out(engine: Engine) -> None:
    ids = engine._chats([{"user": f"w{n} {RULES}"} for n in range(6)])
    room = Prefixes(1 << 62)
    with torch.inference_mode():
        prefill(engine.model, [ids[0]], 0, room)
        limited = Prefixes(2 * room._bytes)
        for prompt in ids:
            prefill(engine.model, [prompt], 0, limited)
    assert limited.find((*ids[5], 7)) and limited.find((*ids[4], 7))
    assert limited.find((*ids[0], 7)) is None
    assert limited._bytes <= limited.limit


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), max_size=60))
def test_what_two_prompts_have_in_common(one: list[int], other: list[int]) -> None:
    count = common(tuple(one), tuple(other))
    assert one[:count] == other[:count]
    assert count == min(len(one), len(other)) or one[count] != other[count]


def test_beginnings_that_are_shared() -> None:
    """Two personas of two prompts each share theirs; a lonely prompt, and a short beginning, share nothing."""
    a, b = tuple(range(50)), tuple(range(100, 140))
    prompts = [(*a, 1), (*a, 2), (*b, 1), (*b, 2, 2), (7, 7, 7), (8, *range(40))]
    assert sorted(shared(prompts)) == [a, b]
    assert shared([(*range(MIN_PREFIX - 1), 1), (*range(MIN_PREFIX - 1), 2)]) == []


# -- fixed shapes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt-neox"])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_steps_of_fixed_shape_say_the_same(name: str, temperature: float) -> None:
    """What a CUDA graph records, run operation by operation: padded rows and columns, rows that finish and join."""
    model, _ = build(name)
    generator = torch.Generator().manual_seed(0)
    prompts = [
        tuple(torch.randint(4, 90, (int(n),), generator=generator).tolist())
        for n in torch.randint(2, 20, (21,), generator=generator)
    ]
    prompts.sort(key=len)
    sampling = Sampling(temperature, 1.0, 3 * LOOK, frozenset((1, 5, 6, 7)))
    plain = decode(model, prompts, range(21), sampling, pad_id=0, budget=65_536)
    for budget in (65_536, 9 * 70):
        fixed = decode(model, prompts, range(21), sampling, pad_id=0, budget=budget, graphs=Graphs(record=False))
        assert [row.token_ids for row in fixed] == [row.token_ids for row in plain]
        for a, b in zip(fixed, plain, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert len({len(row.token_ids) for row in plain}) > 3 or temperature == 0


def test_a_shape_is_set_up_once(engine: Engine) -> None:
    graphs, sampling = Graphs(record=False), Sampling(1.0, 1.0, 8, frozenset((1,)))
    for count in (5, 6, 8):
        decode(engine.model, [(4, 5, 6)] * count, range(count), sampling, pad_id=0, budget=4_096, graphs=graphs)
    assert len(graphs._steps) == 1, f"5, 6 and 8 rows are all {ROWS[3]}"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records CUDA graphs")
def test_recorded_steps_say_the_same_on_a_gpu() -> None:
    model, tokenizer = build("llama")
    users = [f"w{n} w{n + 1}" for n in range(20)]
    on_cpu = Engine(model, tokenizer, name="cpu")
    expected = sample(on_cpu, users, temperature=0.0)
    on_gpu = Engine(model.to("cuda"), tokenizer, name="gpu")
    assert_same(sample(on_gpu, users, temperature=0.0), expected, tolerance=1e-2)
    assert_same(sample(on_gpu, users, temperature=0.0), expected, tolerance=1e-2)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_cut(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory for four rows at a time: nothing is lost, and later calls start with the smaller batch."""
    users = [f"w{n} w{n + 2}" for n in range(16)]
    expected = sample(engine, users)
    inner = sampler_module.decode

    def tight(model: PreTrainedModel, prompts, *args, budget: int, **options):
        if budget > 4 * 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return inner(model, prompts, *args, budget=budget, **options)

    monkeypatch.setattr(sampler_module, "decode", tight)
    with caplog.at_level(logging.WARNING):
        assert_same(sample(engine, users), expected)
    assert "out of memory" in caplog.text
    assert engine.batch_tokens <= 4 * 32


def test_a_row_that_does_not_fit_is_an_error(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sampler_module, "decode", never)
    with pytest.raises(torch.OutOfMemoryError):
        sample(engine, ["w1"])


def test_other_errors_are_not_taken_for_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args, **options):
        raise RuntimeError("expected scalar type Float but found Half")

    monkeypatch.setattr(sampler_module, "decode", broken)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        sample(engine, ["w1"])


def test_positions_that_fit() -> None:
    """A 16-layer model of 8 key heads of 64: 32 KiB of keys and values a position in bfloat16, twice; 128,256 logits
    cost 6 x 4 x 128,256 / 64 = 48,096 bytes and activations 8 x 2,048 x 2 = 32,768: 146,400 bytes a position.
    0.4 x 24 GiB / 146,400 = 70,409 positions, rounded down to a power of two."""
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=2_048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8
    )
    assert batch_tokens(config, 2, 24 << 30) == 65_536
    assert batch_tokens(config, 2, 0) == LEAST
    assert batch_tokens(config, 2, 1 << 60) == MOST
    assert 0 < free_memory(torch.device("cpu")) < 1 << 50


# -- the kernel for one query, and the cache -------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("masked", ["no", "boolean", "additive"])
def test_one_query_is_attention(heads: tuple[int, int], masked: str) -> None:
    """Over a cache that has grown, so that its buffer is longer than what is filled."""
    generator = torch.Generator().manual_seed(0)
    layer = GrowingLayer()
    states = torch.randn(2, 3, heads[1], 41, 8, generator=generator)
    layer.update(states[0, :, :, :5], states[1, :, :, :5])
    layer.batch_select_indices(torch.arange(3))
    for column in range(5, 41):
        key, value = layer.update(states[0, :, :, column : column + 1], states[1, :, :, column : column + 1])
    assert whole(key).shape[2] == 2 * CHUNK
    query = torch.randn(3, heads[0], 1, 8, generator=generator)
    allowed = torch.rand(3, 1, 1, 41, generator=generator) < 0.7
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    mask = {"no": None, "boolean": allowed, "additive": additive}[masked]
    expected = F.scaled_dot_product_attention(query, states[0], states[1], mask, scale=0.3, enable_gqa=True)
    found = one_query(query, key, value, mask, 0.3)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-5)


def test_keys_from_elsewhere_are_taken_as_they_are() -> None:
    """A view that only looks like the filled part of a buffer must not be read beyond its end."""
    plain = torch.randn(2, 3, 20, 8)
    assert whole(plain) is plain
    assert whole(plain.transpose(0, 1)).shape == (3, 2, 20, 8)
    cut = torch.randn(2, 3, CHUNK, 8)[:, :, :20]
    assert whole(cut).shape == (2, 3, CHUNK, 8)
    assert whole(cut[1:]).shape == (1, 3, 20, 8)


def test_a_finished_row_stays_inside_the_context() -> None:
    """Positions are looked up in a table that ends: a row that has filled it waits for the others, and asks no more."""
    model, tokenizer = build("gpt2")
    engine = Engine(model, tokenizer, name="gpt2", batch_tokens=4 * 256)
    room = engine._context
    assert room == 256
    long = {"user": " ".join(f"w{n % 80}" for n in range(room - 30))}
    asked = [long, long, {"user": "w1"}, {"user": "w2"}, {"user": "w3 w4"}, {"user": "w5"}]
    said = engine.generate(asked, seeds=range(6), temperature=1.0, top_p=1.0, max_tokens=25)
    assert all(1 <= len(completion.token_ids) <= 25 for completion in said)
