"""Rounds of sampling that are learned together: when one is complete, and what the end of a run does."""

from __future__ import annotations

from typing import Any

import pytest

from learners.dpo import DPO
from learners.rejection import Rejection
from tests.helpers import make_engine
from tests.imitation import play


def test_a_round_is_learned_when_it_is_complete() -> None:
    """Three updates in a round: the third learns the right answers of all."""
    engine = make_engine()
    learner = Rejection(engine, lr=1e-3, every=3, epochs=1)
    told = [learner.update(play(engine, seed=seed)) for seed in range(4)]
    assert [metrics["steps_skipped"] for metrics in told] == [1, 1, 0, 1] and engine.version == 1
    assert told[2]["rejection/kept"] + 9 * told[2]["rejection/duplicate_share"] == pytest.approx(9)


def test_the_end_of_the_run_ends_a_round_that_is_shorter() -> None:
    """Rounds of four in a run of six: the last two updates are a round of their own, with all that they sampled. A run
    that goes on beyond its end goes on in whole rounds."""
    engine = make_engine()
    learner = Rejection(engine, lr=1e-3, every=4, epochs=1, steps=6)
    told = [learner.update(play(engine, seed=seed)) for seed in range(9)]
    assert [metrics["steps_skipped"] for metrics in told] == [1, 1, 1, 0, 1, 0, 1, 0, 1] and engine.version == 3
    assert told[5]["rejection/kept"] + 6 * told[5]["rejection/duplicate_share"] == pytest.approx(6)
    short = Rejection(make_engine(), lr=1e-3, every=4, epochs=1, steps=1)
    assert short.update(play(engine))["steps_skipped"] == 0, "or nothing at all would be learned"


@pytest.mark.parametrize("options", [{}, {"winner": "reference"}], ids=["self-rewarding", "spin"])
def test_pairs_of_a_shorter_round_are_learned_too(options: dict[str, Any]) -> None:
    engine = make_engine()
    learner = DPO(engine, lr=1e-3, every=4, steps=5, **options)
    told = [learner.update(play(engine, seed=seed)) for seed in range(5)]
    assert [metrics["steps_skipped"] for metrics in told] == [1, 1, 1, 0, 0]
    assert told[4]["pairs/learned"] == told[4]["pairs/found"] > 0
