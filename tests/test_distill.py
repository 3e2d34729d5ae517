"""Distillation: the gradient of each method against one that is written down again here, and the contract."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from pathlib import Path

import pytest
import torch

from learners.distill import Distill
from learners.divergences import generalised_jsd, reverse_kl
from learners.transfer_set import Lesson
from selfplay.testing import check_learner
from selfplay.types import Action, Completion, Episode, Turn
from tests.distilling import LESSONS, METHODS, QUESTIONS, games, make, own, slope, tables, teacher
from tests.helpers import chat, make_engine, shared_engine
from tests.test_policy_gradient import assert_close, gradient, say


def test_sequence_is_the_mean_cross_entropy_of_the_teachers_tokens() -> None:
    """Four games, two of which are the same: their words weigh twice. All tokens weigh alike, the prompt's nothing."""
    engine = make_engine()
    rows = [engine.encode(chat(q), text) for q, text in zip(QUESTIONS, LESSONS, strict=True)]
    losses = [-tables(engine, c).log_softmax(-1).gather(1, torch.tensor(c.token_ids)[:, None]).sum() for c in rows]
    expected = sum(losses) / sum(len(c.token_ids) for c in rows)
    wanted = slope(engine, expected)
    for options in ({}, {"batch_tokens": 16}, {"share_prompts": False}, {"gradient_checkpointing": True}):
        found, metrics = gradient(
            make("sequence", engine, lr=0.0, max_grad_norm=math.inf, **options), games([None] * 4)
        )
        assert_close(found, wanted, 1e-5)
        assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-5) and metrics["distill/own"] == 0


def test_a_teacher_in_the_seat_says_the_same_as_a_slot() -> None:
    engine = make_engine()
    learner = Distill(engine, method="sequence", lr=0.0)
    seated, _ = gradient(learner, games([None] * 4))
    slot, _ = gradient(make("sequence", engine, lr=0.0), own(engine))
    assert_close(seated, slot, 1e-6)


def test_words_of_another_tokenizer_are_encoded_anew() -> None:
    """The teacher's control tokens, spelled by it, are letters to the student."""
    engine, other = make_engine(), shared_engine("qwen2")
    words = [c.text + "<|eot_id|>" for c in say(other, QUESTIONS, 3)]
    learner = Distill(engine, lr=1e-3)
    lessons, metrics = learner.transfer(games([None] * 4, moves=words), 0)
    assert metrics["distill/kept"] == 1
    for lesson in lessons:
        assert lesson.said.token_ids[-1] == engine.tokenizer.eos_token_id
        assert lesson.said.token_ids.count(engine.tokenizer.eos_token_id) == 1
    assert learner.update(games([None] * 4, moves=words))["steps_skipped"] == 0


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("heat", [(1.0, 1.0), (0.9, 0.5)])
def test_gkd_is_the_mean_divergence_of_whole_distributions(beta: float, heat: tuple[float, float]) -> None:
    engine, tutor = make_engine(), teacher()
    episodes = own(engine)
    rows = [e.turns[1].action.completion for e in episodes]
    parts = []
    for said in rows:
        assert said is not None
        with torch.no_grad():
            theirs = (tables(tutor, said) / heat[0] / heat[1]).log_softmax(-1)
        parts.append(generalised_jsd(theirs, (tables(engine, said) / heat[0]).log_softmax(-1), beta))
    expected = torch.cat(parts).mean()
    wanted = slope(engine, expected)
    settings = {"lmbda": 1.0, "beta": beta, "temperature": heat[0], "teacher_temperature": heat[1]}
    for options in ({}, {"batch_tokens": 16}, {"share_prompts": True}):
        learner = make("gkd", engine, tutor, lr=0.0, max_grad_norm=math.inf, **settings, **options)
        found, metrics = gradient(learner, episodes)
        assert_close(found, wanted, 5e-5)
        assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-5) and metrics["distill/own"] == 1


def test_on_policy_by_hand() -> None:
    """-(log T - log S) grad log S per sampled token, over their number."""
    engine, tutor = make_engine(), teacher()
    episodes = own(engine)
    terms, gaps, count = [], [], 0
    for episode in episodes:
        said = episode.turns[1].action.completion
        assert said is not None
        token_T = torch.tensor(said.token_ids)[:, None]
        logp_T = tables(engine, said).log_softmax(-1).gather(1, token_T)
        with torch.no_grad():
            advantage_T = tables(tutor, said).log_softmax(-1).gather(1, token_T) - logp_T
        terms.append(-(advantage_T * logp_T).sum())
        gaps.append(-advantage_T.sum())
        count += len(said.token_ids)
    wanted = slope(engine, sum(terms) / count)
    for options in ({}, {"batch_tokens": 16}):
        learner = make("on_policy", engine, tutor, lr=0.0, max_grad_norm=math.inf, **options)
        found, metrics = gradient(learner, episodes)
        assert_close(found, wanted, 1e-5)
        assert metrics["loss"] == pytest.approx(float(sum(gaps)) / count, abs=1e-5), "the estimate of KL(S || T)"
        assert metrics["sampler/gap_max"] < 1e-4


def test_the_advantage_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """log S = -1.0, log T = -.4: A = +.6, so that the loss is -.6 and its slope in log S is -.6. Equal: 0, and 0."""
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    learner = make("on_policy", make_engine(), teacher())
    said = Completion("", (1,), (2, 3), (-1.0, -2.0), "stop")
    monkeypatch.setattr(learner.step, "logprobs", lambda completions: (logp, torch.ones(1, 2, dtype=torch.bool)))
    monkeypatch.setattr("learners.distill.token_logprobs", lambda *_, **__: torch.tensor([[-0.4, -2.0]]))
    value_BT, _ = learner._reverse_kl([Lesson(said, said, 0.5)])
    assert value_BT[0].tolist() == pytest.approx([-0.6, 0.0])
    value_BT.sum().backward()
    assert logp.grad is not None and logp.grad[0].tolist() == pytest.approx([-0.6, 0.0])


