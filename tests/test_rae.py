"""SPIRAL's role-conditioned baseline, by hand: read before its own update, one per game and role, and kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from selfplay.estimators import RaeEma, make_estimator
from selfplay.types import Action, Episode, Stateful, Turn
from tests.credit_trees import challenger, played, solver
from tests.helpers import tree
from tests.seats import of_seat, paying


def test_ema_scores_before_it_learns() -> None:
    """decay 0.95, R = 1, -1, 1: b = 0, then 0.05, then 0.0475 - 0.05 = -0.0025, then -0.002375 + 0.05 = 0.047625;
    A = 1, -1.05, 1.0025. Scoring after the update would give 0.95, -0.9975, 0.952375."""
    baseline = RaeEma()
    assert list(baseline([played(r) for r in (1, -1, 1)]).values()) == pytest.approx([1, -1.05, 1.0025], abs=1e-12)
    assert baseline.baselines == {("kuhn_v0", "first"): pytest.approx(0.047625, abs=1e-12)}


def test_ema_of_a_draw_is_nothing_at_first() -> None:
    assert list(RaeEma()([played(0.0)]).values()) == [0.0]


def test_ema_keeps_games_and_roles_apart() -> None:
    """Two games and two roles interleaved: each sees its own history only, so all four start from 0."""
    baseline = RaeEma()
    keys = [("kuhn_v0", "first"), ("kuhn_v0", "second"), ("dice_v0", "first"), ("dice_v0", "second")]
    credit: dict[Turn, float] = {}
    for rewards in ((1, -1, 0.5, -0.5), (-1, 1, 0, 0)):
        credit = baseline([played(r, game, role) for r, (game, role) in zip(rewards, keys, strict=True)])
    assert list(credit.values()) == pytest.approx([-1.05, 1.05, -0.025, 0.025])
    assert set(baseline.baselines) == set(keys)


def test_ema_survives_a_restart_and_skips_voids(tmp_path: Path) -> None:
    baseline = make_estimator("rae_ema")
    assert isinstance(baseline, RaeEma) and isinstance(baseline, Stateful)
    baseline([played(r) for r in (1, -1, 1 / 3)] + [played(0.1, "dice_v0")])
    baseline.save(tmp_path)
    twin = RaeEma()
    twin.load(tmp_path)
    assert twin.baselines == baseline.baselines, "equal to the last bit"
    assert baseline([played(math.nan)]) == {} and twin.baselines == baseline.baselines
    assert list(baseline([played(1)]).values()) == list(twin([played(1)]).values())


def test_ema_averages_over_the_leaves_of_a_shared_turn() -> None:
    """LSP-Zero, one query, R = [1, 0], decay 0.5. Challenger: -1 - 0 = -1, then b = -0.5 and 0 + 0.5 = 0.5; mean
    -0.25. Solver: 1 - 0 = 1, then b = 0.5 and 0 - 0.5 = -0.5."""
    credit = RaeEma(decay=0.5)(tree([[1.0, 0.0]]))
    assert list(credit.values()) == [-0.25, 1.0, -0.5]


def test_ema_of_a_shaped_role_moves_once_a_turn() -> None:
    """Two queries, R = [1, 0] and [1, 1], decay 0.5, 4 p (1 - p) for the Challenger: V = 1 and 0. A = 1 - 0 and then
    0 - 0.5. The Solver's stay as they were without: 1, -0.5, 0.75, 0.375."""
    shaped = RaeEma({"challenger": "learnability"}, decay=0.5)
    credit = shaped(tree([[1.0, 0.0], [1.0, 1.0]]))
    assert challenger(credit) == [1, -0.5]
    assert solver(credit) == [1, -0.5, 0.75, 0.375]
    assert shaped.baselines == {("lsp_v0", "challenger"): 0.25, ("lsp_v0", "solver"): 0.8125}


def test_no_baseline_sees_a_bonus() -> None:
    baseline = RaeEma(decay=0.5)
    episodes = [played(1.0)]
    assert list(baseline(episodes, {episodes[0].turns[0]: -0.25}).values()) == [0.75]
    assert baseline.baselines == {("kuhn_v0", "first"): 0.5}


# -- roles of several seats --------------------------------------------------------------------------------------------


