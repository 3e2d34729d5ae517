"""The judges that ship with the contracts: a game, an agent, a verifier or a learner either keeps them or not.

Each ``check_*`` raises ``AssertionError`` with a sentence. They are for plugin authors as much as for our own tests.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from selfplay.checks import NASTY
from selfplay.checks.verifier import check_verifier
from selfplay.rollout import role_of, rollout
from selfplay.types import VERIFIER, Action, Agent, Episode, Learner

__all__ = ["NASTY", "check_agent", "check_game", "check_learner", "check_verifier"]


class _Wild:
    """Says nasty text; as a verifier, gives every part a random score."""

    def __init__(self, parts: Sequence[str], seed: int) -> None:
        self._parts, self._seed = parts, seed

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        actions: list[Action] = []
        for seed in seeds:
            rng = random.Random(seed ^ self._seed)
            words = rng.choice(NASTY) if rng.random() < 0.3 else f"{rng.randrange(1000)} {rng.choice('abcxyz')}"
            actions.append(Action({part: rng.random() for part in self._parts} if self._parts else words))
        return actions


def check_game(make: Callable[[], Any], *, games: int = 50) -> None:
    """PettingZoo's own tests, under both of its APIs, then games of nasty text: they end, pay finite numbers, replay to
    the byte from the same seed, and a copy made in the middle goes its own way."""
    import pettingzoo.test
    import pettingzoo.utils.conversions

    tests: Any = pettingzoo.test  # its signatures are only half annotated
    tests.api_test(make(), num_cycles=50)
    tests.seed_test(make, num_cycles=10)
    as_parallel: Any = pettingzoo.utils.conversions.turn_based_aec_to_parallel
    tests.parallel_api_test(as_parallel(make()), num_cycles=50)
    tests.parallel_seed_test(lambda: as_parallel(make()), num_cycles=10)
    game = make()
    parts = tuple(getattr(getattr(game, "unwrapped", game), "parts", ()))
    players: dict[str, Agent] = {role_of(seat): _Wild((), 1) for seat in game.possible_agents}
    players[VERIFIER] = _Wild(parts, 2)
    told = [_tell(rollout([make()], players, seed=seed)) for seed in range(games)]
    assert told == [_tell(rollout([make()], players, seed=seed)) for seed in range(games)], "a game did not replay"
    game.reset(seed=0)
    twin = copy.deepcopy(game)
    before = _look(game)
    while twin.agents:
        twin.step(players[role_of(twin.agent_selection)].act([{}], [1])[0].move if _alive(twin) else None)
    assert _look(game) == before, "playing on in a copy changed the original: __deepcopy__ shares state"


def check_agent(agent: Agent, observations: Sequence[Any] | None = None) -> None:
    """One action per observation; the same seeds give the same actions; a row's action does not depend on the rest
    of the batch; an empty call gives an empty answer."""
    observations = list(observations or [{"system": "", "user": f"Say {n}."} for n in range(4)])
    seeds = list(range(len(observations)))
    assert list(agent.act([], [])) == [], "an empty call must give an empty answer"
    actions = list(agent.act(observations, seeds))
    assert len(actions) == len(observations), f"{len(actions)} actions for {len(observations)} observations"
    assert all(isinstance(action, Action) for action in actions), "act must return Action objects"
    moves = [action.move for action in actions]
    assert moves == [action.move for action in agent.act(observations, seeds)], "the same seeds gave other moves"
    alone = [agent.act([observation], [seed])[0].move for observation, seed in zip(observations, seeds, strict=True)]
    assert moves == alone, "a row's move depends on its batch"


def check_learner(learner: Learner, episodes: Sequence[Episode]) -> None:
    """Metrics are finite floats; an empty step and a step without a signal are survived and counted."""
    nothing: Sequence[Episode] = ()
    for lesson in (nothing, episodes[:1], episodes):  # one episode alone has no siblings, so no signal
        metrics = learner.update(lesson)
        for name, value in metrics.items():
            assert isinstance(value, float) and math.isfinite(value), f"{name} is {value!r}"


def _tell(episodes: Sequence[Episode]) -> list[object]:
    for episode in episodes:
        assert all(not math.isinf(value) for value in episode.returns.values()), "a return is infinite"
    return [([(t.seat, t.observation, t.action.move) for t in e.turns], dict(e.returns)) for e in episodes]


def _look(game: Any) -> str:
    return repr((game.agent_selection, game.observe(game.agent_selection), game.rewards, game.terminations))


def _alive(game: Any) -> bool:
    seat = game.agent_selection
    return not (game.terminations[seat] or game.truncations[seat])
