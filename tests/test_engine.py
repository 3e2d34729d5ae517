"""The engine's promises, on real transformers models of four families with random weights."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents.llm import LLM
from models.engine import Engine
from selfplay.testing import check_agent
from selfplay.types import Completion
from tests.helpers import STYLES, chat, make_engine, shared_engine

FAMILIES = [("llama", True), ("llama", False), ("qwen2", True), ("qwen2", False), ("mistral", True), ("gemma3", True)]
"""Tied and untied embeddings, grouped queries throughout, and two families that see a window of 8 tokens only."""

CHATS = [chat(text) for text in ("Hi", "A rather longer question than the first?", "", "Hi", "é漢\x00", "x" * 40)]
SEEDS = [11, 12, 13, 14, 15, 16]


def sample(engine: Engine, **changes: object) -> list[Completion]:
    options = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "seeds": SEEDS, **changes}
    return engine.generate(CHATS, **options)  # type: ignore[arg-type]


def gap(engine: Engine, completions: list[Completion]) -> float:
    """The largest difference between the sampled and the recomputed log-probabilities."""
    with torch.no_grad():
        again_BT, mask_BT = engine.logprobs(completions)
    assert mask_BT.sum(-1).tolist() == [len(c.token_ids) for c in completions]
    assert not again_BT[~mask_BT].any(), "0 where there is no token"
    return max(
        abs(a - b)
        for c, row in zip(completions, again_BT.tolist(), strict=True)
        for a, b in zip(c.logprobs, row, strict=False)  # the row is padded
    )


# -- the log-probability promise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "tied"), FAMILIES)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_sampled_and_recomputed_agree(style: str, tied: bool, temperature: float, top_p: float) -> None:
    """At temperature 1 whatever the sampler's was, in fp32, to 1e-4; prompts of unequal length in one batch."""
    engine = shared_engine(style, tied)
    completions = sample(engine, temperature=temperature, top_p=top_p)
    assert gap(engine, completions) < 1e-4
    assert min(min(c.logprobs) for c in completions) < -0.01, "a model that is sure of everything shows nothing"
    for completion, alone in zip(completions, completions, strict=True):
        assert gap(engine, [alone]) < 1e-4, "padding is nothing"
        assert len(completion.logprobs) == len(completion.token_ids) <= 16


def test_logprobs_are_those_of_the_plain_model() -> None:
    """Against one unpadded forward pass of the untouched transformers model."""
    engine = shared_engine("qwen2")
    for completion in sample(engine):
        ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            table = engine.model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(completion.prompt_ids) - 1
        plain = [table[start + t, token].item() for t, token in enumerate(completion.token_ids)]
        assert list(completion.logprobs) == pytest.approx(plain, abs=1e-4)


def test_logprobs_have_a_gradient() -> None:
    engine = make_engine()
    logp_BT, mask_BT = engine.logprobs(sample(engine))
    logp_BT.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in engine.model.parameters())
    assert mask_BT.dtype == torch.bool


# -- generation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "tied"), FAMILIES)
def test_greedy_is_transformers_generate(style: str, tied: bool) -> None:
    engine = shared_engine(style, tied)
    for told, completion in zip(CHATS, sample(engine, temperature=0.0), strict=True):
        ids = torch.tensor([engine.encode(told, "").prompt_ids])
        out = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, pad_token_id=0
        )
        assert list(completion.token_ids) == out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("style", STYLES)
def test_a_row_does_not_see_its_batch(style: str) -> None:
    """Batched, alone, in another order and in small batches: the same tokens for the same (chat, seed)."""
    engine = shared_engine(style)
    together = [c.token_ids for c in sample(engine)]
    options = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16}
    alone = [engine.generate([c], seeds=[s], **options)[0] for c, s in zip(CHATS, SEEDS, strict=True)]  # type: ignore
    assert [c.token_ids for c in alone] == together
    order = random.Random(1).sample(range(len(CHATS)), len(CHATS))
    turned = engine.generate([CHATS[i] for i in order], seeds=[SEEDS[i] for i in order], **options)  # type: ignore
    assert [c.token_ids for c in turned] == [together[i] for i in order]
    small = Engine(engine.model, engine.tokenizer, name="small", batch_tokens=130)
    assert [c.token_ids for c in sample(small)] == together
    assert together[0] != together[3], "equal chats with other seeds say other things"


