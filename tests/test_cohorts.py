"""Cohorts: one half of the games is judged while the other plays, and nothing else changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from envs import lsp
from selfplay.rollout import RolloutError, rollout
from selfplay.types import VERIFIER, Action
from tests.test_rollout import WIDE, Counting, Judge, story
from verifiers.panel import Panel


@pytest.mark.parametrize("cohorts", [2, 3, 7, 100])
def test_cohorts_change_nothing_but_the_calls(cohorts: int) -> None:
    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}
    one = rollout([lsp.raw_env() for _ in range(2)], players, WIDE, seed=3)
    many = rollout([lsp.raw_env() for _ in range(2)], players, WIDE, seed=3, cohorts=cohorts)
    assert [story(e) for e in one] == [story(e) for e in many]
    assert [t.group for e in one for t in e.turns] == [t.group for e in many for t in e.turns]


def test_one_cohort_is_judged_while_the_next_one_plays() -> None:
    """The first verdict is not given before the second cohort has spoken: in turn, it would wait for ever."""
    spoke = threading.Event()

    class Player(Counting):
        def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
            spoken.append(len(observations))
            if len(spoken) == 3:  # the challenger's turn, the first cohort's solvers, the second's
                spoke.set()
            return super().act(observations, seeds)

    class Patient:
        runs_in = "thread"

        def __call__(self, cases: Sequence[Any]) -> list[float]:
            assert spoke.wait(20), "the second cohort did not play while the first was judged"
            return [1.0] * len(cases)

    spoken: list[int] = []
    panel = Panel(score=Patient())
    player = Player("p")
    players = {"challenger": player, "solver": player, VERIFIER: panel}
    episodes = rollout([lsp.raw_env()], players, {"challenger": 4, "solver": 2}, cohorts=2)
    assert spoken == [4, 4, 4] and [e.verdict for e in episodes] == [{"score": 1.0}] * 8
    assert "verifiers/score/raised" not in panel.metrics()


def test_calls_of_one_verifier_follow_each_other() -> None:
    """Its calls never overlap, and come in the order of the cohorts."""
    lock, order = threading.Lock(), []

    class Alone:
        runs_in = "thread"

        def __call__(self, cases: Sequence[Any]) -> list[float]:
            assert lock.acquire(blocking=False), "two calls at once"
            time.sleep(0.05)
            order.append([case["query"] for case in cases])
            lock.release()
            return [1.0] * len(cases)

    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: (panel := Panel(score=Alone()))}
    episodes = rollout([lsp.raw_env()], players, {"challenger": 6, "solver": 2}, cohorts=3)
    assert order == [[e.case["query"] for e in episodes[at : at + 4]] for at in (0, 4, 8)]
    assert "verifiers/score/raised" not in panel.metrics()


def test_no_cohort_is_refused() -> None:
    with pytest.raises(RolloutError, match="cohorts=0"):
        rollout([lsp.raw_env()], {}, cohorts=0)
