"""Tables that play in lockstep: copies of a game that branch, and whose players act together, one batch a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from selfplay.pipeline import Opening, fingerprint
from selfplay.playing import NOTHING, Table, name_of, role_of
from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Agent, Chooser

MOST = 1 << 18
"""Games that a rollout may branch into."""

Watch = Callable[[str], AbstractContextManager[Any]]
"""Times what happens within ``with watch(phase):``."""


class RolloutError(RuntimeError):
    """A game that cannot go on, in one sentence."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A seat that has a turn: its table, its place among those of the table that speak at once, and its group."""

    table: Table
    seat: str
    group: int
    seed: int


class Cohort:
    """Tables that play in lockstep: every table's players have a turn each tick, and verifiers when no player has."""

    def __init__(
        self,
        tables: list[Table],
        agents: Mapping[str, Agent],
        branch: Mapping[str, int],
        watch: Watch,
        max_turns: int,
        beside: bool = False,
    ) -> None:
        self.tables, self._agents, self._branch, self._watch = tables, agents, branch, watch
        self._max_turns, self._beside = max_turns, beside
        self._done: set[int] = set()
        self._verdict: Callable[[], None] = _silence

    def split(self, number: int) -> list[Cohort]:
        """The same tables, in order, in at most ``number`` cohorts of nearly equal size."""
        size = -(-len(self.tables) // number)
        parts = [self.tables[i : i + size] for i in range(0, len(self.tables), size)]
        settings = (self._agents, self._branch, self._watch, self._max_turns)
        return [Cohort(part, *settings, beside=True) for part in parts]

    def play_turn(self, ahead: Cohort | None = None) -> bool:
        """Let every player whose turn it is act, those of ``ahead`` beside them; whether there was one here."""
        speaking = self._players()
        if speaking:
            with self._watch("generate"):
                turns = self._fork(speaking)
                if ahead is not None:
                    turns += ahead._fork(ahead._players(), alone=True)
                _ask(turns, self._agents, self._beside)()
        return bool(speaking)

    def play_openings(self, openings: Sequence[Opening]) -> bool:
        """Play the first turns that were played ahead in place of asking for them; whether there were any."""
        turns = self._fork(self._players(), alone=True)
        if len(turns) != len(openings):
            raise RolloutError(f"{len(openings)} first turns were played ahead, and the tables have {len(turns)}")
        for asked, opening in zip(turns, openings, strict=True):
            observation = asked.table.env.observe(asked.seat)
            if (asked.seat, fingerprint(observation)) != (opening.seat, opening.told):
                raise RolloutError(
                    f"{name_of(asked.table.env)} begins otherwise than when its first turn was played ahead: it does "
                    "not depend on reset(seed) alone, so set pipeline=false"
                )
            asked.table.play(asked.seat, observation, opening.action, asked.group)
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
                self._verdict = _ask(self._fork(judging), self._agents, self._beside)
        return bool(judging)

    def hear_verdict(self) -> None:
        """Wait for the verdicts that were asked for, and play them."""
        with self._watch("judge"):
            self._verdict()

    def _live(self) -> list[Table]:
        fresh = [table for table in self.tables if id(table) not in self._done]
        for table in fresh:
            if not table.settle():
                self._done.add(id(table))
            elif len(table.turns) >= self._max_turns and role_of(table.env.agent_selection) != VERIFIER:
                table.truncated = True
                self._done.add(id(table))
        return [table for table in fresh if id(table) not in self._done]

    def _players(self) -> set[int]:
        """The tables at which a player has a turn."""
        return {id(table) for table in self._live() if role_of(table.env.agent_selection) != VERIFIER}

    def _fork(self, speaking: set[int], alone: bool = False) -> list[Asked]:
        """Branch the speaking tables; who has a turn now, ``alone`` or with those who speak at the same time."""
        self.tables, turns = _fork(self.tables, speaking, self._branch, alone)
        return turns


def _fork(
    tables: list[Table], speaking: set[int], branch: Mapping[str, int], alone: bool
) -> tuple[list[Table], list[Asked]]:
    """All tables with the speaking ones branched in place, and who is asked.

    A group is named by its place in the tree and the rollout's seed: the same in a replay, another in every rollout.
    Of those who speak at once the first may branch; who comes after it is asked with it, up to the next that branches.
    """
    after: list[Table] = []
    turns: list[Asked] = []
    forks = {id(table): branch.get(table.role(table.waiting()[0]), 1) for table in tables if id(table) in speaking}
    if len(tables) + sum(forks.values()) - len(forks) > MOST:
        names = ", ".join(f"branch.{role}={ways}" for role, ways in branch.items() if ways > 1)
        raise RolloutError(f"{names} make more than {MOST} games, for every turn of these roles branches: lower them")
    for table in tables:
        if id(table) not in speaking:
            after.append(table)
            continue
        first, *others = table.waiting()
        ways = forks[id(table)]
        group = derive(table.seed, "group", len(table.turns))
        branches = [table] if ways == 1 else [table.fork(number) for number in range(ways)]
        after += branches
        beside = [] if alone else _one_way(table, others, branch)
        for child in branches:
            turns.append(Asked(child, first, group, derive(child.seed, len(child.turns))))
            for place, seat in enumerate(beside, len(child.turns) + 1):
                turns.append(Asked(child, seat, derive(child.seed, "group", place), derive(child.seed, place)))
    return after, turns


def _one_way(table: Table, seats: Iterable[str], branch: Mapping[str, int]) -> list[str]:
    """The seats up to the first that branches."""
    return list(takewhile(lambda seat: branch.get(table.role(seat), 1) == 1, seats))


def _ask(turns: Sequence[Asked], agents: Mapping[str, Agent], beside: bool) -> Callable[[], None]:
    """Ask every seat for its move, equal agents in one call; what is returned waits and plays the moves.

    An agent that has ``begin`` may work ``beside`` others until it is waited for; any other one acts when it is.
    """
    calls: list[tuple[Agent, list[int]]] = []
    for number, asked in enumerate(turns):
        agent = _seated(agents, asked.table, asked.seat)
        for other, rows in calls:
            if other is agent or other == agent:
                rows.append(number)
                break
        else:
            calls.append((agent, [number]))
    observations = [asked.table.env.observe(asked.seat) for asked in turns]
    waits = [(agent, rows, _begin(agent, turns, observations, rows, beside)) for agent, rows in calls]

    def play() -> None:
        actions: list[Action | None] = [None] * len(turns)
        for agent, rows, wait in waits:
            found = wait()
            if len(found) != len(rows):
                raise RolloutError(f"{type(agent).__name__} gave {len(found)} actions for {len(rows)} observations")
            for row, action in zip(rows, found, strict=True):
                actions[row] = action
        for asked, observation, action in zip(turns, observations, actions, strict=True):
            if action is not None and asked.seat in asked.table.waiting():  # else the game ended before their turn
                asked.table.play(asked.seat, observation, action, asked.group)

    return play


def _begin(
    agent: Agent, turns: Sequence[Asked], observations: Sequence[Any], rows: Sequence[int], beside: bool
) -> Callable[[], Sequence[Action]]:
    """Ask one agent for the moves of its rows; what is returned waits for them."""
    told, seeds = [observations[row] for row in rows], [turns[row].seed for row in rows]
    begin: Callable[[Sequence[Any]], Callable[[], Sequence[Action]]] | None
    begin = getattr(agent, "begin", None) if beside else None
    if begin:
        return begin(told)
    if isinstance(agent, Chooser):
        infos = [turns[row].table.env.infos.get(turns[row].seat, NOTHING) for row in rows]
        return partial(agent.choose, told, seeds, infos)
    return partial(agent.act, told, seeds)


def _seated(agents: Mapping[str, Agent], table: Table, seat: str) -> Agent:
    """Who plays there: the player of the seat, of the persona that sits in it, of the role that it was dealt, or of the
    role that it has by its name."""
    for name in (seat, table.personas.get(seat, ""), table.role(seat), role_of(seat)):
        if name in agents:
            return agents[name]  # an agent may well be falsy
    raise RolloutError(f"nobody sits in the seat {seat!r}: the seats taken are {', '.join(agents) or 'none'}")


def _silence() -> None:
    """Nobody was asked."""
