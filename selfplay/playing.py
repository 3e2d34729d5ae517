"""One copy of a game as it is played: its turns, what every seat was paid, who sits there, and its forks."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Episode, Turn

_SEAT_NUMBER = re.compile(r"_\d+$")
NOTHING: Mapping[str, Any] = {}


@lru_cache(maxsize=4096)
def role_of(seat: str) -> str:
    """``solver_0`` -> ``solver``."""
    return _SEAT_NUMBER.sub("", seat)


@dataclass(slots=True)
class Table:
    """One copy of the game and what has happened at it. Its lists and mappings are replaced, never changed: forks share
    them."""

    env: Any
    seed: int
    turns: tuple[Turn, ...] = ()
    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    paid: tuple[Mapping[str, float], ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    personas: Mapping[str, str] = field(default_factory=dict[str, str])
    forfeit: str = ""
    truncated: bool = False

    def fork(self, number: int) -> Table:
        """The same past, another future."""
        seed = derive(self.seed, "fork", len(self.turns), number)
        return replace(self, env=copy.deepcopy(self.env), seed=seed)

    def settle(self) -> bool:
        """Step the seats that are done out of the game; whether anybody is left."""
        env = self.env
        while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
            self.truncated = self.truncated or bool(env.truncations[env.agent_selection])
            env.step(None)
        return bool(env.agents)

    def role(self, seat: str) -> str:
        """The role that the seat was dealt, or has by its name."""
        return self.env.infos.get(seat, NOTHING).get("role") or role_of(seat)

    def waiting(self) -> Sequence[str]:
        """The seats whose turn it is at once, first the one that is played first."""
        return getattr(self.env, "waiting", None) or (self.env.agent_selection,)

    def play(self, seat: str, observation: Any, action: Action, group: int) -> None:
        role = self.role(seat)
        if self.roles.get(seat) != role:  # somebody who was not at the table when it was opened
            self.roles = {**self.roles, seat: role}
        self.turns = (*self.turns, Turn(role, seat, observation, action, group))
        self.env.step(action.move)
        paid = {name: float(reward) for name, reward in self.env.rewards.items() if reward}
        if paid or not self.env.rewards.keys() <= self.rewards.keys():  # most turns pay nobody
            before = {**dict.fromkeys(self.env.rewards, 0.0), **self.rewards}
            self.rewards = {**before, **{name: before[name] + reward for name, reward in paid.items()}}
        self.paid = (*self.paid, paid)
        if self.env.infos.get(seat, NOTHING).get("forfeit"):
            self.forfeit = role

    def episode(self) -> Episode:
        shares: dict[str, list[float]] = {}
        seats = {seat: reward for seat, reward in self.rewards.items() if role_of(seat) != VERIFIER}
        roles = {seat: self.roles.get(seat) or role_of(seat) for seat in seats}
        for seat, reward in seats.items():
            shares.setdefault(roles[seat], []).append(reward)
        last = self.turns[-1] if self.turns and self.turns[-1].role == VERIFIER else None
        return Episode(
            turns=self.turns,
            returns={role: sum(values) / len(values) for role, values in shares.items()},
            case=dict(last.observation) if last else {},
            verdict=dict(last.action.move) if last else {},
            forfeit=self.forfeit,
            game=name_of(self.env),
            seats=seats,
            personas=self.personas,
            roles=roles,
            paid=self.paid,
            truncated=self.truncated,
        )


def open_tables(envs: Sequence[Any], seed: int) -> list[Table]:
    """The tables of a rollout before anybody has spoken.

    ``options["table"]`` numbers them on from a number that the rollout's seed draws: what a game takes in turn, table
    after table, as pairs of personas, begins somewhere else in every rollout, and none is left out for good.
    """
    tables, first = list[Table](), derive(seed, "first table")
    for number, env in enumerate(envs):
        table = Table(env, derive(seed, "table", number))
        env.reset(seed=derive(table.seed, "reset") % 2**32, options={"table": first + number})
        table.roles = {seat: table.role(seat) for seat in env.agents}
        table.personas = {seat: str(info["persona"]) for seat, info in env.infos.items() if info.get("persona")}
        tables.append(table)
    return tables


def name_of(env: Any) -> str:
    return str(getattr(env, "metadata", {}).get("name", type(env).__name__))
