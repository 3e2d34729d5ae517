"""Learning from moves that were chosen among the legal ones: the gradient by hand, a bandit that is learned, distances
that are 0, and checkpoints that go on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.distill import Distill
from learners.examples import Example, load_examples, save_examples
from learners.policy_gradient import PolicyGradient
from selfplay.pipeline import Opening, Pipeline
from selfplay.types import Action, Episode, Turn
from tests.helpers import chat, make_engine
from tests.moves import BANDIT, MOVES, chances, game, mixed, pick, slope, steps
from tests.test_policy_gradient import assert_close, gradient


def test_a_bandit_is_learned() -> None:
    """With a policy gradient over the two arms alone; the model's other words are nobody's affair."""
    engine = make_engine()
    learner = PolicyGradient(engine, lr=2e-3)
    before = chances(engine, chat("Choose."), BANDIT)["right"]
    for step in range(20):
        learner.update(game(engine, step))
    after = chances(engine, chat("Choose."), BANDIT)["right"]
    assert before < 0.9 < 0.97 < after, (before, after)


def test_the_gradient_is_the_policy_s() -> None:
    """-sum over turns of A log pi(move) / n with pi the renormalised policy, by plain passes."""
    engine = make_engine()
    episodes = game(engine, moves=MOVES)
    paid = [episode.returns["solver"] for episode in episodes]
    mean = sum(paid) / len(paid)
    assert 0 < mean < 1
    found, metrics = gradient(PolicyGradient(make_engine(), max_grad_norm=1e9), episodes)
    loss = torch.zeros(())
    for episode, reward in zip(episodes, paid, strict=True):
        logp = sum(steps(engine, chat("Choose."), MOVES, str(episode.turns[0].action.move)), torch.zeros(()))
        loss = loss - (reward - mean) * logp / len(episodes)
    assert_close(found, slope(engine, loss), 1e-5)
    assert metrics["sampler/gap_max"] < 1e-5


def test_a_model_is_no_distance_from_itself() -> None:
    """Whatever the placement of the divergence, with entropy and without."""
    for kl in ("k2_loss", "k3_loss", "k1_in_reward"):
        engine = make_engine()
        learner = PolicyGradient(engine, engine.snapshot(), kl=kl, beta=1.0, entropy=0.1)
        metrics = learner.update(game(engine, moves=MOVES))
        assert metrics.get("kl/solver", 0.0) == pytest.approx(0, abs=1e-9) and metrics["steps_skipped"] == 0
    engine = make_engine()
    episodes = [*game(engine, moves=MOVES), *game(engine, moves=["xcheck", "xcall"])]
    for method in ("gkd", "on_policy"):
        for beta in (0.0, 0.5, 1.0):
            told = Distill(engine, engine.snapshot(), method=method, beta=beta, lmbda=1.0).update(episodes)
            assert told["loss"] == pytest.approx(0, abs=1e-5) and told["grad_norm"] == pytest.approx(0, abs=1e-4)


def test_a_teacher_is_asked_about_the_legal_moves_alone() -> None:
    """The divergence of two renormalised distributions, by hand, over the tokens that were drawn."""
    engine, teacher = make_engine(), make_engine(seed=5).snapshot()
    (said,) = pick(engine, ["x"], [BANDIT])
    turn = Turn("solver", "solver_0", chat("x"), Action(said.text, said), 0)
    learner = Distill(engine, teacher, method="gkd", beta=1.0, lmbda=1.0)
    told = learner.update([Episode((turn,), {"solver": 1.0}, {}, {})])
    ours, theirs = (chances(one, chat("x"), BANDIT) for one in (make_engine(), teacher))
    wanted = sum(ours[move] * math.log(ours[move] / theirs[move]) for move in BANDIT)
    assert told["loss"] == pytest.approx(wanted, abs=1e-4) and wanted > 1e-3


def test_tokens_that_had_to_come_weigh_nothing() -> None:
    """The bracket is no word of its own: with one token drawn per move, a mean over tokens, of the sequence or of all,
    is what their sum is; and the share that a clip acts on is one of drawn tokens."""
    moves = ["[bet]", "[fold]"]
    episodes = game(make_engine(), seed=2, moves=moves)
    assert all(len(e.turns[0].action.completion.token_ids) == 2 for e in episodes if e.turns[0].action.completion)
    plain, _ = gradient(PolicyGradient(make_engine(), max_grad_norm=1e9), episodes)
    means: dict[str, Any] = {"aggregation": "seq_mean_token_mean", "max_grad_norm": 1e9}
    for options in (means, {**means, "ratio": "geometric"}, {**means, "ratio": "token", "aggregation": "token_mean"}):
        found, metrics = gradient(PolicyGradient(make_engine(), **options), episodes)
        assert_close(found, plain, 1e-6)
        assert metrics["sampler/gap_max"] < 1e-5
    learner = PolicyGradient(make_engine(), lr=1e-3, ratio="token", clip="ppo", epochs=3, eps_low=1e-4, eps_high=1e-4)
    metrics = learner.update(episodes)
    assert metrics["clip_fraction/solver"] == pytest.approx(2 / 3), (
        "all that could move, after the first of three steps"
    )


def test_a_run_that_is_resumed_goes_on_as_it_would_have(tmp_path: Path) -> None:
    engine = make_engine()
    learner = PolicyGradient(engine, lr=1e-3)
    for step in range(3):
        learner.update(game(engine, step))
    (tmp_path / "learner").mkdir()
    learner.save(tmp_path / "learner")
    engine.save(tmp_path / "model")
    other = make_engine()
    other.load(tmp_path / "model")
    again = PolicyGradient(other, lr=1e-3)
    again.load(tmp_path / "learner")
    for step in range(3, 5):
        assert learner.update(game(engine, step)) == again.update(game(other, step))
    for mine, theirs in zip(engine.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_only_move_teaches_nothing() -> None:
    engine = make_engine()
    weights = [p.detach().clone() for p in engine.model.parameters()]
    metrics = PolicyGradient(engine).update(game(engine, moves=["only"]))
    assert metrics["steps_skipped"] == 1.0
    assert all(torch.equal(p, w) for p, w in zip(engine.model.parameters(), weights, strict=True))


def test_bfloat16_chooses_and_scores() -> None:
    """The sampler's rounding is bfloat16's, that is all: the weights that it needs stay near 1."""
    engine = make_engine(dtype=torch.bfloat16)
    said = mixed(engine)
    with torch.no_grad():
        logp_BT, mask_BT = engine.logprobs(said)
    for one, logp_T, mask_T in zip(said, logp_BT, mask_BT, strict=True):
        assert logp_T[mask_T].tolist() == pytest.approx(one.logprobs, abs=0.5)
    learner = PolicyGradient(engine, engine.snapshot(), lr=1e-3)
    metrics = learner.update(game(engine))
    assert metrics["steps_skipped"] == 0.0 and metrics["sampler/importance_mean"] == pytest.approx(1, abs=0.2)


# -- on disk ---------------------------------------------------------------------------------------------------------


def test_checkpoints_keep_what_was_allowed(tmp_path: Path) -> None:
    said = mixed(make_engine())
    pipeline = Pipeline()
    pipeline.keep(7, [Opening("solver_0", 1, Action(one.text, one)) for one in said])
    pipeline.save(tmp_path)
    again = Pipeline()
    again.load(tmp_path)
    assert [opening.action.completion for opening in again.take(7) or []] == said
    save_examples([Example((one,)) for one in said], tmp_path / "examples.jsonl")
    kept = [one.said[0] for one in load_examples(tmp_path / "examples.jsonl")]
    assert kept == [replace(one, logprobs=()) for one in said]
    assert hash(kept[0]) == hash(replace(said[0], logprobs=()))
