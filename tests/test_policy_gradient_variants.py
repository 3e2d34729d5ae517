"""The GRPO family: several steps per batch, what must change nothing, and that every variant learns."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from torch import Tensor

from learners.policy_gradient import PolicyGradient
from selfplay.compose import register_resolvers
from selfplay.types import Completion, Episode
from tests.helpers import chat, make_engine, tree
from tests.test_policy_gradient import assert_close, gradient, play, say
from tests.test_update_importance import shifted

FAMILY: dict[str, dict[str, Any]] = {
    "lsp": {},
    "grpo": {"credit": "grpo_std", "ratio": "token", "clip": "ppo", "aggregation": "seq_mean_token_mean"},
    "dr_grpo": {"ratio": "token", "clip": "ppo", "aggregation": "constant", "constant": 6},
    "dapo": {"credit": "grpo_std", "ratio": "token", "clip": "ppo", "eps_high": 0.28, "aggregation": "token_mean"},
    "rloo": {"credit": "rloo", "clip": "ppo"},
    "gspo": {"credit": "grpo_std", "ratio": "geometric", "clip": "ppo", "aggregation": "seq_mean_token_mean"},
    "cispo": {"credit": "grpo_std", "ratio": "token", "clip": "cispo", "aggregation": "token_mean"},
    "reinforce_pp": {"credit": "reinforce_pp", "ratio": "token", "clip": "ppo", "aggregation": "token_mean"},
    "dual clip": {"ratio": "token", "clip": "ppo", "dual_clip": 1.5},
    "entropy": {"entropy": {"solver": 0.02}},
}
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "max_grad_norm": math.inf}
SEVERAL: dict[str, Any] = {"epochs": 2, "minibatches": 2, "seed": 5}
_NEAR: dict[str, Any] = {"lr": 0.005}  # small enough for steps that do not throw the model about
KL: dict[str, Any] = {"kl": "k3_times_ratio", "beta": 0.2}


def weights(learner: PolicyGradient) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.named}


def moved(options: dict[str, Any], episodes: list[Episode], **more: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """How far a fresh model is moved by one update."""
    engine = make_engine()
    learner = PolicyGradient(engine, make_engine(seed=5).snapshot(), **{**SGD, **KL, **options, **more})
    before = weights(learner)
    metrics = learner.update(episodes)
    return {name: p - before[name] for name, p in weights(learner).items()}, metrics


# -- what must change nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [{}, SEVERAL | _NEAR], ids=["one step", "several"])
@pytest.mark.parametrize("name", FAMILY)
def test_micro_batches_and_the_order_of_episodes_change_nothing(name: str, several: dict[str, Any]) -> None:
    """Also where a batch's tokens are the denominator: it is the whole step's."""
    episodes = play(make_engine())
    whole, metrics = moved(FAMILY[name], episodes, **several)
    largest = max(float(d.abs().max()) for d in whole.values())
    assert largest > 1e-4
    pieces, same = moved(FAMILY[name], episodes, batch_tokens=1, **several)
    shuffled, again = moved(FAMILY[name], random.Random(3).sample(episodes, 12), **several)
    for other, told in ((pieces, same), (shuffled, again)):
        assert max(float((other[key] - whole[key]).abs().max()) for key in whole) < 2e-3 * largest
        assert told == pytest.approx(metrics, rel=1e-3, abs=1e-3)


def test_one_step_is_strictly_on_policy() -> None:
    """What the sampler told is not looked at: the ratio is 1 whatever it says."""
    episodes = play(make_engine())
    lower = shifted(episodes, [1.0, -2.0])
    for options in (FAMILY["dapo"], FAMILY["gspo"], FAMILY["rloo"]):
        plain, _ = moved(options, episodes, importance_cap=None)
        found, metrics = moved(options, lower, importance_cap=None)
        assert all(torch.equal(found[name], plain[name]) for name in plain)
        assert metrics["clip_fraction/solver"] == 0


def test_several_steps_compare_with_what_was_sampled() -> None:
    """All words half as likely when they were sampled: every ratio is 2 at once and the clip kills those that gain.
    Where the sampler is weighed, the ratio is to the policy's own and starts from 1."""
    episodes = shifted(play(make_engine()), [math.log(2)])
    options = {"ratio": "token", "clip": "ppo", "kl": "none", "minibatches": 2}
    _, trusted = moved(options, episodes, importance_cap=None, lr=0.0)
    _, weighed = moved(options, episodes, importance_cap=5.0, lr=0.0)
    assert trusted["clip_fraction/solver"] > 0.2 and weighed["clip_fraction/solver"] == 0
    assert weighed["sampler/gap_mean"] == pytest.approx(math.log(2), abs=1e-4)
    assert weighed["sampler/importance_mean"] == pytest.approx(2, abs=1e-3)


