"""The experiment of SPIRAL: other games of it by one word, opponents by another, and that it learns in every seat."""

from __future__ import annotations

from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from agents.llm import LLM
from learners.policy_gradient import PolicyGradient
from selfplay.compose import build, register_resolvers, resolved
from selfplay.rae import RaeEma
from selfplay.rollout import rollout
from tests.helpers import make_engine
from tests.test_house import CONF

SEATS = {"kuhn_poker": ("first", "second"), "tictactoe": ("x", "o"), "negotiation": ("first", "second")}


def composed(*words: str) -> Any:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=["experiment=spiral", *words])


@pytest.mark.parametrize("game", SEATS)
def test_a_word_chooses_the_game(game: str) -> None:
    cfg = composed(f"env={game}")
    assert cfg.games == 128 and cfg.verifier._target_ == "verifiers.none.Nobody"
    assert cfg.agent.moves == "choose" and cfg.learner.credit == "rae_ema" and cfg.exam.path is None
    assert OmegaConf.to_container(composed().env) == OmegaConf.to_container(composed("env=kuhn_poker").env)
    assert composed("wording=full").agent.moves == "free", "a larger model thinks aloud"
    assert composed("agent.moves=free").agent.moves == "free"


def test_an_opponent_plays_as_the_model_does() -> None:
    """A pool that was asked for by its name chooses among the legal moves where the model does; where the game is not
    of that kind it speaks."""
    cfg = composed("+agent@seats.second=pool")
    assert cfg.seats.second._target_ == "agents.pool.Pool" and cfg.seats.second.moves == "choose"
    assert composed("agent=random_legal", "~agent.moves", "+agent@seats.second=pool").seats.second.moves == "free"


@pytest.mark.parametrize("game", SEATS)
def test_both_seats_learn(game: str) -> None:
    """A step of 12 games: no forfeit among legal moves, a zero sum in every game, a baseline for each of the two roles,
    tokens of both in the update."""
    engine, cfg = make_engine(), composed(f"env={game}")
    games = [build(resolved(cfg.env), []) for _ in range(12)]
    model = LLM(engine, max_tokens=8, moves="choose")
    played = rollout(games, dict.fromkeys(SEATS[game], model), seed=1)
    assert not any(end.forfeit or end.truncated for end in played)
    assert all(sum(end.seats.values()) == 0 for end in played)
    learner = PolicyGradient(engine, credit="rae_ema", kl="none", lr=1e-3, epochs=2, ratio="token", clip="ppo")
    told = learner.update(played)
    assert isinstance(learner.credit, RaeEma)
    baselines = {name: value for (_, name), value in learner.credit.baselines.items()}
    assert set(baselines) == set(SEATS[game]) and sum(baselines.values()) == pytest.approx(0, abs=1e-12)
    assert told["grad_norm"] > 0 and {f"advantage_std/{role}" for role in SEATS[game]} <= set(told)
