"""Every shipped game survives whatever is said in it: noise, and legal moves at random, which lead further."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest

import envs
from agents.scripted import RandomText
from envs import shipped
from selfplay.playing import role_of
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action, Episode

WORDS = ("yes", "no", "1", "-7", "a b c", "42", "x", "I know the word! It is cat!", "[Accept]", "f(x):\n  return x")


class Wild:
    """Mostly a legal move where there is a list, plain words where there is none, and now and then anything at all."""

    def __init__(self, noise: float) -> None:
        self._noise, self._text = noise, RandomText(60)

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return self.choose(observations, seeds, [{} for _ in seeds])

    def choose(
        self, observations: Sequence[Any], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        return [self._one(random.Random(seed), seed, info) for seed, info in zip(seeds, infos, strict=True)]

    def _one(self, rng: random.Random, seed: int, info: Mapping[str, Any]) -> Action:
        if rng.random() < self._noise:
            return self._text.act([{}], [seed])[0]
        return Action(rng.choice(info.get("legal_actions") or WORDS))


class Coin:
    """A verdict at random, nan now and then."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        self._parts = parts

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        draws = [random.Random(seed) for seed in seeds]
        return [Action({part: float("nan") if d.random() < 0.1 else d.random() for part in self._parts}) for d in draws]


def play(name: str, games: int, seed: int, noise: float) -> list[Episode]:
    game: Any = shipped.raw(name, wording="short" if seed % 2 else "full")
    players: dict[str, Any] = {role_of(seat): Wild(noise) for seat in game.possible_agents}
    copies = [deepcopy(game) for _ in range(games)]
    return rollout(copies, {**players, VERIFIER: Coin(game.parts)}, seed=seed, max_turns=300)


def check(episodes: list[Episode]) -> None:
    for episode in episodes:
        assert episode.turns and len(episode.paid) == len(episode.turns)
        assert all(abs(earned) < 1e6 or earned != earned for earned in episode.seats.values())
        assert not episode.truncated


@pytest.mark.parametrize("name", envs.NAMES)
def test_whatever_is_said(name: str) -> None:
    for seed, noise in enumerate((1.0, 0.05)):
        check(play(name, 60, seed, noise))


@pytest.mark.slow
@pytest.mark.parametrize("name", envs.NAMES)
def test_ten_thousand_games(name: str) -> None:
    for seed in range(20):
        check(play(name, 500, seed, (1.0, 0.3, 0.05, 0.0)[seed % 4]))