def jury(first: float, second: float, **settings: Any) -> Episode:
    return paying(("juror_0", {}), ("juror_1", {"juror_0": first, "juror_1": second}), **settings)


def test_every_seat_is_scored_by_what_it_earned_itself() -> None:
    """decay 0.5, jurors who earn 1 and 0, then 1 and 1. All of an episode against the role's baseline before it: 1 and
    0 less 0; it moves once, by their mean, to 0.25: 0.75 and 0.75; then to 0.25 / 2 + 1 / 2."""
    baseline = RaeEma(decay=0.5)
    credit = baseline([jury(1, 0), jury(1, 1)])
    assert of_seat(credit, "juror_0") == [1, 0.75] and of_seat(credit, "juror_1") == [0, 0.75]
    assert baseline.baselines == {("g_v0", "juror"): 0.625}


def test_the_order_of_the_seats_changes_nothing() -> None:
    one, other = RaeEma(decay=0.5), RaeEma(decay=0.5)
    there, back = one([jury(1, 0), jury(0.5, 1)]), other([jury(0, 1), jury(1, 0.5)])
    assert of_seat(there, "juror_0") == of_seat(back, "juror_1") and one.baselines == other.baselines


def test_seats_and_personas_may_have_baselines_of_their_own() -> None:
    """decay 0.5. Ada earns 1 in seat 0 and then 0 in seat 1; Bob 0 and then 4. By seat: b = 0.5 and 0 after the first
    game, so 4 - 0.5 and 0 - 0. By persona: Bob's b is 0, Ada's 0.5, so 4 - 0 and 0 - 0.5."""
    games = [
        jury(1, 0, personas={"juror_0": "Ada", "juror_1": "Bob"}),
        jury(4, 0, personas={"juror_0": "Bob", "juror_1": "Ada"}),
    ]
    seats, personas = RaeEma(decay=0.5, by="seat"), RaeEma(decay=0.5, by="persona")
    assert list(seats(games).values()) == [1, 0, 3.5, 0]
    assert list(personas(games).values()) == [1, 0, 4, -0.5]
    assert set(seats.baselines) == {("g_v0", "juror_0"), ("g_v0", "juror_1")}
    assert set(personas.baselines) == {("g_v0", "juror/Ada"), ("g_v0", "juror/Bob")}
    with pytest.raises(ValueError, match="by=persona, and nobody in g_v0 has a persona: seat some"):
        RaeEma(by="persona")([jury(0, 0)])
    with pytest.raises(ValueError, match=r"by='sead' is unknown \(did you mean seat\?\)"):
        RaeEma(by="sead")


def test_who_had_no_turn_moves_the_baseline_too() -> None:
    """The second player lost before its turn: b = 0.5 * -1, as if it had spoken; and a third juror's 3 is in the mean
    of 1, 2 and 3."""
    baseline = RaeEma(decay=0.5)
    baseline([paying(("first_0", {"first_0": 1.0, "second_0": -1.0}), silent=["second_0"])])
    assert baseline.baselines == {("g_v0", "first"): 0.5, ("g_v0", "second"): -0.5}
    jurors = paying(("juror_0", {}), ("juror_1", {"juror_0": 1.0, "juror_1": 2.0, "juror_2": 3.0}), silent=["juror_2"])
    assert list(baseline([jurors]).values()) == [1, 2] and baseline.baselines["g_v0", "juror"] == 1


def test_a_dealt_role_is_not_told_by_the_seat() -> None:
    """Seats player_0 and player_1 are a wolf and a villager: their roles' baselines, whatever the seats are called."""
    wolf, villager = (Turn(role, f"player_{n}", {}, Action("x"), n) for n, role in enumerate(("wolf", "villager")))
    seats = {"player_0": 1.0, "player_1": -1.0, "player_2": -1.0}
    game = Episode((wolf, villager), {"wolf": 1.0, "villager": -1.0}, {}, {}, game="w_v0", seats=seats)
    baseline = RaeEma(decay=0.5)
    assert baseline([game]) == {wolf: 1, villager: -1}
    assert baseline.baselines == {("w_v0", "wolf"): 0.5, ("w_v0", "villager"): -0.5}