def test_the_weights_of_the_sampler_in_several_steps() -> None:
    """Every token's gradient doubles where it was half as likely when it was sampled, in both steps."""
    engine = make_engine()
    episodes = play(engine)
    options: dict[str, Any] = {"ratio": "token", "kl": "none", "epochs": 2, "lr": 0.0, "importance_cap": 5.0}
    plain, _ = gradient(PolicyGradient(engine, max_grad_norm=math.inf, **options), episodes)
    found, _ = gradient(PolicyGradient(engine, max_grad_norm=math.inf, **options), shifted(episodes, [math.log(2)]))
    assert_close(found, {name: 2 * g for name, g in plain.items()}, 1e-4)


def test_words_that_nobody_sampled_are_scored_first() -> None:
    """Encoded words have no log-probabilities: the policy's own before the first step stand in, for the ratio and for
    a penalty in the reward."""
    episodes = play(make_engine())
    silent = shifted(episodes, [0.0])
    for episode in silent:
        for turn in episode.turns:
            if turn.action.completion is not None:
                turn.action = replace(turn.action, completion=replace(turn.action.completion, logprobs=()))
    for options in (FAMILY["dapo"] | {"epochs": 2}, FAMILY["rloo"] | {"kl": "k1_in_reward"}):
        plain, _ = moved(options, episodes)
        found, _ = moved(options, silent)
        largest = max(float(d.abs().max()) for d in plain.values())
        assert max(float((found[name] - plain[name]).abs().max()) for name in plain) < 2e-3 * largest


def test_a_role_that_says_more_does_not_weigh_more() -> None:
    """Every role has its own denominator: the challenger's gradient is the same beside long answers and beside none."""
    engine = make_engine()
    episodes = play(engine)
    options = {"lr": 0.0, "max_grad_norm": math.inf, "kl": "none", "aggregation": "token_mean", "ratio": "token"}
    both, _ = gradient(PolicyGradient(engine, alpha={"solver": 0.0}, **options), episodes)
    for episode in episodes:
        episode.turns = episode.turns[:1]
    alone, _ = gradient(PolicyGradient(engine, **options), episodes)
    assert_close(both, alone, 1e-5)


def test_turns_without_an_advantage_are_not_computed() -> None:
    """Ten of twelve answers earn the same as their siblings and no term needs them: two reach the model."""
    engine = make_engine()
    learner = PolicyGradient(engine, kl="none", alpha={"challenger": 0.0})
    score = [[1.0, 0.0], *[[1.0, 1.0]] * 5]
    said = [say(engine, [f"q{i}"] * 2, i) for i in range(6)]
    seen: list[Completion] = []
    ask = learner.step.passes.logprobs

    def look(completions: Any, **options: Any) -> Any:
        seen.extend(completions)
        return ask(completions, **options)

    learner.step.passes.logprobs = look  # type: ignore[method-assign]
    learner.step.batch_tokens = 4096  # no measuring pass
    metrics = learner.update(tree(score, None, said))
    assert metrics["steps_skipped"] == 0 and sorted(map(id, seen)) == sorted(map(id, said[0]))


