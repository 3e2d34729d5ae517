"""Tables that play in lockstep: copies of a game that branch, and whose players act together, one batch a turn."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from selfplay.pipeline import Opening, fingerprint
from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Agent, Episode, Turn

Watch = Callable[[str], AbstractContextManager[Any]]
"""Times what happens within ``with watch(phase):``."""

_SEAT_NUMBER = re.compile(r"_\d+$")


class RolloutError(RuntimeError):
    """A game that cannot go on, in one sentence."""


@lru_cache(maxsize=4096)
def role_of(seat: str) -> str:
    """``solver_0`` -> ``solver``."""
    return _SEAT_NUMBER.sub("", seat)


@dataclass(slots=True)
class Table:
    """One copy of the game and what has happened at it."""

    env: Any
    seed: int
    turns: tuple[Turn, ...] = ()
    rewards: dict[str, float] = field(default_factory=dict[str, float])
    forfeit: str = ""

    def fork(self, number: int) -> Table:
        """The same past, another future."""
        seed = derive(self.seed, "fork", len(self.turns), number)
        return Table(copy.deepcopy(self.env), seed, self.turns, dict(self.rewards), self.forfeit)

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
            if reward or name not in self.rewards:  # most seats earn nothing on most turns
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


def open_tables(envs: Sequence[Any], seed: int) -> list[Table]:
    """The tables of a rollout before anybody has spoken."""
    tables: list[Table] = []
    for number, env in enumerate(envs):
        table = Table(env, derive(seed, "table", number))
        env.reset(seed=derive(table.seed, "reset") % 2**32)
        tables.append(table)
    return tables


class Cohort:
    """Tables that play in lockstep: every table's players have a turn each tick, and verifiers when no player has."""

    def __init__(
        self,
        tables: list[Table],
        agents: Mapping[str, Agent],
        branch: Mapping[str, int],
        watch: Watch,
        max_turns: int,
        turns: int = 0,
        beside: bool = False,
    ) -> None:
        self.tables, self._agents, self._branch, self._watch = tables, agents, branch, watch
        self._max_turns, self._turns, self._beside = max_turns, turns, beside
        self._done: set[int] = set()
        self._verdicts: list[Callable[[], None]] = []

    def split(self, number: int) -> list[Cohort]:
        """The same tables, in order, in at most ``number`` cohorts of nearly equal size."""
        size = -(-len(self.tables) // number)
        parts = [self.tables[i : i + size] for i in range(0, len(self.tables), size)]
        settings = (self._agents, self._branch, self._watch, self._max_turns, self._turns)
        return [Cohort(part, *settings, beside=True) for part in parts]

    def play_turn(self, ahead: Cohort | None = None) -> bool:
        """Let every player whose turn it is act, those of ``ahead`` beside them; whether there was one here."""
        speaking = self._players()
        if speaking:
            with self._watch("generate"):
                turns = self._fork(speaking)
                if ahead is not None:
                    turns += ahead._fork(ahead._players())
                for answer in _ask(turns, self._agents, self._beside):
                    answer()
        return bool(speaking)

    def play_openings(self, openings: Sequence[Opening]) -> bool:
        """Play the first turns that were played ahead in place of asking for them; whether there were any."""
        turns = self._fork(self._players())
        if len(turns) != len(openings):
            raise RolloutError(f"{len(openings)} first turns were played ahead, and the tables have {len(turns)}")
        for (table, group), opening in zip(turns, openings, strict=True):
            seat = table.env.agent_selection
            observation = table.env.observe(seat)
            if (seat, fingerprint(observation)) != (opening.seat, opening.told):
                raise RolloutError(
                    f"{_name(table.env)} begins otherwise than when its first turn was played ahead: it does not "
                    "depend on reset(seed) alone, so set pipeline=false"
                )
            table.play(seat, observation, opening.action, group)
        return bool(turns)

    def openings(self) -> list[Opening]:
        """What was played at the tables so far, as the first turns of a rollout that begins later."""
        firsts = [table.turns[0] for table in self.tables if table.turns]
        return [Opening(turn.seat, fingerprint(turn.observation), turn.action) for turn in firsts]

    def play_to_verdict(self) -> bool:
        """Play until only verifiers have a turn, and ask them; whether there was anybody to ask."""
        while self.play_turn():
            pass
        judging = {id(table) for table in self._live()}
        if judging:
            with self._watch("judge"):
                self._verdicts = _ask(self._fork(judging), self._agents, self._beside)
        return bool(judging)

    def hear_verdict(self) -> None:
        """Wait for the verdicts that were asked for, and play them."""
        with self._watch("judge"):
            for verdict in self._verdicts:
                verdict()
        self._verdicts = []

    def _live(self) -> list[Table]:
        fresh = [table for table in self.tables if id(table) not in self._done]
        self._done |= {id(table) for table in fresh if not table.settle()}
        return [table for table in fresh if id(table) not in self._done]

    def _players(self) -> set[int]:
        """The tables at which a player has a turn."""
        return {id(table) for table in self._live() if role_of(table.env.agent_selection) != VERIFIER}

    def _fork(self, speaking: set[int]) -> list[tuple[Table, int]]:
        """Branch the speaking tables; the branches with their groups, who have a turn now."""
        if speaking and self._turns == self._max_turns:
            raise RolloutError(f"{_name(self.tables[0].env)} has not ended after {self._max_turns} turns")
        self._turns += 1
        self.tables, turns = _fork(self.tables, speaking, self._branch)
        return turns


def _fork(
    tables: list[Table], speaking: set[int], branch: Mapping[str, int]
) -> tuple[list[Table], list[tuple[Table, int]]]:
    """All tables with the speaking ones branched in place, and the branches with their groups.

    A group is named by its place in the tree and the rollout's seed: the same in a replay, another in every rollout.
    """
    after: list[Table] = []
    turns: list[tuple[Table, int]] = []
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


def _ask(turns: list[tuple[Table, int]], agents: Mapping[str, Agent], beside: bool) -> list[Callable[[], None]]:
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
    turns: Sequence[tuple[Table, int]],
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
