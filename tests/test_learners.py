"""What every learner keeps, whatever its method: a step without a signal moves nothing, the order of the episodes means
nothing, what is saved goes on to the byte, and a bandit improves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from learners.distill import Distill
from learners.dpo import DPO
from learners.policy_gradient import PolicyGradient
from learners.pretrain import Pretrain
from learners.rejection import Rejection
from learners.schedule import Phases
from learners.team import Team
from models.engine import Engine
from selfplay.types import Episode
from tests.distilling import teacher
from tests.helpers import chat, make_engine, tree
from tests.imitation import SCORE, bandit, chance_of_even, check_resume, same, say, tell
from tests.test_policy_gradient_variants import FAMILY, SEVERAL

NOTHING = [[0.0] * 4] * 3
"""Nobody is right, and so nobody earns anything."""
TURNS = [{"roles": ["solver"], "steps": 1}, {"roles": ["challenger", "solver"], "steps": 1}]


def told(engine: Engine, seed: int, score: Any = SCORE) -> list[Episode]:
    """Three questions of the engine's own with four answers each, and a teacher's and the data's words beside them."""
    prompts = [f"question {'x' * 5 * i}" for i, row in enumerate(score) for _ in row]
    proposals = say(engine, ["Ask."] * len(score), seed + 50)
    words = iter(replace(said, finish="stop") for said in say(engine, prompts, seed))
    episodes = tell(tree(score, None, [[next(words) for _ in row] for row in score], proposals), prompts)
    for episode in episodes:
        episode.turns[0].observation = chat("Ask.")
        episode.case = {**episode.case, "lesson": f"so {seed}"}
    return episodes


def copied(engine: Engine, seed: int, score: Any = SCORE) -> list[Episode]:
    """The data says just what the Solver did."""
    episodes = told(engine, seed, score)
    for episode in episodes:
        episode.case = {**episode.case, "reference": episode.turns[1].action.move}
    return episodes


def speechless(engine: Engine, seed: int, score: Any = SCORE) -> list[Episode]:
    """The teacher says nothing."""
    return [replace(episode, case={**episode.case, "lesson": ""}) for episode in told(engine, seed, score)]


@dataclass(frozen=True)
class Method:
    """``make(engine, folder, **keys)`` is the learner; ``still(engine, seed)`` are games that teach it nothing, None
    where another test tells what it learns of such. ``ordered``: it learns from one game after the other."""

    make: Callable[..., Any]
    still: Callable[[Engine, int], list[Episode]] | None = lambda engine, seed: told(engine, seed, NOTHING)
    ordered: bool = False
    bandit: bool = True


def policy(**options: Any) -> Callable[..., Any]:
    def make(engine: Engine, folder: Path, **keys: Any) -> PolicyGradient:
        reference = make_engine(seed=5).snapshot() if options.get("kl") else None
        return PolicyGradient(engine, reference, **options, **keys)

    return make


def plain(kind: Callable[..., Any], *others: Any, **options: Any) -> Callable[..., Any]:
    return lambda engine, folder, **keys: kind(engine, *(make() for make in others), **options, **keys)


def corpus(engine: Engine, folder: Path, **keys: Any) -> Pretrain:
    (folder / "corpus.txt").write_text("A small corpus.\nIt has a few lines.\n" * 9, encoding="utf-8")
    options: dict[str, Any] = {"weights": ["score"], "contrast": True, "reweight": 0.5, "refresh": 2}
    return Pretrain(engine, folder / "corpus.txt", context=16, corpus_batch=4, **options, **keys)


def team(engine: Engine, folder: Path, **keys: Any) -> Team:
    """One model, of which the roles learn by different losses, with an optimizer each."""
    asks = PolicyGradient(engine, credit="rae_ema", **keys)
    return Team({"challenger": asks, "solver": Rejection(engine, per_query=None, distinct="none", **keys)})


