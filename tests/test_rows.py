"""The rows of a step: who is one, what they are told, and into which minibatch they come."""

from __future__ import annotations

import random
from typing import Any

import pytest

from learners.rows import Row, by_role, mean_of, minibatches, per_role, rows_of, spread
from selfplay.types import Action, Completion, Episode, Turn
from tests.helpers import tree


def words(*ids: int, logprobs: tuple[float, ...] | None = None) -> Completion:
    return Completion("", (1, 2), ids, tuple(-0.5 for _ in ids) if logprobs is None else logprobs, "stop")


def rows(n: int) -> list[Row]:
    """n turns of the solver and half as many of the challenger, no two of which said the same."""
    said = [("solver", i) for i in range(n)] + [("challenger", i) for i in range(n // 2)]
    return [Row(Turn(role, f"{role}_0", {}, Action("", words(i)), 0), words(i)) for role, i in said]


def names(part: list[Row]) -> set[tuple[str, tuple[int, ...]]]:
    return {(row.turn.role, row.completion.token_ids) for row in part}


def test_who_is_a_row() -> None:
    """Void episodes, silent players and roles that nobody pays have none; a turn that is shared has one."""
    said = [[words(3), words(4)], [words(5), None]]
    episodes = tree([[1.0, 0.0], [float("nan"), 1.0]], None, said, [words(7), words(8)])
    found = rows_of(episodes, {"solver": 0.2}, 0.1)
    assert [(row.turn.role, row.completion.token_ids) for row in found] == [
        ("challenger", (7,)),
        ("challenger", (8,)),
        ("solver", (3,)),
        ("solver", (4,)),
    ]
    assert [(row.beta, row.entropy) for row in found] == [(0.0, 0.1), (0.0, 0.1), (0.2, 0.1), (0.2, 0.1)]
    unpaid = [Episode(e.turns, {"solver": 1.0}, e.case, e.verdict) for e in episodes]
    assert set(by_role(rows_of(unpaid, 0.0, 0.0))) == {"solver"}


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_minibatches_share_out_every_role(parts: int) -> None:
    everybody = rows(10)
    made = minibatches(everybody, parts, seed=7)
    assert len(made) == parts and sum(map(len, made)) == 15
    assert set().union(*map(names, made)) == names(everybody)
    for part in made:
        mates = by_role(part)
        assert abs(len(mates["solver"]) - 10 / parts) < 1 and abs(len(mates["challenger"]) - 5 / parts) < 1


def test_minibatches_do_not_hang_on_the_order() -> None:
    everybody = rows(12)
    first = [names(part) for part in minibatches(everybody, 4, seed=7)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(everybody, len(everybody))
        assert [names(part) for part in minibatches(shuffled, 4, seed=7)] == first
    assert [names(part) for part in minibatches(everybody, 4, seed=8)] != first
    assert minibatches(everybody, 1, seed=8) == [everybody], "one part is all of them, as they stand"
    few: list[Any] = minibatches(everybody[:2], 4, seed=1)
    assert [len(part) for part in few] == [1, 1], "no part is empty"


def test_what_is_told() -> None:
    """Two groups of the solver, one without any advantage; sums over 4 tokens, or 2 turns; means over the steps that
    have a name."""
    found = [
        Row(Turn("solver", "solver_0", {}, Action(""), group), words(*range(1 + group)), advantage=advantage)
        for group, advantage in ((0, 0.0), (1, 0.5), (1, -0.5))
    ]
    assert spread(found)["frac_reward_zero_std/solver"] == 0.5
    assert spread(found)["advantage_std/solver"] == pytest.approx((0.5 / 3) ** 0.5)
    sums = [{"solver": 1.0}, {"solver": 2.0, "challenger": 5.0}]
    assert per_role(found, "kl", sums, tokens=True) == {"kl/solver": 3 / 5}
    assert per_role(found, "clip_fraction", sums, tokens=False) == {"clip_fraction/solver": 1.0}
    assert per_role(found, "kl", [{}], tokens=True) == {}
    assert mean_of([{"a": 1.0}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0} and mean_of([]) == {}
