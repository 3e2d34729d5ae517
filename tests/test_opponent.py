"""The frozen earlier self: how old it gets, what a checkpoint keeps of it, and how it scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from learners.opponent import Opponent, scored
from learners.passes import Passes
from learners.step import OptimizerStep
from tests.helpers import make_engine
from tests.test_policy_gradient import say


def test_the_opponent_is_taken_anew(tmp_path: Path) -> None:
    engine = make_engine()
    opponent = Opponent(engine, 2, Passes(engine))
    said = say(engine, ["a", "b"], 1)
    seen = []
    for step in range(5):
        with torch.no_grad():
            next(engine.model.parameters()).add_(0.01)
            before = opponent.engine.logprobs(said)[0]
        opponent.tick()
        with torch.no_grad():
            seen.append(torch.equal(opponent.engine.logprobs(said)[0], before))
            assert torch.equal(opponent.engine.logprobs(said)[0], engine.logprobs(said)[0]) == bool(step % 2)
    assert seen == [True, False, True, False, True] and opponent.age == 1
    opponent.save(tmp_path)
    other = make_engine(seed=9)
    resumed = Opponent(other, 2, Passes(other))
    untouched = [p.detach().clone() for p in other.model.parameters()]
    resumed.load(tmp_path)
    pairs = zip(resumed.engine.model.parameters(), opponent.engine.model.parameters(), strict=True)
    assert resumed.age == 1 and all(torch.equal(p, q) for p, q in pairs)
    assert all(torch.equal(p, q) for p, q in zip(untouched, other.model.parameters(), strict=True))
    assert not any(p.requires_grad for p in resumed.engine.model.parameters())
    with pytest.raises(ValueError, match=r"learner\.refresh=0"):
        Opponent(engine, 0, Passes(engine))


def test_it_shares_prompts_as_the_live_one_does() -> None:
    """A copy is scored by the very same arithmetic, so it differs by nothing; what cannot share is left alone."""
    engine, windowed = make_engine(), make_engine("mistral")
    for share in (True, False, "auto"):
        passes = Passes(engine, share=share)
        assert Opponent(engine, 1, passes).passes.share == share
        assert passes.alike(windowed).share == ("auto" if share is True else share)


def test_scores_come_in_the_order_of_the_words() -> None:
    """Batches are made by length, and a budget of 16 positions makes several."""
    engine = make_engine()
    said = say(engine, ["a", "a longer one", "b", "and another one"], 1)
    step = OptimizerStep(engine, lr=0.0, batch_tokens=16)
    with torch.no_grad():
        for completion, logp_T in zip(said, scored(step, step.passes, said), strict=True):
            assert torch.allclose(logp_T, engine.logprobs([completion])[0][0], atol=1e-5)


def test_the_sampler_lends_its_memory_before_anything_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass measures how much fits: beside a sampler that keeps its memory that would be too little, for the
    whole run."""
    engine = make_engine()
    step, told = OptimizerStep(engine, lr=0.0), list[str]()
    monkeypatch.setattr(engine, "sleep", lambda: told.append("sleep"))
    monkeypatch.setattr(step, "_measured", lambda longest: told.append("measured") or 64)
    scored(step, step.passes, say(engine, ["a"], 1))
    assert told == ["sleep", "measured"]
