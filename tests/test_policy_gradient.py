"""The learner against the loss of the paper, written down here a second time (arXiv 2509.07414, eq. 4-5)."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.frozen import Frozen
from learners.losses import KL_PLACEMENTS
from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from selfplay.testing import check_learner
from selfplay.types import Action, Completion, Episode, Turn
from tests.helpers import chat, make_engine, shared_engine, tree

SCORE = [[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.0, 0.0]]
QUALITY = [[0.0, 1.0, 0.5, 0.25], [1.0, 1.0, 0.0, 0.5], [0.0, 0.75, 0.0, 0.0]]


def say(engine: Engine, texts: list[str], seed: int, max_tokens: int = 6) -> list[Completion]:
    seeds = [1000 * seed + i for i in range(len(texts))]
    return engine.generate([chat(t) for t in texts], temperature=1.0, top_p=1.0, max_tokens=max_tokens, seeds=seeds)


def play(engine: Engine, score: Any = SCORE, quality: Any = QUALITY, seed: int = 1) -> list[Episode]:
    """A step of LSP with real completions: three queries with four answers each, of unequal lengths."""
    proposals = say(engine, ["Ask."] * len(score), seed)
    prompts = [f"question {'x' * 5 * i}" for i, row in enumerate(score) for _ in row]
    answers = iter(say(engine, prompts, seed + 1))
    return tree(score, quality, [[next(answers) for _ in row] for row in score], proposals)


def gradient(learner: PolicyGradient, episodes: list[Episode]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradient that one update hands to the optimizer."""
    found: dict[str, Tensor] = {}

    def look(*_: Any) -> None:
        found.update({name: p.grad.detach().clone() for name, p in learner.named if p.grad is not None})

    handle = learner.optimizer.register_step_pre_hook(look)
    metrics = learner.update(episodes)
    handle.remove()
    return found, metrics


def by_hand(
    engine: Engine, reference: Engine, kl: str, beta: dict[str, float], alpha: dict[str, float]
) -> dict[str, Tensor]:
    """Eq. 4-5 term by term: one unpadded forward pass of the plain model per turn, nothing shared with the learner."""

    def logps(model: Any, said: Completion) -> Tensor:
        ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
        table = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(said.prompt_ids) - 1
        return torch.stack([table[start + t, token] for t, token in enumerate(said.token_ids)])

    episodes = play(engine)
    v = [sum(row) / len(row) for row in SCORE]
    v_q = [sum(row) / len(row) for row in QUALITY]
    rewards: dict[str, list[list[tuple[Completion, float]]]] = {"challenger": [[]], "solver": []}
    for i in range(len(SCORE)):
        first = episodes[4 * i].turns[0].action.completion
        assert first is not None
        rewards["challenger"][0].append((first, v_q[i] - v[i]))
        rewards["solver"].append([])
        for j in range(4):
            answer = episodes[4 * i + j].turns[1].action.completion
            assert answer is not None
            rewards["solver"][-1].append((answer, SCORE[i][j] + QUALITY[i][j]))

    engine.model.zero_grad()
    loss = torch.zeros(())
    for role, groups in rewards.items():
        turns = sum(map(len, groups))
        for siblings in groups:
            worth = []
            for said, r in siblings:
                with torch.no_grad():
                    delta = float((logps(engine.model, said) - logps(reference.model, said)).sum())
                worth.append(r - beta[role] * delta if kl == "k1_in_reward" else r)
            for (said, _), r in zip(siblings, worth, strict=True):
                logp_T, advantage = logps(engine.model, said), r - sum(worth) / len(worth)
                with torch.no_grad():
                    reference_T = logps(reference.model, said)
                delta_T = logp_T - reference_T
                penalty = {
                    "k2_loss": (delta_T**2 / 2).sum(),
                    "k3_loss": ((-delta_T).exp() - 1 + delta_T).sum(),
                    "k3_times_ratio": (((-delta_T).exp() - 1 + delta_T) * (logp_T - logp_T.detach()).exp()).sum(),
                    "k1_loss_literal": delta_T.sum(),
                }.get(kl, torch.zeros(()))
                ratio = (logp_T.sum() - logp_T.sum().detach()).exp()
                loss = loss - alpha[role] / turns * (ratio * advantage - beta[role] * penalty)
    loss.backward()
    found = {name: p.grad.detach().clone() for name, p in engine.model.named_parameters() if p.grad is not None}
    engine.model.zero_grad(set_to_none=True)
    return found


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys() and a
    largest = max(float(g.abs().max()) for g in b.values())
    assert largest > 0.01, "there is a gradient to compare"
    for name in a:
        assert float((a[name] - b[name]).abs().max()) < tolerance * largest, name


