"""Learning from pairs: the gradient, rounds and steps, and that it goes on where it stopped."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from learners.dpo import DPO
from learners.pairs import Pairs
from models.engine import Engine
from selfplay.testing import check_learner
from selfplay.types import Completion, Episode
from tests.helpers import make_engine, shared_engine
from tests.imitation import (
    Judge,
    answers,
    bandit,
    chance_of_even,
    check_resume,
    close,
    mute,
    play,
    same,
    weights,
)
from tests.test_policy_gradient import gradient

FREE: dict[str, Any] = {"lr": 0.0, "max_grad_norm": math.inf}


def other_model() -> Engine:
    """A frozen model that is not the policy."""
    reference = shared_engine().snapshot()
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(0.9)
    return reference


# -- the gradient ------------------------------------------------------------------------------------------------------


def by_hand(
    engine: Engine, reference: Engine, pairs: list[tuple[Completion, Completion, float]], options: dict[str, Any]
) -> dict[str, Tensor]:
    """The mean over pairs of -p log sigmoid(beta m) - (1 - p) log sigmoid(-beta m), one unpadded pass per reply."""

    def logp(model: Any, said: Completion) -> Tensor:
        ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
        table = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(said.prompt_ids) - 1
        total = sum(table[start + t, token] for t, token in enumerate(said.token_ids))
        return torch.as_tensor(total) / (len(said.token_ids) if options.get("length_normalized") else 1)

    loss = torch.zeros(())
    for chosen, rejected, p in pairs:
        with torch.no_grad():
            before = logp(reference.model, chosen) - logp(reference.model, rejected)
        m = options.get("beta", 0.1) * (logp(engine.model, chosen) - logp(engine.model, rejected) - before)
        loss = loss - (p * logsigmoid(m) + (1 - p) * logsigmoid(-m)) / len(pairs)
        if imitate := options.get("imitate"):
            per_token = logp(engine.model, chosen) / (1 if options.get("length_normalized") else len(chosen.token_ids))
            loss = loss - imitate * per_token / len(pairs)
    engine.model.zero_grad()
    loss.backward()
    found = {name: p.grad.detach().clone() for name, p in engine.model.named_parameters() if p.grad is not None}
    engine.model.zero_grad(set_to_none=True)
    return found


def expected_pairs(episodes: list[Episode], p: float = 1.0) -> list[tuple[Completion, Completion, float]]:
    """Of every group the best and the worst, as ``Pairs`` chooses them (tested above)."""
    return [(*e.said, p) for e in Pairs(shared_engine(), "solver")(episodes)[0]]  # type: ignore[misc]


@pytest.mark.parametrize("batch_tokens", ["auto", 1])
@pytest.mark.parametrize(
    ("options", "p"),
    [
        ({}, 1.0),
        ({"beta": 0.7, "length_normalized": True}, 1.0),
        ({"label_smoothing": 0.2}, 0.8),
        ({"imitate": 0.5}, 1.0),
    ],
    ids=["dpo", "per token", "smoothed", "imitating"],
)
def test_the_gradient_is_the_papers(options: dict[str, Any], p: float, batch_tokens: Any) -> None:
    engine, reference = make_engine(), other_model()
    episodes = play(engine)
    expected = by_hand(engine, reference, expected_pairs(episodes, p), options)
    found, metrics = gradient(DPO(engine, reference, batch_tokens=batch_tokens, **options, **FREE), episodes)
    assert close(found, expected, 1e-4)
    assert metrics["pairs/learned"] == 3 and metrics["steps_skipped"] == 0
    gap = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    assert metrics["rewards/margins"] == pytest.approx(gap, abs=1e-5)


def test_against_the_last_iterate_the_first_step_starts_at_nothing() -> None:
    """The model itself is the reference: margins of 0 exactly, loss ln 2, an accuracy of a half, and a gradient."""
    engine = make_engine()
    episodes = play(engine)
    found, metrics = gradient(DPO(engine, **FREE), episodes)
    assert metrics["rewards/margins"] == 0 and metrics["rewards/accuracies"] == 0.5
    assert metrics["loss"] == pytest.approx(math.log(2)) and metrics["grad_norm"] > 0
    assert close(found, by_hand(engine, engine, expected_pairs(episodes), {}), 1e-4)


def test_the_last_iterate_is_that_of_the_round() -> None:
    """Several passes over one round are held against the model before the first of them: margins grow."""
    engine = make_engine()
    one = DPO(engine, lr=3e-4, epochs=1).update(play(shared_engine()))
    engine = make_engine()
    many = DPO(engine, lr=3e-4, epochs=5).update(play(shared_engine()))
    assert one["rewards/margins"] == 0 < many["rewards/margins"] and many["rewards/accuracies"] == 1
    assert many["loss"] < one["loss"] and many["optimizer_steps"] == 5


@pytest.mark.parametrize("loss", ["dpo", "ipo", "hinge"])
def test_every_loss_moves_towards_the_chosen(loss: str) -> None:
    engine = make_engine()
    learner = DPO(engine, other_model(), loss=loss, lr=3e-4, epochs=5)
    first = learner.update(play(shared_engine()))
    second = learner.update(play(shared_engine()))
    assert second["rewards/margins"] > first["rewards/margins"]


def test_a_soft_label_of_a_half_more_pulls_less() -> None:
    """At the reference the gradient is (2p - 1) times that of a certain label: dpo's slope is -beta (p - 1/2)."""
    engine = make_engine()
    episodes = answers(engine, ["good", "bad"], [1.0, 0.0])
    sure, _ = gradient(DPO(engine, **FREE), episodes)

    def judged(p: float) -> dict[str, Tensor]:
        return gradient(DPO(engine, judge=Judge({"good": p, "bad": 1 - p}), **FREE), episodes)[0]

    for p in (0.9, 0.6):
        assert close(judged(p), {name: (2 * p - 1) * g for name, g in sure.items()}, 1e-4)
    assert not judged(0.5), "no preference, no step"


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no episodes", "all equal", "all void", "the same words", "nobody's tokens"])
def test_a_step_without_a_pair_is_skipped(kind: str) -> None:
    engine = make_engine()
    episodes = {
        "no episodes": list[Episode],
        "all equal": lambda: play(engine, [[0.5] * 4] * 3),
        "all void": lambda: play(engine, [[math.nan] * 4] * 3),
        "the same words": lambda: answers(engine, ["a", "a"], [0.0, 1.0]),
        "nobody's tokens": lambda: [mute(e) for e in play(engine)],
    }[kind]()
    learner = DPO(engine, lr=0.1, weight_decay=0.1)
    before = weights(learner)
    metrics = learner.update(episodes)
    assert metrics["steps_skipped"] == 1 and engine.version == 0 and same(weights(learner), before)
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_loss_that_is_not_finite_is_refused() -> None:
    engine = make_engine()
    episodes = play(engine)
    learner = DPO(engine, shared_engine().snapshot(), lr=0.1)
    with torch.no_grad():
        learner.named[3][1].view(-1)[0] = math.nan
    before = weights(learner)
    metrics = learner.update(episodes)
    assert metrics["steps_refused"] == 1 and metrics["steps_skipped"] == 1 and engine.version == 0
    assert all(torch.equal(torch.nan_to_num(p), torch.nan_to_num(before[name])) for name, p in learner.named)
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_order_of_the_episodes_changes_nothing() -> None:
    engine, other = make_engine(), make_engine()
    episodes = play(shared_engine())
    options: dict[str, Any] = {"lr": 1e-3, "batch_size": 2, "epochs": 2}
    one, two = DPO(engine, **options), DPO(other, **options)
    assert one.update(episodes) == two.update(random.Random(1).sample(episodes, 12))
    assert same(weights(one), weights(two)), "to the byte: the pairs have an order of their own"