def test_shares_of_tokens() -> None:
    """4,000 first tokens of one prompt, prefilled once, have the model's own distribution, tempered and cut."""
    engine = shared_engine("llama")
    prompt = engine.encode(chat("Hi"), "").prompt_ids
    with torch.no_grad():
        logits = engine.model(input_ids=torch.tensor([prompt])).logits[0, -1]
    for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (2.0, 0.6)):
        expected = (logits / temperature).softmax(-1)
        if top_p < 1:
            ordered, index = expected.sort(descending=True)
            kept = int((ordered.cumsum(0) < top_p).sum()) + 1
            expected = torch.zeros_like(expected).scatter(0, index[:kept], ordered[:kept])
            expected /= expected.sum()
        said = engine.generate(
            [chat("Hi")] * 4000, temperature=temperature, top_p=top_p, max_tokens=1, seeds=list(range(4000))
        )
        counts = torch.bincount(torch.tensor([c.token_ids[0] for c in said]), minlength=len(expected))
        assert not counts[expected == 0].any()
        deviation = (expected * (1 - expected) / 4000).sqrt() + 1e-3
        assert ((counts / 4000 - expected).abs() / deviation).max() < 5


def test_stops() -> None:
    """A stop id ends a row, is part of its tokens and not of its text; the rest of the batch goes on."""
    engine = make_engine("qwen2")
    free = sample(engine)
    end = engine.tokenizer.eos_token_id
    for completion in free:
        stopped = completion.token_ids[-1] == end
        assert completion.finish == ("stop" if stopped else "length") and end not in completion.token_ids[:-1]
        assert len(completion.token_ids) == 16 or stopped
    middle = free[1].token_ids[5]
    engine.model.generation_config.eos_token_id = [end, middle]
    halted = sample(Engine(engine.model, engine.tokenizer, name="halting"))
    for before, after in zip(free, halted, strict=True):
        cut = before.token_ids.index(middle) + 1 if middle in before.token_ids else len(before.token_ids)
        assert after.token_ids == before.token_ids[:cut]
        assert list(after.logprobs) == pytest.approx(before.logprobs[:cut], abs=1e-4)
        assert (after.finish == "stop") == (after.token_ids[-1] in (end, middle))
    assert min(len(c.token_ids) for c in halted) < max(len(c.token_ids) for c in halted)


def test_one_token_and_no_chat() -> None:
    assert all(len(c.token_ids) == 1 for c in sample(shared_engine(), max_tokens=1))
    assert shared_engine().generate([], temperature=1.0, top_p=1.0, max_tokens=4, seeds=[]) == []


def test_finished_rows_leave_the_batch() -> None:
    """The model is shown fewer rows as rows finish (seen by a hook on its own forward pass)."""
    engine = make_engine("qwen2")
    said = sample(engine, temperature=0.0)
    first = [completion.token_ids[0] for completion in said]
    goes_on = max(range(len(first)), key=lambda i: first.count(first[i]) == 1)
    stops = [token for token in first if token != first[goes_on]]
    assert first.count(first[goes_on]) == 1 and len(set(stops)) > 1
    engine.model.generation_config.eos_token_id = stops
    halting = Engine(engine.model, engine.tokenizer, name="halting")
    rows: list[int] = []
    engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    halted = sample(halting, temperature=0.0)
    lengths = [len(completion.token_ids) for completion in halted]
    assert sum(lengths) - lengths[goes_on] == 5 and lengths[goes_on] > 1, "all but one stop at once"
    assert rows == [5] + [1] * (lengths[goes_on] - 1), "two of six chats are equal: five prompts, then one row"


