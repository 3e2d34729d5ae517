"""Roles of several seats that earn differently: whoever reads what a turn was worth reads what its own seat earned."""

from __future__ import annotations

import math

import pytest

from learners.examples import score_of, worth
from selfplay.credit import values
from selfplay.estimators import LspMean, make_estimator
from selfplay.screen import pick_transcript
from selfplay.shapes import AzrSolver, ZeroSum
from selfplay.types import Episode
from selfplay.whose import mean, seated
from tests.seats import moved, of_seat, paying


def test_a_turn_is_worth_what_its_own_seat_earned() -> None:
    """One fork of juror 0; juror 1 earns the other way round. By the role's mean, 0.5 all over, nobody would learn."""
    games = [
        paying((moved("juror_0", group=1), {}), (moved("juror_1", group=2), {"juror_0": r, "juror_1": 1 - r}))
        for r in (1.0, 0.0)
    ]
    assert list(values(games).values()) == [1, 0, 0, 1]
    credit = LspMean()(games)
    assert of_seat(credit, "juror_0") == [0.5, -0.5] and of_seat(credit, "juror_1") == [-0.5, 0.5]
    grpo = make_estimator("grpo_std")(games)
    assert of_seat(grpo, "juror_0") == pytest.approx([0.70701, -0.70701], abs=1e-5)


def test_imitation_takes_the_best_of_each_seat() -> None:
    """What rejection sampling, pairs and distillation go by."""
    game, twin = (paying(("juror_0", {}), ("juror_1", {"juror_0": 1.0, "juror_1": r})) for r in (0.0, 0.5))
    mine, other = game.turns
    assert (
        worth([game], mine, None) == 1 and worth([game], other, None) == 0 and worth([game, twin], other, None) == 0.25
    )
    game.verdict = {"score": 0.25}
    assert worth([game], mine, "score") == score_of([game, twin], "score") == 0.25
    assert math.isnan(worth([twin], mine, "score")) and math.isnan(worth([], mine, None))
    with pytest.raises(ValueError, match=r"learner.part='scor' is no part of the verdict"):
        worth([game], mine, "scor")


def test_zero_sum_counts_every_other_seat() -> None:
    """Juror 0 earns 1, juror 1 2, the chair -5: V of juror 0 is -(2 - 5) = 3, of the chair -(1 + 2) = -3."""
    game = paying(("juror_0", {}), ("juror_1", {}), ("chair_0", {"juror_0": 1.0, "juror_1": 2.0, "chair_0": -5.0}))
    found = [ZeroSum()([turn], {turn: [game]}) for turn in game.turns]
    assert found == [[3], [4], [-3]]


def test_a_fellow_s_forfeit_is_no_fault_of_mine() -> None:
    """Solver 1 breaks the rules: -1 for its turn; solver 0's is wrong as any other that led to no verdict, -0.5."""
    game = paying(("solver_0", {}), ("solver_1", {"solver_1": -1.0}))
    game.forfeit = "solver"
    assert AzrSolver()(game.turns, {turn: [game] for turn in game.turns}) == [-0.5, -1]


def test_the_transcript_shows_the_widest_spread_of_the_last_speaker() -> None:
    """The jurors' mean is 0 in all four games; juror 1, who speaks last, earns 1 and -1 in the second pair."""
    games: list[Episode] = []
    for group, earned in ((1, 0.0), (1, 0.0), (2, 1.0), (2, -1.0)):
        last = moved("juror_1", group=group)
        last.observation = {"user": f"group {group}"}
        games.append(paying(("juror_0", {}), (last, {"juror_0": -earned, "juror_1": earned})))
    shown = pick_transcript(games)
    assert shown is not None and shown.query == "group 2"


def test_who_sits_where() -> None:
    """Roles by the turns, which know who was dealt what; who had no turn, by the name of the seat; nobody as ""."""
    game = paying(("juror_1", {}), ("juror_0", {}), ("juror_1", {}), silent=["chair_0", "juror_2"])
    game.returns = {**game.returns, "ghost": 0.0}
    found = {role: {seat: len(turns) for seat, turns in members.items()} for role, members in seated(game).items()}
    assert found == {"chair": {"chair_0": 0}, "juror": {"juror_1": 2, "juror_0": 1, "juror_2": 0}, "ghost": {"": 0}}
    dealt = paying((moved("player_0", role="wolf"), {}), (moved("player_1", role="villager"), {}))
    assert {role: list(members) for role, members in seated(dealt).items()} == {
        "wolf": ["player_0"],
        "villager": ["player_1"],
    }


def test_a_mean_of_equals_is_exactly_that() -> None:
    assert mean([0.1] * 3) == 0.1 and mean([1.0, 2.0]) == 1.5