@pytest.mark.parametrize("winner", ["sibling", "reference"])
def test_a_bandit_improves(winner: str) -> None:
    """One token, worth 1 if its id is even: by siblings, and by data that begin with an even one."""
    engine = make_engine()
    learner = DPO(engine, lr=5e-3, winner=winner, beta=0.1, epochs=3)
    start = chance_of_even(engine)
    for step in range(40):
        learner.update(bandit(engine, step, pulls=8))
    assert start < 0.7 and chance_of_even(engine) > 0.9


def test_the_round_before_is_learned_once_more() -> None:
    """Three pairs a round: 3, then 3 + 3, then 3 + 3; of the earlier ones none is left in a third round."""
    engine = make_engine()
    learner = DPO(engine, lr=1e-4, mix_previous=True)
    learned = [learner.update(play(shared_engine(), seed=seed))["pairs/learned"] for seed in range(3)]
    found = [len(expected_pairs(play(shared_engine(), seed=seed))) for seed in range(3)]
    assert learned == [found[0], found[0] + found[1], found[1] + found[2]]


@pytest.mark.parametrize(
    "options",
    [{}, {"every": 2, "mix_previous": True, "epochs": 2, "batch_size": 2}, {"every": 5, "winner": "reference"}],
    ids=["each step", "rounds", "amid a round"],
)
def test_saved_and_loaded_it_goes_on_to_the_byte(options: dict[str, Any], tmp_path: Path) -> None:
    check_resume(lambda engine: DPO(engine, lr=1e-3, **options), tmp_path)


def test_it_keeps_the_contract() -> None:
    check_learner(DPO(make_engine(), shared_engine().snapshot()), play(shared_engine()))


def test_refusals() -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match=r"learner.loss='dop' is unknown \(did you mean dpo\?\)"):
        DPO(engine, loss="dop")
    with pytest.raises(ValueError, match=r"learner.beta=0.0 must be above 0"):
        DPO(engine, beta=0.0)
    with pytest.raises(ValueError, match=r"learner.label_smoothing=0.5 must be at least 0 and below 0.5"):
        DPO(engine, label_smoothing=0.5)
    with pytest.raises(ValueError, match=r"learner.imitate=-1 must be at least 0"):
        DPO(engine, imitate=-1)
    with pytest.raises(ValueError, match=r"learner.margin=-1 must be at least 0"):
        DPO(engine, margin=-1)
    with pytest.raises(ValueError, match=r"learner.winner='reverence' is no role and no slot here \(did you mean 'ref"):
        DPO(engine, winner="reverence").update(play(engine))
    with pytest.raises(ValueError, match=r"learner.role='slover' never speaks in this game \(did you mean 'solver'"):
        DPO(engine, role="slover").update(play(engine))
