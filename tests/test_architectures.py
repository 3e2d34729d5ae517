"""The engine over many architectures: sampled = teacher-forced, batched = solo, joined = in one batch, whatever the
model's attention, heads, positions and ties are."""

from __future__ import annotations

import random

import pytest
import torch

from models import native
from models.engine import Engine
from tests.architectures import CONFIGS, build

TOLERANCE = 1e-4


def chats(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Prompts of 3 to 24 words, some of them equal."""
    draw = random.Random(seed)
    lengths = [draw.choice((1, 5, 22)) for _ in range(count)]
    return [{"user": " ".join(f"w{draw.randrange(80)}" for _ in range(length))} for length in lengths] * 2


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def engine(request: pytest.FixtureRequest) -> Engine:
    model, tokenizer = build(request.param)
    return Engine(model, tokenizer, name=request.param)


def sample(engine: Engine, asked: list[dict[str, str]], **options: float):
    settings = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 40, **options}
    return engine.generate(asked, seeds=range(len(asked)), **settings)


@pytest.mark.usefixtures("kernels")
def test_sampled_is_teacher_forced(engine: Engine) -> None:
    """The promise of ``Completion.logprobs``, past the end of the sliding windows."""
    said = sample(engine, chats(12))
    with torch.no_grad():
        logprobs_BT, mask_BT = engine.logprobs(said)
    assert len({len(completion.token_ids) for completion in said}) > 3, "the rows end at different times"
    for completion, logprobs_T, mask_T in zip(said, logprobs_BT, mask_BT, strict=True):
        assert logprobs_T[mask_T].tolist() == pytest.approx(completion.logprobs, abs=TOLERANCE)


def test_batched_is_solo(engine: Engine) -> None:
    asked = chats(6)
    together = sample(engine, asked)
    for row, chat in enumerate(asked):
        alone = engine.generate([chat], seeds=[row], temperature=1.0, top_p=1.0, max_tokens=40)[0]
        assert alone.token_ids == together[row].token_ids
        assert alone.logprobs == pytest.approx(together[row].logprobs, abs=TOLERANCE)


def test_kernels_say_what_torch_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = chats(6)
    compiled = sample(engine, asked)
    monkeypatch.setattr(native, "compiled", lambda: None)
    for one, other in zip(compiled, sample(engine, asked), strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)


def test_rows_that_join_later_say_the_same(engine: Engine) -> None:
    """A budget for a few rows at a time: the others wait, and join those that are still speaking."""
    asked = chats(12)
    expected = sample(engine, asked)
    engine._sampler.batch_tokens = 7 * 64
    try:
        joined = sample(engine, asked)
    finally:
        engine._sampler.batch_tokens = 65_536
    for one, other in zip(joined, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)


def test_bfloat16_decodes_close_to_its_own_scores(engine: Engine) -> None:
    """Rounding alone parts the two: far less than one wrong position or mask would."""
    low = Engine(engine.model, engine.tokenizer, name="low", dtype=torch.bfloat16)
    said = sample(low, chats(12))
    with torch.no_grad():
        logprobs_BT, mask_BT = low.logprobs(said)
    gaps = [
        abs(a - b)
        for completion, logprobs_T, mask_T in zip(said, logprobs_BT, mask_BT, strict=True)
        for a, b in zip(completion.logprobs, logprobs_T[mask_T].tolist(), strict=True)
    ]
    assert sum(gaps) / len(gaps) < 0.08