def test_tokens_of_another_sampler_are_weighed() -> None:
    """The sampler was half a nat surer of every token: the weight is e^-.5 of each, and 2 the most."""
    engine, tutor = make_engine(), teacher()
    episodes = own(engine)

    def shifted(by: float) -> list[Episode]:
        moved = []
        for episode in episodes:
            said = episode.turns[1].action.completion
            assert said is not None
            moved.append(dataclasses.replace(said, logprobs=tuple(p + by for p in said.logprobs)))
        return games(moved)

    free = {"lr": 0.0, "max_grad_norm": math.inf}
    plain, _ = gradient(make("on_policy", engine, tutor, **free), episodes)
    for by, weight in ((0.5, math.exp(-0.5)), (-3.0, 2.0)):
        found, metrics = gradient(make("on_policy", engine, tutor, importance_cap=2.0, **free), shifted(by))
        assert_close(found, {name: weight * g for name, g in plain.items()}, 1e-4)
        assert metrics["sampler/importance_mean"] == pytest.approx(weight, abs=1e-4)


# -- the contract of a learner -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gkd", "on_policy"])
def test_a_teacher_that_agrees_teaches_nothing(method: str) -> None:
    engine = make_engine()
    options = {"lmbda": 1.0} if method == "gkd" else {}
    found, metrics = gradient(make(method, engine, engine.snapshot(), lr=0.0, **options), own(engine))
    assert metrics["loss"] == pytest.approx(0, abs=1e-6) and metrics["grad_norm"] < 1e-5
    assert all(float(g.abs().max()) < 1e-5 for g in found.values())


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_episodes_means_nothing(method: str) -> None:
    engine = make_engine()
    episodes = own(engine)
    shuffled = list(episodes)
    random.Random(0).shuffle(shuffled)
    learner = make(method, engine, lr=0.0)
    first, metrics = gradient(learner, episodes)
    second, same = gradient(make(method, engine, lr=0.0), shuffled)
    assert metrics == same and all(torch.equal(g, second[name]) for name, g in first.items())


@pytest.mark.parametrize("method", METHODS)
def test_the_contract(method: str) -> None:
    engine = make_engine()
    check_learner(make(method, engine), own(shared_engine()))
    assert engine.version > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_bandit_improves(method: str) -> None:
    """One token after "Hi": the teacher almost always says "k", or is a model that is sure of something. The student
    comes to say it, which at first it hardly does."""
    engine, tutor = make_engine(), make_engine(seed=5).snapshot()
    first = torch.tensor([engine.encode(chat("Hi"), "").prompt_ids])
    with torch.no_grad():
        wanted = (tutor.model(input_ids=first).logits[0, -1] / 0.5).log_softmax(-1)
    favourite = engine.encode(chat("Hi"), "k").token_ids[0]

    def distance() -> float:
        with torch.no_grad():
            student = engine.model(input_ids=first).logits[0, -1].log_softmax(-1)
        return -float(student[favourite]) if method == "sequence" else float(reverse_kl(wanted[None], student[None]))

    start = distance()
    options = {"sequence": {}, "gkd": {"lmbda": 1.0, "beta": 1.0}, "on_policy": {}}[method]
    heat = {} if method == "sequence" else {"teacher_temperature": 0.5}
    learner = make(method, engine, tutor, lr=3e-3, **heat, **options)
    for step in range(30):
        said = say(engine, ["Hi"] * 16, step, max_tokens=1)
        turns = [Turn("solver", "solver_0", chat("Hi"), Action(c.text, c), 0) for c in said]
        case = {"query": "Hi", "answer": "", "reference": "", "lesson": "k"}
        learner.update([Episode((turn,), {"solver": 0.0}, case, {"score": 0.0}) for turn in turns])
    assert distance() < (0.2 if method == "sequence" else 0.5) * start


@pytest.mark.parametrize("method", METHODS)
def test_resumed_it_goes_on_to_the_byte(method: str, tmp_path: Path) -> None:
    engine, other = make_engine(), make_engine(seed=9)
    learner = make(method, engine)
    for seed in (1, 2):
        learner.update(own(engine, seed))
    for part, member in (("model", engine), ("learner", learner)):
        (tmp_path / part).mkdir()
        member.save(tmp_path / part)
    resumed = make(method, other)
    other.load(tmp_path / "model")
    resumed.load(tmp_path / "learner")
    episodes = own(engine, 3)
    assert learner.update(episodes) == resumed.update(episodes)
    assert all(torch.equal(p, q) for (_, p), (_, q) in zip(learner.named, resumed.named, strict=True))


def test_a_loss_that_is_not_finite_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    engine, tutor = make_engine(), make_engine(seed=5)
    learner = make("on_policy", engine, tutor)
    episodes = own(engine)
    with torch.no_grad():
        next(tutor.model.parameters()).fill_(math.nan)
    before = [p.detach().clone() for _, p in learner.named]
    with caplog.at_level(logging.WARNING):
        metrics = learner.update(episodes)
    assert metrics["steps_refused"] == 1 and "step refused" in caplog.text
    assert all(torch.equal(p, q) for p, (_, q) in zip(before, learner.named, strict=True))
