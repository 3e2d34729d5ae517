"""Playing many copies of a game in lockstep, with branching: the tree of turns that credit is read from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from selfplay.cohort import Cohort, RolloutError, Watch
from selfplay.pipeline import Pipeline
from selfplay.playing import open_tables, role_of
from selfplay.types import Agent, Episode

__all__ = ["RolloutError", "role_of", "rollout"]


def rollout(
    envs: Sequence[Any],
    agents: Mapping[str, Agent],
    branch: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    cohorts: int = 1,
    max_turns: int = 1_000,
    watch: Watch | None = None,
    pipeline: Pipeline | None = None,
    next_seed: int | None = None,
) -> list[Episode]:
    """Play every environment to its end and return one episode per leaf, in the order of the tree.

    ``envs`` are PettingZoo AEC environments (reset here); ``agents`` maps a seat or a role to its player, the
    verifier among them; before a role speaks every copy of the game forks ``branch[role]`` ways, and the turns that
    answer from one fork are a group. Equal agents share one ``act`` call per tick, and the verifier speaks only when
    nobody else has a turn, so all siblings are judged together. Who speaks at once (``env.waiting``) is asked at once.
    ``watch`` times the phases ``generate`` and ``judge``.

    With ``cohorts`` above 1 the tables are split after the first turn, and one cohort is judged while the next one
    plays, as far as the verifiers can work beside it (``Panel.begin``). Siblings of the first turn are then judged in
    different calls, all others still in one.

    With a ``pipeline`` the first turn of the rollout of ``next_seed``, the next one with the same environments, players
    and branches, is played beside the second turn of this one and kept there; where there is no second turn, or no
    ``next_seed``, nothing is played ahead. A first turn that is kept there for ``seed`` is not asked for again.

    Table i of root r draws its random numbers from its place in the tree alone: batched and solo play are the same.
    A game that has not ended after ``max_turns`` turns is cut there, with what was paid until then, and is
    ``truncated``. Raises ``RolloutError`` for an empty seat or a wrong number of actions.
    """
    for role, ways in (branch or {}).items():
        if ways < 1:
            raise RolloutError(f"branch.{role}={ways}: a game has at least one branch")
    if cohorts < 1:
        raise RolloutError(f"cohorts={cohorts}: the tables play in at least one cohort")
    if max_turns < 1:
        raise RolloutError(f"max_turns={max_turns}: a game that is cut before its first turn is none")
    settings = (agents, branch or {}, watch or _unwatched, max_turns)
    first = Cohort(open_tables(envs, seed), *settings)
    openings = pipeline.take(seed) if pipeline else None
    spoke = first.play_turn() if openings is None else first.play_openings(openings)
    together = first.split(cohorts) if cohorts > 1 and spoke else [first]
    if pipeline and next_seed is not None:
        ahead = Cohort(open_tables(copy.deepcopy(envs), next_seed), *settings)
        if any(cohort.play_turn(ahead) for cohort in together):  # once: beside the first one that has a second turn
            pipeline.keep(next_seed, ahead.openings())
    while asked := [cohort for cohort in together if cohort.play_to_verdict()]:
        for cohort in asked:
            cohort.hear_verdict()
    return [table.episode() for cohort in together for table in cohort.tables]


def _unwatched(phase: str) -> AbstractContextManager[Any]:
    return nullcontext()
