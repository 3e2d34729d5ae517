"""One step's games, with further rounds for what the data gate refuses: dynamic sampling (DAPO, arXiv 2503.14476, 3.2).

A question that all answers solve, or none, has advantage 0: it only makes the batch smaller. So further questions are
asked in its place, until as many are admitted as the first round proposed, or the rounds are over. The words of all
rounds count as sampled, and a data set in a seat goes on where the last round left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from selfplay.candidates import proposing_turn
from selfplay.cohort import Watch
from selfplay.pipeline import Pipeline
from selfplay.rollout import rollout
from selfplay.seeds import derive
from selfplay.table import Table
from selfplay.types import Episode


def play_step(
    table: Table,
    branch: Mapping[str, int],
    *,
    seed: int,
    watch: Watch,
    cohorts: int = 1,
    max_turns: int = 1_000,
    pipeline: Pipeline | None = None,
    next_seed: int | None = None,
) -> tuple[list[Episode], dict[str, float]]:
    """The episodes of a step, round after round, and metrics; what is not told here is told at ``rollout``.

    With ``table.gate.refill`` as many rounds are played at most after the first one, each as wide as what is missing:
    the first role that branches, up to the one that proposes, branches so many times fewer. Metrics are then the
    ``gate/further_rounds``, how many proposals are still ``gate/missing`` at the end, and the share of all rounds'
    proposals that was ``gate/dropped``.

    The n-th further round draws from ``seed`` and n. Its first turns are never played ahead: with a ``pipeline`` the
    first round alone begins early.
    """
    play = partial(rollout, table.games, table.agents, cohorts=cohorts, max_turns=max_turns, watch=watch)
    episodes = play(branch, seed=seed, next_seed=next_seed, pipeline=pipeline)
    gate = table.gate
    if gate is None or not gate.refill:
        return episodes, {}
    wanted = played = _proposals(episodes, gate.role)
    width = _widest(episodes, gate.role, branch)
    with watch("judge"):
        admitted = gate.look(table.keep_out(episodes)[0])
    rounds = 0
    while admitted < wanted and rounds < gate.refill:
        rounds += 1
        fewer = {**branch, **({width: _share(wanted - admitted, branch[width], wanted)} if width else {})}
        more = play(fewer, seed=derive(seed, "refill", rounds))
        played += _proposals(more, gate.role)
        with watch("judge"):
            admitted += gate.look(table.keep_out(more)[0])
        episodes += more
    return episodes, {
        "gate/further_rounds": float(rounds),
        "gate/missing": float(max(0, wanted - admitted)),
        "gate/dropped": 1 - admitted / played if played else 0.0,
    }


def _proposals(episodes: Sequence[Episode], proposer: str | None) -> int:
    return len({turn for episode in episodes if (turn := proposing_turn(episode, proposer)) is not None})


def _share(missing: int, ways: int, wanted: int) -> int:
    """The least number of branches from which ``missing`` of ``wanted`` proposals can come, if ``ways`` make them."""
    return min(ways, -(-missing * ways // wanted))


def _widest(episodes: Sequence[Episode], proposer: str | None, branch: Mapping[str, int]) -> str | None:
    """The first role that branches on the way to a proposal, None where none does."""
    for episode in episodes:
        last = proposing_turn(episode, proposer)
        for turn in episode.turns if last else ():
            if branch.get(turn.role, 1) > 1:
                return turn.role
            if turn is last:
                break
    return None