# -- the gradient ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", KL_PLACEMENTS)
@pytest.mark.parametrize(
    ("beta", "alpha"),
    [({"challenger": 0.5, "solver": 0.5}, {}), ({"challenger": 0.0, "solver": 0.3}, {"challenger": 0.25})],
)
def test_the_gradient_is_the_papers(kl: Any, beta: dict[str, float], alpha: dict[str, float]) -> None:
    engine, reference = make_engine(), shared_engine("llama", tied=True).snapshot()
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(0.9)  # a reference that differs, so that every placement has something to say
    expected = by_hand(engine, reference, kl, beta, {"challenger": 1.0, "solver": 1.0, **alpha})
    learner = PolicyGradient(engine, reference, kl=kl, beta=beta, alpha=alpha, max_grad_norm=math.inf)
    found, metrics = gradient(learner, play(engine))
    assert_close(found, expected, 5e-5)  # beside float64 either is within 2e-5
    assert metrics["steps_skipped"] == 0 and metrics["grad_norm"] > 0
    assert ("kl/solver" in metrics) == (kl not in ("none",)) and metrics.get("kl/solver", 1) > 0


def test_one_beta_for_all_and_no_reference() -> None:
    engine, other = make_engine(), make_engine(seed=5).snapshot()
    one, _ = gradient(PolicyGradient(engine, other, beta=0.2, lr=0.0, max_grad_norm=math.inf), play(engine))
    both = {"challenger": 0.2, "solver": 0.2}
    two, _ = gradient(PolicyGradient(engine, other, beta=both, lr=0.0, max_grad_norm=math.inf), play(engine))
    assert_close(one, two, 1e-9)
    without, metrics = gradient(PolicyGradient(engine, None, lr=0.0, max_grad_norm=math.inf), play(engine))
    plain, _ = gradient(PolicyGradient(engine, other, kl="none", lr=0.0, max_grad_norm=math.inf), play(engine))
    assert_close(without, plain, 1e-9)
    assert not [name for name in metrics if name.startswith("kl/")]


def test_micro_batches_and_the_order_of_episodes_change_nothing() -> None:
    engine, other = make_engine(), make_engine(seed=5).snapshot()
    episodes = play(engine)
    options: dict[str, Any] = {"lr": 0.0, "max_grad_norm": math.inf}
    whole, metrics = gradient(PolicyGradient(engine, other, **options), episodes)
    pieces, same = gradient(PolicyGradient(engine, other, batch_tokens=1, **options), episodes)
    assert_close(pieces, whole, 1e-5)
    assert same == pytest.approx(metrics, abs=1e-5)
    shuffled, same = gradient(PolicyGradient(engine, other, **options), random.Random(3).sample(episodes, 12))
    assert_close(shuffled, whole, 1e-5)
    assert same == pytest.approx(metrics, abs=1e-5)


def test_the_norm_is_clipped() -> None:
    engine = make_engine()
    found, metrics = gradient(PolicyGradient(engine, lr=0.0, max_grad_norm=0.5), play(engine))
    assert metrics["grad_norm"] > 0.5, "the metric tells the norm before the clipping"
    assert math.sqrt(sum(float(g.square().sum()) for g in found.values())) == pytest.approx(0.5, abs=1e-4)


def test_somebody_elses_turns_are_left_alone() -> None:
    """A frozen or human Solver has no tokens: only the Challenger's turns are in the loss."""
    engine = make_engine()
    proposals = say(engine, ["Ask."] * 3, 1)
    found, metrics = gradient(PolicyGradient(engine, lr=0.0), tree(SCORE, QUALITY, (), proposals))
    assert found and {name for name in metrics if "advantage" in name} == {"advantage_std/challenger"}
    assert metrics["advantage_std/challenger"] > 0 and metrics["frac_reward_zero_std/challenger"] == 0


# -- steps that must change nothing ------------------------------------------------------------------------------------


def forfeits(engine: Engine) -> list[Episode]:
    turns = [Turn("challenger", "challenger_0", {}, Action("", said), 0) for said in say(engine, ["Ask."] * 3, 1)]
    return [Episode((turn,), {"challenger": -1.0}, {}, {}, "challenger") for turn in turns]


@pytest.mark.parametrize("kind", ["no episodes", "all equal", "all void", "all forfeits", "nobody's tokens"])
def test_a_step_without_a_signal_is_skipped_and_counted(kind: str) -> None:
    engine = make_engine()
    episodes = {
        "no episodes": list[Episode],
        "all equal": lambda: play(engine, [[1.0] * 4] * 3, [[0.5] * 4] * 3),
        "all void": lambda: play(engine, [[math.nan] * 4] * 3),
        "all forfeits": lambda: forfeits(engine),
        "nobody's tokens": lambda: tree(SCORE, QUALITY),
    }[kind]()
    learner = PolicyGradient(engine, engine.snapshot(), lr=0.1, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in learner.named}
    metrics = learner.update(episodes)
    assert metrics["steps_skipped"] == 1 and "steps_refused" not in metrics
    assert all(torch.equal(p, before[name]) for name, p in learner.named) and engine.version == 0
    assert all(math.isfinite(value) for value in metrics.values())
    if kind == "all equal":
        assert metrics["frac_reward_zero_std/solver"] == 1


