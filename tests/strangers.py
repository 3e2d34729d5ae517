"""What the tests of other people's games share: random play that can be told, copied and compared."""

from __future__ import annotations

import copy
import random
from typing import Any

from agents.random_legal import RandomLegal
from selfplay.rollout import rollout
from selfplay.types import Episode

PLAYER = RandomLegal()


def told(episodes: list[Episode]) -> list[object]:
    """All that happened, to be compared."""
    return [
        ([(t.seat, t.role, dict(t.observation), t.action.move) for t in e.turns], dict(e.returns), e.forfeit)
        for e in episodes
    ]


def random_games(game: Any, number: int, seed: int = 0, max_turns: int = 300) -> list[Episode]:
    """So many games of random players, in one rollout."""
    players = dict.fromkeys(game.possible_agents, PLAYER)
    return rollout([copy.deepcopy(game) for _ in range(number)], players, seed=seed, max_turns=max_turns)


def walk(game: Any, rng: random.Random, turns: int) -> list[object]:
    """So many random turns, and what was seen and paid."""
    seen: list[object] = []
    for _ in range(turns):
        if not game.agents or game.terminations[game.agent_selection] or game.truncations[game.agent_selection]:
            break
        seat = game.agent_selection
        observation = game.observe(seat)
        move = PLAYER.choose([observation], [rng.getrandbits(32)], [game.infos[seat]])[0].move
        game.step(move)
        seen.append((seat, observation, move, dict(game.rewards), dict(game.infos[seat])))
    return seen


def assert_a_copy_goes_its_own_way(game: Any, seed: int, turns: int) -> None:
    """A copy in the middle, played on with the same choices, sees the same as the original; and neither the other."""
    game.reset(seed=seed)
    walk(game, random.Random(seed), turns)
    twin, other = copy.deepcopy(game), copy.deepcopy(game)
    walk(other, random.Random(seed + 99), 50)  # chance moves there must not move here
    assert walk(twin, random.Random(seed + 1), 50) == walk(game, random.Random(seed + 1), 50)
