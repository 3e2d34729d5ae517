"""SPIRAL's role-conditioned baseline, by hand: read before its own update, one per game and role, and kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from selfplay.estimators import RaeEma, make_estimator
from selfplay.types import Stateful, Turn
from tests.credit_trees import challenger, played, solver
from tests.helpers import tree


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