@pytest.mark.parametrize("poison", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_refused(poison: float, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    episodes = play(engine)
    learner = PolicyGradient(engine, engine.snapshot(), lr=0.1)
    learner.update(episodes)
    with torch.no_grad():
        learner.named[3][1].view(-1)[0] = poison
    weights = {name: p.detach().clone() for name, p in learner.named}
    moments = {id(p): {k: v.clone() for k, v in learner.optimizer.state[p].items()} for _, p in learner.named}
    with caplog.at_level(logging.WARNING):
        metrics = learner.update(episodes)
    assert metrics["steps_refused"] == 1 and metrics["steps_skipped"] == 1 and engine.version == 1
    assert "step refused, weights kept" in caplog.text
    for name, p in learner.named:
        assert torch.equal(torch.nan_to_num(p), torch.nan_to_num(weights[name]))
        assert all(torch.equal(v, moments[id(p)][k]) for k, v in learner.optimizer.state[p].items())
        assert p.grad is None
    with torch.no_grad():
        learner.named[3][1].view(-1)[0] = 0.0
    assert learner.update(episodes)["steps_skipped"] == 0, "and the next good step goes on"


def test_learners_keep_the_contract() -> None:
    check_learner(PolicyGradient(make_engine(), shared_engine().snapshot()), play(shared_engine()))
    check_learner(Frozen(), play(shared_engine()))
    assert Frozen().update(play(shared_engine())) == {}


# -- learning and going on ---------------------------------------------------------------------------------------------


def test_a_bandit_improves() -> None:
    """One token is worth 1 if its id is even. From about a half, the chance of that rises above 0.9 in 20 steps."""
    engine = make_engine()
    learner = PolicyGradient(engine, kl="none", lr=3e-3)

    def chance() -> float:
        ids = torch.tensor([engine.encode(chat("Hi"), "").prompt_ids])
        with torch.no_grad():
            return float(engine.model(input_ids=ids).logits[0, -1].softmax(-1)[::2].sum())

    start = chance()
    for step in range(20):
        said = say(engine, ["Hi"] * 32, step, max_tokens=1)
        learner.update(tree([[float(c.token_ids[0] % 2 == 0) for c in said]], None, [said]))
    assert start < 0.7 and chance() > 0.9


@pytest.mark.parametrize(
    "options",
    [{}, {"credit": "rae_ema"}, {"epochs": 2, "minibatches": 2, "ratio": "token", "clip": "ppo", "seed": 3}],
    ids=["lsp_mean", "rae_ema", "epochs"],
)
def test_saved_and_loaded_it_goes_on_to_the_byte(options: dict[str, Any], tmp_path: Path) -> None:
    engine = make_engine()
    learner = PolicyGradient(engine, shared_engine().snapshot(), lr=1e-3, **options)
    for seed in (1, 2):
        learner.update(play(engine, seed=seed))
    for part, member in (("model", engine), ("learner", learner)):
        (tmp_path / part).mkdir()
        member.save(tmp_path / part)
    other = make_engine(seed=9)
    resumed = PolicyGradient(other, shared_engine().snapshot(), lr=1e-3, **options)
    other.load(tmp_path / "model")
    resumed.load(tmp_path / "learner")
    episodes = play(engine, seed=3)
    assert [e.turns[1].action for e in play(other, seed=3)] == [e.turns[1].action for e in episodes]
    assert learner.update(episodes) == resumed.update(episodes)
    for (name, p), (other_name, q) in zip(learner.named, resumed.named, strict=True):
        assert name == other_name and torch.equal(p, q)


def test_refusals(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    for options, message in (
        (
            {"kl": "k3los"},
            r"learner\.kl='k3los' is unknown \(did you mean k3_loss\?\): use none, k1_in_reward, k2_loss, ",
        ),
        ({"kl": "k3_reward"}, r"learner\.kl=k3_reward is refused: .* use k1_in_reward"),
        ({"credit": "rlo"}, r"credit='rlo' is unknown \(did you mean rloo\?\): use lsp_mean, grpo_std"),
        ({"clip": "pp0"}, r"learner\.clip='pp0' is unknown"),
        ({"aggregation": "constant"}, r"learner\.aggregation=constant divides by learner\.constant=None"),
        ({"epochs": 0}, r"learner\.epochs=0 is a number of times: use 1 or more"),
        ({"minibatches": 0}, r"learner\.minibatches=0 is a number of times: use 1 or more"),
        ({"overlong": {"max": 3}}, r"learner\.overlong\.max is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            PolicyGradient(engine, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tiny llama \(frozen\) is frozen: the learner has nothing to update"):
        PolicyGradient(engine.snapshot())
    with caplog.at_level(logging.WARNING):
        PolicyGradient(engine, kl="k1_loss_literal")
    assert "expected gradient of zero" in caplog.text