METHODS: dict[str, Method] = {
    **{f"policy, {name}": Method(policy(**options), bandit=False) for name, options in FAMILY.items()},
    "policy, several steps": Method(policy(**FAMILY["dapo"], **SEVERAL), bandit=False),
    "policy, kl in the reward": Method(policy(kl="k1_in_reward", beta=0.1), still=None),
    "policy, kl in the loss": Method(policy(kl="k3_loss", beta=0.1)),
    "policy, rae_ema": Method(policy(credit="rae_ema"), still=None, ordered=True),
    "policy, trr_pp": Method(policy(credit="trr_pp")),
    "policy, reinforce_pp_baseline": Method(policy(credit="reinforce_pp_baseline")),
    "policy, hierarchical": Method(policy(credit="hierarchical")),
    "policy, max_rl": Method(policy(credit="max_rl", shape={"challenger": "learnability"})),
    "rejection": Method(plain(Rejection, epochs=2), bandit=False),
    "rejection, rounds": Method(plain(Rejection, every=2, archive=9, replay=1.0, batch_size=2), None, bandit=False),
    "dpo": Method(plain(DPO), bandit=False),
    "dpo, ipo": Method(plain(DPO, teacher, loss="ipo"), bandit=False),
    "dpo, hinge": Method(plain(DPO, loss="hinge", length_normalized=True, imitate=0.1)),
    "dpo, rounds": Method(plain(DPO, every=2, mix_previous=True, batch_size=2), None, bandit=False),
    "spin": Method(plain(DPO, winner="reference"), copied, bandit=False),
    "distill, sequence": Method(plain(Distill, text="lesson"), speechless, bandit=False),
    "distill, gkd": Method(plain(Distill, teacher, method="gkd", text="lesson"), None, bandit=False),
    "distill, on_policy": Method(plain(Distill, teacher, method="on_policy"), None, bandit=False),
    "pretrain": Method(corpus, None, bandit=False),
    "team": Method(team, None, ordered=True),
    "phases": Method(lambda e, f, **keys: Phases(policy()(e, f, **keys), TURNS)),
    "phases of a team": Method(lambda e, f, **keys: Phases(team(e, f, **keys), TURNS), None, ordered=True),
}


def weights(engine: Engine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in engine.model.named_parameters()}


def chosen(wanted: Callable[[Method], bool]) -> list[str]:
    return [name for name, method in METHODS.items() if wanted(method)]


@pytest.mark.parametrize("name", chosen(lambda method: method.still is not None))
def test_without_a_signal_nothing_moves(name: str, tmp_path: Path) -> None:
    """Not even by the momentum of the step before."""
    method, engine = METHODS[name], make_engine()
    learner = method.make(engine, tmp_path, lr=1e-3, weight_decay=0.1)
    assert learner.update(told(engine, 1))["steps_skipped"] == 0
    before, version = weights(engine), engine.version
    assert method.still is not None
    metrics = learner.update(method.still(engine, 2))
    assert metrics["steps_skipped"] == 1 and metrics["grad_norm"] == 0 and metrics["loss"] == 0
    assert same(weights(engine), before) and engine.version == version


@pytest.mark.parametrize("name", chosen(lambda method: not method.ordered))
def test_the_order_of_the_episodes_means_nothing(name: str, tmp_path: Path) -> None:
    """Two updates, for a round has two; plain gradient steps, so that a difference is not scaled up."""
    found = []
    for shuffle in (False, True):
        engine = make_engine()
        learner = METHODS[name].make(engine, tmp_path, lr=1e-3, optimizer="sgd")
        start, metrics = weights(engine), {}
        for seed in (1, 2):
            episodes = told(make_engine(), seed)
            metrics = learner.update(random.Random(seed).sample(episodes, 12) if shuffle else episodes)
        found.append(({name: p - start[name] for name, p in weights(engine).items()}, metrics))
    (whole, metrics), (shuffled, again) = found
    largest = max(float(moved.abs().max()) for moved in whole.values())
    assert largest > 1e-6, "there is an update to compare"
    assert max(float((shuffled[key] - whole[key]).abs().max()) for key in whole) < 1e-3 * largest
    assert again == pytest.approx(metrics, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_it_goes_on_to_the_byte(name: str, tmp_path: Path) -> None:
    """With baselines, archives, replay, pairs of the round before, the earlier self, the cursor of the corpus and the
    place in the plan; also amid a round."""
    made = tmp_path / "made"
    made.mkdir()
    check_resume(lambda engine: METHODS[name].make(engine, made, lr=1e-3), tmp_path, before=3, after=2, told=told)


@pytest.mark.parametrize("name", chosen(lambda method: method.bandit))
def test_a_bandit_improves(name: str, tmp_path: Path) -> None:
    """One token is worth 1 if its id is even. What is not here has a bandit in a test of its own."""
    engine = make_engine()
    learner = METHODS[name].make(engine, tmp_path, lr=3e-3)
    start = chance_of_even(engine)
    for step in range(25):
        learner.update(bandit(engine, step))
    assert start < 0.7 and chance_of_even(engine) > 0.85
