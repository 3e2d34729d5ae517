"""Playing many copies of a game in lockstep, with branching: the tree of turns that credit is read from."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Agent, Episode, Turn

_SEAT_NUMBER = re.compile(r"_\d+$")


class RolloutError(RuntimeError):
    """A game that cannot go on, in one sentence."""


def role_of(seat: str) -> str:
    """``solver_0`` -> ``solver``."""
    return _SEAT_NUMBER.sub("", seat)


@dataclass(slots=True)
class _Table:
    """One copy of the game and what has happened at it."""

    env: Any
    seed: int
    turns: tuple[Turn, ...] = ()
    rewards: dict[str, float] = field(default_factory=dict[str, float])
    forfeit: str = ""

    def fork(self, number: int) -> _Table:
        """The same past, another future."""
        seed = derive(self.seed, "fork", len(self.turns), number)
        return _Table(copy.deepcopy(self.env), seed, self.turns, dict(self.rewards), self.forfeit)

    def settle(self) -> bool:
        """Step the seats that are done out of the game; whether anybody is left."""
        env = self.env
        while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
            env.step(None)
        return bool(env.agents)

    def play(self, seat: str, observation: Any, action: Action, group: int) -> None:
        self.turns = (*self.turns, Turn(role_of(seat), seat, observation, action, group))
        self.env.step(action.move)
        for name, reward in self.env.rewards.items():
            self.rewards[name] = self.rewards.get(name, 0.0) + float(reward)
        if self.env.infos.get(seat, {}).get("forfeit"):
            self.forfeit = role_of(seat)

    def episode(self) -> Episode:
        shares: dict[str, list[float]] = {}
        for seat, reward in self.rewards.items():
            if role_of(seat) != VERIFIER:
                shares.setdefault(role_of(seat), []).append(reward)
        last = self.turns[-1] if self.turns and self.turns[-1].role == VERIFIER else None
        return Episode(
            turns=self.turns,
            returns={role: sum(values) / len(values) for role, values in shares.items()},
            case=dict(last.observation) if last else {},
            verdict=dict(last.action.move) if last else {},
            forfeit=self.forfeit,
            game=_name(self.env),
        )


def rollout(
    envs: Sequence[Any],
    agents: Mapping[str, Agent],
    branch: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    max_turns: int = 1_000,
    watch: Callable[[str], AbstractContextManager[Any]] | None = None,
) -> list[Episode]:
    """Play every environment to its end and return one episode per leaf, in the order of the tree.

    ``envs`` are PettingZoo AEC environments (reset here); ``agents`` maps a seat or a role to its player, the
    verifier among them; before a role speaks every copy of the game forks ``branch[role]`` ways, and the turns that
    answer from one fork are a group. Equal agents share one ``act`` call per tick, and the verifier speaks only when
    nobody else has a turn, so all siblings are judged together. ``watch`` times the phases ``generate`` and ``judge``.

    Table i of root r draws its random numbers from its place in the tree alone: batched and solo play are the same.
    Raises ``RolloutError`` for an empty seat, a wrong number of actions, or a game longer than ``max_turns``.
    """
    for role, ways in (branch or {}).items():
        if ways < 1:
            raise RolloutError(f"branch.{role}={ways}: a game has at least one branch")
    watch = watch or (lambda phase: nullcontext())
    tables: list[_Table] = []
    for number, env in enumerate(envs):
        table = _Table(env, derive(seed, "table", number))
        env.reset(seed=derive(table.seed, "reset") % 2**32)
        tables.append(table)
    done: set[int] = set()
    for _ in range(max_turns + 1):
        done |= {id(table) for table in tables if id(table) not in done and not table.settle()}
        live = [table for table in tables if id(table) not in done]
        if not live:
            return [table.episode() for table in tables]
        speaking = {id(table) for table in live if role_of(table.env.agent_selection) != VERIFIER}
        phase = "generate" if speaking else "judge"
        speaking = speaking or {id(table) for table in live}
        tables, turns = _fork(tables, speaking, branch or {})
        with watch(phase):
            _speak(turns, agents)
    raise RolloutError(f"{_name(tables[0].env)} has not ended after {max_turns} turns")


def _fork(
    tables: list[_Table], speaking: set[int], branch: Mapping[str, int]
) -> tuple[list[_Table], list[tuple[_Table, int]]]:
    """All tables with the speaking ones branched in place, and the branches with their groups.

    A group is named by its place in the tree and the rollout's seed: the same in a replay, another in every rollout.
    """
    after: list[_Table] = []
    turns: list[tuple[_Table, int]] = []
    for table in tables:
        if id(table) not in speaking:
            after.append(table)
            continue
        ways = branch.get(role_of(table.env.agent_selection), 1)
        group = derive(table.seed, "group", len(table.turns))
        branches = [table] if ways == 1 else [table.fork(number) for number in range(ways)]
        after += branches
        turns += [(child, group) for child in branches]
    return after, turns


def _speak(turns: list[tuple[_Table, int]], agents: Mapping[str, Agent]) -> None:
    """Let every table's seat act once; equal agents answer in one call."""
    calls: list[tuple[Agent, list[int]]] = []
    for number, (table, _) in enumerate(turns):
        agent = _seated(agents, table.env.agent_selection)
        for other, rows in calls:
            if other is agent or other == agent:
                rows.append(number)
                break
        else:
            calls.append((agent, [number]))
    for agent, rows in calls:
        seats = [turns[i][0].env.agent_selection for i in rows]
        observations = [turns[i][0].env.observe(seat) for i, seat in zip(rows, seats, strict=True)]
        seeds = [derive(turns[i][0].seed, len(turns[i][0].turns)) for i in rows]
        actions = agent.act(observations, seeds)
        if len(actions) != len(rows):
            raise RolloutError(f"{type(agent).__name__} gave {len(actions)} actions for {len(rows)} observations")
        for i, seat, observation, action in zip(rows, seats, observations, actions, strict=True):
            table, group = turns[i]
            table.play(seat, observation, action, group)


def _name(env: Any) -> str:
    return str(getattr(env, "metadata", {}).get("name", type(env).__name__))


def _seated(agents: Mapping[str, Agent], seat: str) -> Agent:
    agent = agents[seat] if seat in agents else agents.get(role_of(seat))  # an agent may well be falsy
    if agent is None:
        raise RolloutError(f"nobody sits in the seat {seat!r}: the seats taken are {', '.join(agents) or 'none'}")
    return agent
