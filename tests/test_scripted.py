"""The mindless players: stateless, equal when they do the same, and the same in every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scripted import RandomText, Sampled, Scripted
from selfplay.types import Chat

CHAT: Chat = {"system": "", "user": "Your turn."}
SEED = st.integers(0, 2**64 - 1)


def moves(agent: Any, seeds: list[int], observation: Any = CHAT) -> list[Any]:
    actions = agent.act([observation] * len(seeds), seeds)
    assert all(action.completion is None for action in actions)
    return [action.move for action in actions]


def test_scripted_picks_by_seed() -> None:
    assert moves(Scripted(["a", "b", "c"]), [0, 1, 2, 3, 2**64 - 1]) == ["a", "b", "c", "a", "a"]
    assert moves(Scripted([""]), [5]) == [""]


def test_equal_agents_merge() -> None:
    lines = ["a", "b"]
    agent = Scripted(lines)
    lines.append("c")
    assert agent == Scripted(("a", "b")) != Scripted(["b", "a"])
    box = {agent, Scripted(["a", "b"]), RandomText(), RandomText(200), RandomText(5)}
    box |= {Sampled(spaces.Discrete(3)), Sampled(spaces.Discrete(3)), Sampled(spaces.Discrete(4))}
    assert len(box) == 5


@pytest.mark.parametrize("lines", ["a line", [], [1], None])
def test_scripted_refuses(lines: Any) -> None:
    with pytest.raises(ValueError, match="list of at least one line"):
        Scripted(lines)


@settings(max_examples=50, deadline=None)
@given(seeds=st.lists(SEED, max_size=6), limit=st.integers(0, 300))
def test_random_text_is_bounded_and_does_not_see_the_batch(seeds: list[int], limit: int) -> None:
    agent = RandomText(limit)
    batch = moves(agent, seeds)
    assert batch == [moves(agent, [seed])[0] for seed in seeds]
    assert all(isinstance(text, str) and len(text) <= limit for text in batch)


def test_random_text_is_nasty() -> None:
    said = moves(RandomText(60), list(range(3000)))
    assert "" in said
    everything = "".join(said)
    for token in ("<|im_end|>", "</s>", "{query}", "\x00", "\x1b[2J", "\u202e", "\ud83d", "\\boxed{", "漢字"):
        assert token in everything, repr(token)
    assert len(set(said)) > 2900
    with pytest.raises(ValueError, match="max_chars is -1"):
        RandomText(-1)


def test_sampled_is_a_function_of_the_seed() -> None:
    agent = Sampled(spaces.Discrete(100, start=5))
    seeds = [2**63 - 1, 0, 7, 7]
    drawn = moves(agent, seeds)
    assert drawn == [moves(agent, [seed])[0] for seed in seeds]
    assert drawn[2] == drawn[3]
    assert all(type(move) is int and 5 <= move < 105 for move in drawn)
    assert len(set(moves(agent, list(range(200))))) > 60


def test_sampled_leaves_the_environments_space_alone() -> None:
    mine, other = spaces.Discrete(1000, seed=3), spaces.Discrete(1000, seed=3)
    moves(Sampled(mine), [1, 2, 3])
    assert [mine.sample() for _ in range(5)] == [other.sample() for _ in range(5)]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, bool])
def test_sampled_obeys_the_mask(dtype: Any) -> None:
    observation = {"observation": np.zeros(3), "action_mask": np.array([0, 1, 0, 1, 0], dtype=dtype)}
    assert set(moves(Sampled(spaces.Discrete(5)), list(range(50)), observation)) == {1, 3}


def test_sampled_other_spaces() -> None:
    space = spaces.MultiDiscrete([2, 3])
    mask = (np.array([0, 1]), np.array([1, 0, 0]))
    (move,) = moves(Sampled(space), [4], {"action_mask": mask})
    assert move.tolist() == [1, 0]
    nested = spaces.Dict(a=spaces.Discrete(9), b=spaces.Box(-1, 1, (2,)))
    (first,), (second,) = moves(Sampled(nested), [4]), moves(Sampled(nested), [4])
    assert nested.contains(first) and first["a"] == second["a"] and (first["b"] == second["b"]).all()


def test_sampled_plays_a_stock_environment() -> None:
    """A game that PettingZoo ships, with five and more seats that come and go and a mask in the observation."""
    from pettingzoo.test.example_envs import generated_agents_env_action_mask_obs_v0 as stock

    env: Any = stock.raw_env()  # this toy draws a new mask at every look, so its wrapper would judge by another one
    env.reset(seed=0)
    masked = 0
    for step, name in enumerate(env.agent_iter(max_iter=200)):
        observation, _, terminated, truncated, _ = env.last()
        if terminated or truncated:
            env.step(None)
            continue
        move = Sampled(env.action_space(name)).act([observation], [step])[0].move
        mask = observation["action_mask"]
        if mask.any():
            assert mask[move] == 1
            masked += not mask.all()
        env.step(move)
    assert masked > 50, "the masks said something"
