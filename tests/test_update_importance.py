"""Truncated importance sampling: the weights, what they do to the gradient, when they are used, and the gap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.importance import CAP, Gap, capped, check_cap
from learners.losses import importance, kl_penalty
from learners.policy_gradient import PolicyGradient
from learners.surrogates import Surrogate
from models.engine import Engine
from selfplay.types import Action, Episode, Turn
from tests.helpers import make_engine, shared_engine
from tests.test_policy_gradient import assert_close, gradient, play


def reinforce(logp_BT: Tensor, advantage_B: Tensor, importance_BT: Tensor | None) -> Tensor:
    """The learner's own term as it stands, every token weighed."""
    return Surrogate()(logp_BT, logp_BT.detach(), torch.ones_like(logp_BT), advantage_B, importance_BT)[0]


FREE: dict[str, Any] = {"lr": 0.0, "max_grad_norm": math.inf, "kl": "none"}


def test_the_weights_by_hand() -> None:
    """pi = [0.5, 0.3, 0.2], mu = [0.25, 0.3, 0.05]: ratios 2, 1, 4; a cap of 3 leaves 2, 1, 3."""
    policy, sampler = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.25, 0.3, 0.05]]).log()
    found = importance(policy.requires_grad_(), sampler, 3.0)
    assert found.tolist()[0] == pytest.approx([2, 1, 3]) and not found.requires_grad
    assert importance(torch.tensor([[0.0]]), torch.tensor([[-200.0]]), 2.0).item() == pytest.approx(2), "no overflow"


def test_the_gradient_by_hand() -> None:
    """rho = [2, 1, 0.5], A = 3: value -3; gradient on log pi -A rho = [-6, -3, -1.5]. A plain token has -3."""
    logp = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    loss = reinforce(logp, torch.tensor([3.0]), torch.tensor([[2.0, 1.0, 0.5]]))
    assert loss.tolist() == [-3]
    loss.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [[-6, -3, -1.5]]


def test_the_penalty_by_hand() -> None:
    """k2 of log-ratios 0.4 and -0.2 is 0.08 and 0.02; weighed by 2 and 0.5: 0.16 + 0.01."""
    log_ratio, rho = torch.tensor([[0.4, -0.2]]), torch.tensor([[2.0, 0.5]])
    assert kl_penalty(log_ratio, torch.zeros(1, 2), "k2_loss", rho).item() == pytest.approx(0.17)
    assert kl_penalty(log_ratio, torch.zeros(1, 2), "none", rho).item() == 0


def test_the_expectation_is_the_policys() -> None:
    """One token of two: sampled from mu = [0.5, 0.5] and weighed, the expected gradient is the one under pi = [0.6,
    0.4]; unweighed it is not. A = [1, -1], so that nothing cancels by the baseline."""
    policy, sampler = torch.tensor([0.6, 0.4], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)

    def expected(drawn_from: Tensor, weighed: bool) -> Tensor:
        logits = policy.log().clone().requires_grad_()
        logp_BT = logits.log_softmax(0)[:, None]
        rho_BT = importance(logp_BT, sampler.log()[:, None], 10.0) if weighed else None
        loss_B = reinforce(logp_BT, torch.tensor([1.0, -1.0], dtype=torch.float64), rho_BT)
        (drawn_from * loss_B).sum().backward()
        assert logits.grad is not None
        return logits.grad

    torch.testing.assert_close(expected(sampler, True), expected(policy, False))
    assert (expected(sampler, False) - expected(policy, False)).abs().max() > 0.01


def shifted(episodes: list[Episode], by: list[float]) -> list[Episode]:
    """The same words from a sampler whose log-probabilities are lower by ``by``, token by token, again and again."""

    def turn(old: Turn) -> Turn:
        said = old.action.completion
        if said is None:
            return old
        lower = tuple(logprob - by[t % len(by)] for t, logprob in enumerate(said.logprobs))
        return Turn(
            old.role, old.seat, old.observation, Action(old.action.move, replace(said, logprobs=lower)), old.group
        )

    known: dict[Turn, Turn] = {}
    return [replace(e, turns=tuple(known.setdefault(t, turn(t)) for t in e.turns)) for e in episodes]


