"""Playing many copies of a game in lockstep, with branching: the tree of turns that credit is read from."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
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
    cohorts: int = 1,
    max_turns: int = 1_000,
    watch: Callable[[str], AbstractContextManager[Any]] | None = None,
) -> list[Episode]:
    """Play every environment to its end and return one episode per leaf, in the order of the tree.

    ``envs`` are PettingZoo AEC environments (reset here); ``agents`` maps a seat or a role to its player, the
    verifier among them; before a role speaks every copy of the game forks ``branch[role]`` ways, and the turns that
    answer from one fork are a group. Equal agents share one ``act`` call per tick, and the verifier speaks only when
    nobody else has a turn, so all siblings are judged together. ``watch`` times the phases ``generate`` and ``judge``.

    With ``cohorts`` above 1 the tables are split after the first turn, and one cohort is judged while the next one
    plays, as far as the verifiers can work beside it (``Panel.begin``). Siblings of the first turn are then judged in
    different calls, all others still in one.

    Table i of root r draws its random numbers from its place in the tree alone: batched and solo play are the same.
    Raises ``RolloutError`` for an empty seat, a wrong number of actions, or a game longer than ``max_turns``.
    """
    for role, ways in (branch or {}).items():
        if ways < 1:
            raise RolloutError(f"branch.{role}={ways}: a game has at least one branch")
    if cohorts < 1:
        raise RolloutError(f"cohorts={cohorts}: the tables play in at least one cohort")
    tables: list[_Table] = []
    for number, env in enumerate(envs):
        table = _Table(env, derive(seed, "table", number))
        env.reset(seed=derive(table.seed, "reset") % 2**32)
        tables.append(table)
    first = _Cohort(tables, agents, branch or {}, watch or (lambda phase: nullcontext()), max_turns)
    together = first.split(cohorts) if cohorts > 1 and first.play_turn() else [first]
    while asked := [cohort for cohort in together if cohort.play_to_verdict()]:
        for cohort in asked:
            cohort.hear_verdict()
    return [table.episode() for cohort in together for table in cohort.tables]


class _Cohort:
    """Tables that play in lockstep: every table's players have a turn each tick, and verifiers when no player has."""

    def __init__(
        self,
        tables: list[_Table],
        agents: Mapping[str, Agent],
        branch: Mapping[str, int],
        watch: Callable[[str], AbstractContextManager[Any]],
        max_turns: int,
        turns: int = 0,
        beside: bool = False,
    ) -> None:
        self.tables, self._agents, self._branch, self._watch = tables, agents, branch, watch
        self._max_turns, self._turns, self._beside = max_turns, turns, beside
        self._done: set[int] = set()
        self._verdicts: list[Callable[[], None]] = []

    def split(self, number: int) -> list[_Cohort]:
        """The same tables, in order, in at most ``number`` cohorts of nearly equal size."""
        size = -(-len(self.tables) // number)
        parts = [self.tables[i : i + size] for i in range(0, len(self.tables), size)]
        settings = (self._agents, self._branch, self._watch, self._max_turns, self._turns)
        return [_Cohort(part, *settings, beside=True) for part in parts]

    def play_turn(self) -> bool:
        """Let every player whose turn it is act; whether there was one."""
        speaking = {id(table) for table in self._live() if role_of(table.env.agent_selection) != VERIFIER}
        if speaking:
            with self._watch("generate"):
                for answer in self._speak(speaking):
                    answer()
        return bool(speaking)

    def play_to_verdict(self) -> bool:
        """Play until only verifiers have a turn, and ask them; whether there was anybody to ask."""
        while self.play_turn():
            pass
        judging = {id(table) for table in self._live()}
        if judging:
            with self._watch("judge"):
                self._verdicts = self._speak(judging)
        return bool(judging)

    def hear_verdict(self) -> None:
        """Wait for the verdicts that were asked for, and play them."""
        with self._watch("judge"):
            for verdict in self._verdicts:
                verdict()
        self._verdicts = []

    def _live(self) -> list[_Table]:
        fresh = [table for table in self.tables if id(table) not in self._done]
        self._done |= {id(table) for table in fresh if not table.settle()}
        return [table for table in fresh if id(table) not in self._done]

    def _speak(self, speaking: set[int]) -> list[Callable[[], None]]:
        """Fork the tables and ask their agents; what is returned plays the answers."""
        if self._turns == self._max_turns:
            raise RolloutError(f"{_name(self.tables[0].env)} has not ended after {self._max_turns} turns")
        self._turns += 1
        self.tables, turns = _fork(self.tables, speaking, self._branch)
        return _ask(turns, self._agents, self._beside)


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


def _ask(turns: list[tuple[_Table, int]], agents: Mapping[str, Agent], beside: bool) -> list[Callable[[], None]]:
    """Ask every table's seat for its move, equal agents in one call; what is returned waits and plays the moves.

    An agent that has ``begin`` may work ``beside`` others until it is waited for; any other one acts when it is.
    """
    calls: list[tuple[Agent, list[int]]] = []
    for number, (table, _) in enumerate(turns):
        agent = _seated(agents, table.env.agent_selection)
        for other, rows in calls:
            if other is agent or other == agent:
                rows.append(number)
                break
        else:
            calls.append((agent, [number]))
    answers: list[Callable[[], None]] = []
    for agent, rows in calls:
        seats = [turns[i][0].env.agent_selection for i in rows]
        observations = [turns[i][0].env.observe(seat) for i, seat in zip(rows, seats, strict=True)]
        seeds = [derive(turns[i][0].seed, len(turns[i][0].turns)) for i in rows]
        begin: Callable[[Sequence[Any]], Callable[[], Sequence[Action]]] | None
        begin = getattr(agent, "begin", None) if beside else None
        wait = begin(observations) if begin else partial(agent.act, observations, seeds)
        answers.append(partial(_play, agent, wait, [turns[i] for i in rows], seats, observations))
    return answers


def _play(
    agent: Agent,
    wait: Callable[[], Sequence[Action]],
    turns: Sequence[tuple[_Table, int]],
    seats: Sequence[str],
    observations: Sequence[Any],
) -> None:
    actions = wait()
    if len(actions) != len(turns):
        raise RolloutError(f"{type(agent).__name__} gave {len(actions)} actions for {len(turns)} observations")
    for (table, group), seat, observation, action in zip(turns, seats, observations, actions, strict=True):
        table.play(seat, observation, action, group)


def _name(env: Any) -> str:
    return str(getattr(env, "metadata", {}).get("name", type(env).__name__))


def _seated(agents: Mapping[str, Agent], seat: str) -> Agent:
    agent = agents[seat] if seat in agents else agents.get(role_of(seat))  # an agent may well be falsy
    if agent is None:
        raise RolloutError(f"nobody sits in the seat {seat!r}: the seats taken are {', '.join(agents) or 'none'}")
    return agent