# -- context -----------------------------------------------------------------------------------------------------------


def test_a_prompt_without_room() -> None:
    engine = shared_engine()
    long = chat("x" * 600)
    assert engine.fits([chat("x"), long], 8) == [True, False]
    with pytest.raises(ValueError, match="exceed the context of 512 tokens of 'tiny llama': ask `fits` first"):
        engine.generate([long], temperature=1.0, top_p=1.0, max_tokens=8, seeds=[0])
    said = LLM(engine, max_tokens=8).act([chat("x"), long, chat("y")], [1, 2, 3])
    assert said[1].move == "" and said[1].completion is None, "silence forfeits and nobody trains on it"
    assert said[0].completion is not None and said[2].completion is not None
    room = 512 - len(engine.encode(chat("x"), "").prompt_ids)
    assert engine.fits([chat("x")] * 2, room) == [True, True] and engine.fits([chat("x")], room + 1) == [False]


def test_the_model_in_a_seat_keeps_the_contract() -> None:
    check_agent(LLM(shared_engine(), max_tokens=6))
    check_agent(LLM(shared_engine("mistral"), temperature=0.5, max_tokens=6, trained=False))
    (silent,) = LLM(shared_engine(), max_tokens=4, trained=False).act([chat("x")], [1])
    assert silent.completion is None
    for bad in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="agent: temperature="):
            LLM(shared_engine(), **bad)


# -- copies, files, precision ------------------------------------------------------------------------------------------


def test_a_snapshot_is_frozen_and_stays() -> None:
    engine = make_engine()
    frozen = engine.snapshot()
    before = sample(frozen)
    assert not any(p.requires_grad for p in frozen.model.parameters()) and frozen.version == engine.version
    nudge(engine)
    assert sample(frozen) == before
    assert sample(engine) != before and engine.version == frozen.version + 1
    assert all(p.requires_grad for p in engine.model.parameters())


def nudge(engine: Engine) -> None:
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.mul_(1.05)
    engine.touched()


@pytest.mark.parametrize(("style", "tied"), FAMILIES)
def test_saved_and_loaded_by_plain_transformers(style: str, tied: bool, tmp_path: Path) -> None:
    engine = make_engine(style, tied=tied)
    nudge(engine)
    engine.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert tokenizer.chat_template == engine.tokenizer.chat_template
    ours, theirs = engine.model.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = make_engine(style, tied=tied)
    version = other.version
    other.load(tmp_path)
    assert sample(other) == sample(engine) and other.version == version + 1


def test_the_low_precision_sampler_follows_its_masters() -> None:
    engine = make_engine(dtype=torch.bfloat16)
    first = sample(engine)
    decoder = engine._sampler.model(engine.version)
    assert {p.dtype for p in decoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in engine.model.parameters()} == {torch.float32}, "the masters stay"
    nudge(engine)
    second = sample(engine)
    assert engine._sampler.model(engine.version) is decoder, "the same copy, brought up to date"
    for copied, master in zip(decoder.parameters(), engine.model.parameters(), strict=True):
        assert torch.equal(copied, master.to(torch.bfloat16))
    assert first != second


@pytest.mark.parametrize("style", STYLES)
def test_the_low_precision_sampler_keeps_exact_positions(style: str) -> None:
    """Rotary frequencies rounded to 8 bits would turn position 400 by more than a radian."""
    engine = make_engine(style, dtype=torch.bfloat16)
    decoder = engine._sampler.model(engine.version)
    exact = dict(engine.model.named_buffers())
    assert exact and all(torch.equal(buffer, exact[name]) for name, buffer in decoder.named_buffers())
    assert all(buffer.dtype == exact[name].dtype for name, buffer in decoder.named_buffers())