def test_a_step_weighs_every_token() -> None:
    """All tokens twice as likely now as when they were sampled: the gradient doubles; with a cap of 1.5 it is 1.5
    times as large, and every token is capped."""
    engine = make_engine()
    episodes = play(engine)
    twice = shifted(episodes, [math.log(2)])
    plain, metrics = gradient(PolicyGradient(engine, importance_cap=None, **FREE), episodes)
    exact, _ = gradient(PolicyGradient(engine, importance_cap=5.0, **FREE), episodes)
    assert_close(exact, plain, 1e-4)
    for cap, factor, share in ((5.0, 2.0, 0.0), (1.5, 1.5, 1.0)):
        found, told = gradient(PolicyGradient(engine, importance_cap=cap, **FREE), twice)
        assert_close(found, {name: factor * g for name, g in plain.items()}, 1e-4)
        assert told["sampler/gap_mean"] == pytest.approx(math.log(2), abs=1e-4)
        assert told["sampler/gap_max"] == pytest.approx(math.log(2), abs=1e-4)
        assert told["sampler/importance_mean"] == pytest.approx(factor, abs=1e-3)
        assert told["sampler/capped_share"] == share
    ignored, told = gradient(PolicyGradient(engine, importance_cap=None, **FREE), twice)
    assert_close(ignored, plain, 1e-9)
    assert told["sampler/importance_mean"] == pytest.approx(2, abs=1e-3), "told, even where nothing is done about it"
    assert metrics["sampler/gap_max"] < 1e-4 and metrics["sampler/importance_mean"] == pytest.approx(1, abs=1e-4)


def test_tokens_are_weighed_one_by_one() -> None:
    """A sequence whose ratios are 2 and 1/2 in turn is not one whose ratio is their product."""
    engine = make_engine()
    episodes = play(engine)
    options = FREE | {"importance_cap": 10.0}
    mixed, told = gradient(PolicyGradient(engine, **options), shifted(episodes, [math.log(2), -math.log(2)]))
    plain, _ = gradient(PolicyGradient(engine, **options), episodes)
    assert max(float((mixed[name] - plain[name]).abs().max()) for name in plain) > 0.01
    assert told["sampler/gap_mean"] == pytest.approx(math.log(2), abs=1e-4)


def test_words_that_nobody_sampled_are_not_weighed() -> None:
    engine = make_engine()
    episodes = play(engine)
    silent = shifted(episodes, [0.0])
    for episode in silent:
        for turn in episode.turns:
            if turn.action.completion is not None:
                turn.action = replace(turn.action, completion=replace(turn.action.completion, logprobs=()))
    plain, _ = gradient(PolicyGradient(engine, importance_cap=None, **FREE), episodes)
    found, told = gradient(PolicyGradient(engine, importance_cap=2.0, **FREE), silent)
    assert_close(found, plain, 1e-5)
    assert not [name for name in told if name.startswith("sampler/")]


def test_the_gap_by_hand() -> None:
    """Log-ratios 0.1, -0.3 | 1: gaps 0.1, 0.3, 1; ratios 1.10517, 0.74082, 2.71828, of which a cap of 2 cuts one."""
    batches = [
        Gap.measure(torch.tensor([-1.0, -1.3]), torch.tensor([-1.1, -1.0]), 2.0),
        Gap.measure(torch.tensor([-1.0]), torch.tensor([-2.0]), 2.0),
        Gap.measure(torch.zeros(0), torch.zeros(0), 2.0),
    ]
    told = Gap.metrics(batches)
    assert told["sampler/gap_mean"] == pytest.approx(1.4 / 3, abs=1e-6) and told["sampler/gap_max"] == pytest.approx(1)
    assert told["sampler/importance_mean"] == pytest.approx((1.10517 + 0.74082 + 2) / 3, abs=1e-5)
    assert told["sampler/capped_share"] == pytest.approx(1 / 3)
    assert Gap.metrics([]) == {}


def test_when_a_cap_is_needed() -> None:
    class Other(Engine):
        exact_sampler = False  # type: ignore[assignment]

    exact, low = shared_engine(), make_engine(dtype=torch.bfloat16)
    other = Other(exact.model, exact.tokenizer, name="another sampler")
    assert capped("auto", exact) is None and capped("auto", low) == CAP == capped("auto", other)
    assert capped(None, low) is None and capped(3, exact) == 3.0
    assert PolicyGradient(make_engine()).importance_cap is None
    for bad in (0.5, "none", "2"):
        with pytest.raises(ValueError, match=r"learner\.importance_cap=.* is unknown: use auto, null, or a bound of 1"):
            check_cap(bad)


def test_the_low_precision_sampler_is_close_and_weighed() -> None:
    engine = make_engine(dtype=torch.bfloat16)
    _, told = gradient(PolicyGradient(engine, **FREE), play(engine))
    assert 0 < told["sampler/gap_mean"] < 0.1 and told["sampler/importance_mean"] == pytest.approx(1, abs=0.1)