def test_a_step_that_is_refused_ends_the_epochs() -> None:
    engine = make_engine()
    learner = PolicyGradient(engine, lr=1e-3, epochs=3, kl="none")
    steps: list[int] = []

    def poison(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 2:
            with torch.no_grad():
                learner.named[3][1].view(-1)[0] = math.nan

    learner.optimizer.register_step_post_hook(poison)
    metrics = learner.update(play(engine))
    assert len(steps) == 2 and metrics["steps_refused"] == 1 and metrics["steps_skipped"] == 0
    assert math.isfinite(metrics["loss"])


def test_the_schedule_counts_batches_of_episodes() -> None:
    """Two batches, two epochs of two minibatches: eight steps of the optimizer, down to an eighth of the rate."""
    engine = make_engine()
    learner = PolicyGradient(engine, lr=1.0, optimizer="sgd", schedule="linear", steps=2, max_grad_norm=1e-9, **SEVERAL)
    rates: list[float] = []
    learner.optimizer.register_step_pre_hook(lambda *_: rates.append(learner.optimizer.param_groups[0]["lr"]))
    for seed in (1, 2):
        learner.update(play(engine, seed=seed))
    assert rates == pytest.approx([1 - i / 8 for i in range(8)])


# -- rewards besides ---------------------------------------------------------------------------------------------------


def test_a_long_answer_pays() -> None:
    """Answers of equal reward: only their lengths tell them apart, and the longest has the lowest advantage."""
    engine = make_engine()
    said = say(engine, ["Hi"] * 6, 3, max_tokens=6)
    said = [Completion("", c.prompt_ids, c.token_ids[: 1 + i], c.logprobs[: 1 + i], "stop") for i, c in enumerate(said)]
    episodes = tree([[0.5] * 6], None, [said])
    learner = PolicyGradient(engine, kl="none", overlong={"limit": 6, "cache": 4, "roles": ["solver"]})
    rows: list[Any] = []
    take = learner.step.take
    learner.step.take = lambda found, *rest: rows.extend(found) or take(found, *rest)  # type: ignore
    assert learner.update(episodes)["steps_skipped"] == 0
    paid = [0.0, 0.0, -0.25, -0.5, -0.75, -1.0]
    mean = sum(paid) / 6
    lengths = {len(row.completion.token_ids): row.advantage for row in rows}
    assert [lengths[n] for n in range(1, 7)] == pytest.approx([p - mean for p in paid])


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_a_bandit_improves(name: str) -> None:
    """One token is worth 1 if its id is even, with two steps on every batch."""
    engine = make_engine()
    learner = PolicyGradient(engine, kl="none", lr=3e-3, **FAMILY[name], minibatches=2)

    def chance() -> float:
        ids = torch.tensor([engine.encode(chat("Hi"), "").prompt_ids])
        with torch.no_grad():
            return float(engine.model(input_ids=ids).logits[0, -1].softmax(-1)[::2].sum())

    start = chance()
    for step in range(12):
        said = say(engine, ["Hi"] * 32, step, max_tokens=1)
        learner.update(tree([[float(c.token_ids[0] % 2 == 0) for c in said]], None, [said]))
    assert start < 0.7 and chance() > 0.85


@pytest.mark.parametrize("kl", ["k2_loss", "k1_in_reward"])
def test_the_sampler_lends_its_memory_before_the_reference_is_asked(kl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pass is the first of a run, and measures how much fits."""
    engine = make_engine()
    episodes = play(engine)
    learner, told = PolicyGradient(engine, make_engine(seed=5).snapshot(), kl=kl), list[str]()
    monkeypatch.setattr(engine, "sleep", lambda: told.append("sleep"))
    monkeypatch.setattr(learner.step, "_measured", lambda longest: told.append("measured") or 512)
    learner.update(episodes)
    assert told[:2] == ["sleep", "measured"]


def configured(name: str) -> Any:
    register_resolvers()
    folder = str(Path(__file__).resolve().parent.parent / "conf")
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        return hydra.compose("config", overrides=[f"experiment={name}"])


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo", "sqlm", "r_zero", "spice"])
def test_the_experiments_are_the_papers(name: str) -> None:
    """What the configuration of each says, against the table of the papers."""
    learner = configured(name).learner
    learners = {"sqlm": lambda: [learner.learner], "r_zero": lambda: list(learner.learner.learners.values())}
    grpo = ("grpo_std", "token", "ppo", 0.2, 0.2, "seq_mean_token_mean", "k3_loss")
    expected = {
        **dict.fromkeys(("grpo", "sqlm", "r_zero"), grpo),
        **dict.fromkeys(("dr_grpo", "spice"), ("lsp_mean", "token", "ppo", 0.2, 0.2, "constant", "none")),
        "dapo": ("grpo_std", "token", "ppo", 0.2, 0.28, "token_mean", "none"),
        "rloo": ("rloo", "sequence", "ppo", 0.2, 0.2, "seq_sum", "k1_in_reward"),
        "gspo": ("grpo_std", "geometric", "ppo", 3e-4, 4e-4, "seq_mean_token_mean", "none"),
        "cispo": ("grpo_std", "token", "cispo", 0.2, 0.2, "token_mean", "none"),
    }[name]
    keys = ("credit", "ratio", "clip", "eps_low", "eps_high", "aggregation", "kl")
    for each in learners.get(name, lambda: [learner])():
        assert tuple(each[key] for key in keys) == expected


def test_dapo_refuses_groups_that_are_all_right_or_all_wrong() -> None:
    """Dynamic sampling, and so no length penalty alone moves anything: 0 and 1 lie outside of the open band."""
    gate = configured("dapo").gate
    assert (gate.role, gate.band) == ("challenger", "(0, 1)")
