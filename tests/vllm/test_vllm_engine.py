"""What an engine promises, kept by vLLM: log-probabilities of the trainer's weights, seeds, stops, deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.engine import Engine
from models.vllm_engine import VllmEngine
from models.vllm_options import VllmError
from selfplay.deadline import DeadlinePassed, deadline
from selfplay.testing import check_agent
from tests.helpers import chat
from tests.vllm.small import CHATS, MODELS, SEEDS, gap, open_engine, sample, step


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: f"{model[0]}-{'tied' if model[1] else 'untied'}")
def engine(request: pytest.FixtureRequest) -> Iterator[VllmEngine]:
    opened = open_engine(*request.param)
    yield opened
    opened.close()


GREEDY = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 16, "seeds": SEEDS}


def plain(engine: VllmEngine) -> Engine:
    """The same live weights, without vLLM."""
    return Engine(engine.model, engine.tokenizer, name="plain", dtype=engine.dtype)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_sampled_logprobs_are_the_trainers_at_temperature_1(
    engine: VllmEngine, temperature: float, top_p: float
) -> None:
    said = sample(engine, temperature=temperature, top_p=top_p)
    assert gap(engine, said) < 1e-4
    assert min(min(completion.logprobs) for completion in said) < -0.5, "a model that is sure shows nothing"
    assert all(len(completion.logprobs) == len(completion.token_ids) <= 16 for completion in said)


def test_greedy_words_are_those_of_the_plain_engine(engine: VllmEngine) -> None:
    ours, theirs = sample(engine, temperature=0.0), plain(engine).generate(CHATS, **GREEDY)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.token_ids, a.text, a.prompt_ids, a.finish) == (b.token_ids, b.text, b.prompt_ids, b.finish)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)


def test_seeds(engine: VllmEngine) -> None:
    """Equal seeds give equal words, in whatever company; other seeds give others."""
    said = sample(engine)
    again = sample(engine)
    assert [one.token_ids for one in said] == [one.token_ids for one in again]
    alone = engine.generate([CHATS[4]], temperature=1.0, top_p=1.0, max_tokens=16, seeds=[SEEDS[4]])
    assert alone[0].token_ids == said[4].token_ids
    assert said[0].prompt_ids == said[3].prompt_ids and said[0].token_ids != said[3].token_ids
    other = sample(engine, seeds=[seed + 1 for seed in SEEDS])
    assert [one.token_ids for one in other] != [one.token_ids for one in said]


def test_many_prompts_at_once(engine: VllmEngine) -> None:
    """More prompt tokens than vLLM reads in one step: no prompt may be cut in two, for a CPU's generator cannot take
    back the number that vLLM draws for the first half."""
    crowd = [chat(f"{number} * 7 = ? " * 12) for number in range(100)]
    said = engine.generate(crowd, temperature=1.0, top_p=1.0, max_tokens=2, seeds=range(len(crowd)))
    assert sum(len(one.prompt_ids) for one in said) > 8192
    alone = engine.generate(crowd[70:71], temperature=1.0, top_p=1.0, max_tokens=2, seeds=[70])
    assert alone[0].token_ids == said[70].token_ids


def test_a_real_update_arrives(engine: VllmEngine) -> None:
    """After a step that changes the words, and after one so small (lr 1e-6) that rounding in bfloat16 would hide it."""
    before = sample(engine, temperature=0.0)
    step(engine, lr=1e-2)
    after = sample(engine, temperature=0.0)
    assert [one.token_ids for one in after] != [one.token_ids for one in before]
    assert [one.token_ids for one in after] == [one.token_ids for one in plain(engine).generate(CHATS, **GREEDY)]
    assert gap(engine, after) < 1e-3 and gap(engine, sample(engine)) < 1e-3
    step(engine, lr=1e-6)
    assert gap(engine, sample(engine)) < 1e-3
    metrics = engine.metrics()
    assert 0 < metrics["probe_gap_mean"] <= metrics["probe_gap_max"] < 1e-3
    assert metrics["weights_compared"] == 1.0, "every tensor of vLLM's model has its counterpart"


def test_choices_are_those_of_the_plain_engine(engine: VllmEngine) -> None:
    ours, theirs = engine.choices(CHATS, ["a", "b", "7"]), plain(engine).choices(CHATS, ["a", "b", "7"])
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, abs=1e-3)


def test_a_stop_id_ends_a_row(engine: VllmEngine) -> None:
    free = sample(engine)
    middle = free[1].token_ids[5]
    kept, engine._stop_ids = engine._stop_ids, engine._stop_ids | {middle}
    try:
        halted = sample(engine)
    finally:
        engine._stop_ids = kept
    for before, after in zip(free, halted, strict=True):
        cut = before.token_ids.index(middle) + 1 if middle in before.token_ids else len(before.token_ids)
        assert after.token_ids == before.token_ids[:cut]
        assert (after.finish == "stop") == (after.token_ids[-1] in kept | {middle})
    assert halted[1].finish == "stop" and len(halted[1].token_ids) <= 6


def test_a_deadline_ends_a_call_and_leaves_nothing_behind(engine: VllmEngine) -> None:
    said = sample(engine)
    with deadline(0.0), pytest.raises(DeadlinePassed):
        sample(engine)
    assert not engine.vllm._llm.llm_engine.has_unfinished_requests()
    assert sample(engine) == said


def test_room(engine: VllmEngine) -> None:
    """``max_model_len`` is the context, although the model itself has more."""
    long = chat("x" * 250)
    assert engine.fits([chat("x"), long], 8) == [True, False]
    with pytest.raises(ValueError, match="exceed the context of 256 tokens"):
        engine.generate([long], temperature=1.0, top_p=1.0, max_tokens=8, seeds=[0])
    assert engine.generate([], temperature=1.0, top_p=1.0, max_tokens=8, seeds=[]) == []


def test_gradients_and_threads_stay_the_trainers(engine: VllmEngine) -> None:
    said = sample(engine)
    logp_BT, mask_BT = engine.logprobs(said)
    logp_BT[mask_BT].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in engine.model.parameters())
    engine.model.zero_grad(set_to_none=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1, "vLLM replaces this function on a CPU"
    torch.set_num_threads(threads)


def test_a_snapshot_is_a_plain_engine(engine: VllmEngine) -> None:
    frozen = engine.snapshot()
    assert type(frozen) is Engine and not any(p.requires_grad for p in frozen.model.parameters())
    before = frozen.generate(CHATS, **GREEDY)
    step(engine, lr=1e-2)
    assert frozen.generate(CHATS, **GREEDY) == before


def test_saved_weights_come_back(engine: VllmEngine, tmp_path: Path) -> None:
    """As a checkpoint is resumed: the folder's weights are in vLLM at the next word."""
    said = sample(engine, temperature=0.0)
    engine.save(tmp_path)
    step(engine, lr=1e-2)
    assert sample(engine, temperature=0.0) != said
    engine.load(tmp_path)
    assert [one.token_ids for one in sample(engine, temperature=0.0)] == [one.token_ids for one in said]


def test_in_a_seat(engine: VllmEngine) -> None:
    from agents.llm import LLM

    check_agent(LLM(engine, max_tokens=6))


def test_one_at_a_time(engine: VllmEngine) -> None:
    with pytest.raises(VllmError, match="one vLLM model at a time in a process"):
        open_engine("llama", True)
    assert sample(engine)
