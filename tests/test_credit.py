"""Credit against numbers worked by hand, the paper's formulas, and the traps on the way (arXiv 2509.07414)."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.credit import EmaBaseline, advantages, learnability, uncertainty, values
from selfplay.types import Action, Episode, Turn
from tests.helpers import tree

R = [[1.0, 3.0], [5.0, 7.0]]
R_Q = [[7.0, 5.0], [1.0, 3.0]]


def by_role(credit: dict[Turn, float], role: str) -> list[float]:
    return [value for turn, value in credit.items() if turn.role == role]


def group(*rewards: float) -> list[Episode]:
    """One query, one answer per reward."""
    return tree([list(rewards)])


# -- LSP, N = G = 2 ----------------------------------------------------------------------------------------------------


def test_lsp_zero() -> None:
    """V = [2, 6]; A_Sol = R - V = [[-1, 1], [-1, 1]]; V's mean is 4 and A_Ch = 4 - V = [2, -2]."""
    credit = advantages(tree(R))
    assert by_role(credit, "solver") == [-1, 1, -1, 1]
    assert by_role(credit, "challenger") == [2, -2]
    assert set(by_role(credit, "verifier")) == set(), "the verifier earns nothing and learns nothing"


def test_lsp() -> None:
    """R + R_Q = [[8, 8], [6, 10]], row means 8 and 8: A_Sol = [[0, 0], [-2, 2]].
    V_Q - V = [6 - 2, 2 - 6] = [4, -4], mean 0: A_Ch = [4, -4]."""
    credit = advantages(tree(R, R_Q))
    assert by_role(credit, "solver") == [0, 0, -2, 2]
    assert by_role(credit, "challenger") == [4, -4]


def test_the_r_q_trap() -> None:
    """With V from R + R_Q the quality cancels and the Challenger falls back to LSP-Zero: r = -mean(R + R_Q) + V_Q =
    -mean(R), so A_Ch = [2, -2]. The same data through our payoff must not give that."""
    both = [[r + q for r, q in zip(*rows, strict=True)] for rows in zip(R, R_Q, strict=True)]
    trapped = tree(both, R_Q)
    assert by_role(advantages(trapped), "challenger") == [2, -2], "this is what the wrong formula gives"
    assert by_role(advantages(tree(R, R_Q)), "challenger") == [4, -4] != [2, -2]


matrices = st.integers(0, 2**32).map(
    lambda seed: [[math.sin(seed + 97 * i + j * j) * 10 for j in range(8)] for i in range(16)]
)


@settings(max_examples=25, deadline=None)
@given(score=matrices, quality=matrices)
def test_tree_credit_is_the_papers(score: list[list[float]], quality: list[list[float]]) -> None:
    """N = 16, G = 8, eq. 2-3 with the quality of section 3, computed here from the matrices alone."""
    credit = advantages(tree(score, quality))
    v, v_q = [fmean(row) for row in score], [fmean(row) for row in quality]
    solver = [r + q - v[i] - v_q[i] for i in range(16) for r, q in zip(score[i], quality[i], strict=True)]
    mean = fmean(v_q[i] - v[i] for i in range(16))
    challenger = [v_q[i] - v[i] - mean for i in range(16)]
    assert by_role(credit, "solver") == pytest.approx(solver, abs=1e-9)
    assert by_role(credit, "challenger") == pytest.approx(challenger, abs=1e-9)
    assert len(credit) == 16 + 128, "every shared turn once"


@settings(max_examples=25, deadline=None)
@given(score=matrices, add=st.floats(-50, 50), times=st.floats(-5, 5))
def test_a_constant_changes_nothing_and_a_factor_scales(score: list[list[float]], add: float, times: float) -> None:
    plain = list(advantages(tree(score)).values())
    moved = list(advantages(tree([[r + add for r in row] for row in score])).values())
    scaled = list(advantages(tree([[r * times for r in row] for row in score])).values())
    assert moved == pytest.approx(plain, abs=1e-9)
    assert scaled == pytest.approx([times * a for a in plain], abs=1e-9)


# -- what is left out --------------------------------------------------------------------------------------------------


def test_voids_are_dropped() -> None:
    """R = [[1, nan, 3], [nan, nan, nan], [5, 5, 8]]: query 0 keeps 1 and 3 (mean 2), query 1 has no value at all, and
    query 2 has mean 6. A_Ch: values -2 and -6, mean -4, so 2 and -2."""
    nan = math.nan
    episodes = tree([[1, nan, 3], [nan, nan, nan], [5, 5, 8]])
    assert [e.void for e in episodes] == [False, True, False, True, True, True, False, False, False]
    credit = advantages(episodes)
    assert by_role(credit, "solver") == [-1, 1, -1, -1, 2]
    assert by_role(credit, "challenger") == [2, -2]
    assert episodes[1].turns[1] not in credit and episodes[3].turns[0] not in credit
    assert advantages(tree([[nan, nan]])) == {} == advantages([])


def test_a_singleton_has_no_advantage() -> None:
    assert list(advantages(group(7.0)).values()) == [0.0, 0.0]
    assert list(advantages(group(7.0), scale=True).values()) == [0.0, 0.0]


def test_equal_siblings_get_exactly_nothing() -> None:
    """0.1 + 0.1 + 0.1 is not 0.3 in floating point: rounding in the mean must not look like a signal."""
    for rewards in ([0.1] * 3, [1 / 3] * 7, [1e16 + 2] * 5):
        credit = advantages(group(*rewards), scale=True)
        assert by_role(credit, "solver") == [0.0] * len(rewards)


def test_a_bonus_is_added_before_the_baseline() -> None:
    """Rewards [0, 0], bonus [-1, 0]: values [-1, 0], mean -0.5, advantages [-0.5, 0.5]."""
    episodes = group(0.0, 0.0)
    first = episodes[0].turns[1]
    assert by_role(advantages(episodes, bonus={first: -1.0}), "solver") == [-0.5, 0.5]


def test_values_and_shapes() -> None:
    """Challenger's returns over its leaves are -R: [-1, 0, 0, 0] has mean -0.25; the shape sees all four."""
    episodes = group(1.0, 0.0, 0.0, 0.0)
    asked = episodes[0].turns[0]
    assert values(episodes)[asked] == -0.25
    assert values(episodes, {"challenger": min})[asked] == -1
    two = tree([[1, 0, 0, 0], [1, 1, 0, 0]])
    positive = {"challenger": lambda returns: learnability([-r for r in returns])}
    assert by_role(advantages(two, shape=positive), "challenger") == [-0.125, 0.125], "4 p (1-p): 0.75 against 1"


def test_shapes_by_hand() -> None:
    assert [learnability(r) for r in ([0, 0], [0, 1], [1, 1], [1, 0, 0, 0])] == [0, 1, 0, 0.75]
    assert [uncertainty(r) for r in ([0, 0], [0, 1], [1, 1], [1, 0, 0, 0])] == [0, 1, 0, 0.5]


# -- division by the standard deviation (GRPO, as TRL does it) ---------------------------------------------------------


def test_std_variants() -> None:
    """r = [0, 0, 1, 1]: mean 0.5, std with Bessel sqrt(1/3) = 0.57735, so 0.5 / 0.57745 = 0.86588.
    r = [0, 0, 0, 1]: mean 0.25, std 0.5, so -0.25 / 0.5001 = -0.4999 and 0.75 / 0.5001 = 1.4997."""
    half = by_role(advantages(group(0, 0, 1, 1), scale=True), "solver")
    assert half == pytest.approx([-0.86588] * 2 + [0.86588] * 2, abs=5e-6)
    quarter = by_role(advantages(group(0, 0, 0, 1), scale=True), "solver")
    assert quarter == pytest.approx([-0.4999] * 3 + [1.4997], abs=5e-5)
    assert by_role(advantages(group(0, 0, 1, 1)), "solver") == [-0.5, -0.5, 0.5, 0.5]
    assert by_role(advantages(group(0, 0, 0, 1)), "solver") == [-0.25] * 3 + [0.75]
    for same in (0.0, 1.0):
        assert by_role(advantages(group(*[same] * 4), scale=True), "solver") == [0.0] * 4


def test_hierarchical_group() -> None:
    """One problem, rewards [1, 1, 0]: mean 2/3, advantages [1/3, 1/3, -2/3]."""
    assert by_role(advantages(group(1, 1, 0)), "solver") == pytest.approx([1 / 3, 1 / 3, -2 / 3])


# -- SPIRAL's baseline -------------------------------------------------------------------------------------------------


def played(reward: float, game: str = "kuhn_v0", role: str = "first") -> Episode:
    turn = Turn(role, f"{role}_0", {}, Action("x"), 0)
    return Episode((turn,), {role: reward}, {}, {}, game=game)


def test_ema_scores_before_it_learns() -> None:
    """decay 0.95, R = 1, -1, 1: b = 0, then 0.05, then 0.0475 - 0.05 = -0.0025, then -0.002375 + 0.05 = 0.047625;
    A = 1, -1.05, 1.0025. Scoring after the update would give 0.95, -0.9975, 0.952375."""
    baseline = EmaBaseline(0.95)
    episodes = [played(r) for r in (1, -1, 1)]
    assert list(baseline(episodes).values()) == pytest.approx([1, -1.05, 1.0025], abs=1e-12)
    assert baseline.baselines == {("kuhn_v0", "first"): pytest.approx(0.047625, abs=1e-12)}


def test_ema_keeps_games_and_roles_apart() -> None:
    """Two games and two roles interleaved: each sees its own history only, so all four start from 0."""
    baseline = EmaBaseline(0.95)
    keys = [("kuhn_v0", "first"), ("kuhn_v0", "second"), ("dice_v0", "first"), ("dice_v0", "second")]
    for rewards in ((1, -1, 0.5, -0.5), (-1, 1, 0, 0)):
        credit = baseline([played(r, game, role) for r, (game, role) in zip(rewards, keys, strict=True)])
    assert list(credit.values()) == pytest.approx([-1.05, 1.05, -0.025, 0.025])
    assert set(baseline.baselines) == set(keys)


def test_ema_survives_a_restart_and_skips_voids(tmp_path: Path) -> None:
    baseline = EmaBaseline(0.95)
    baseline([played(r) for r in (1, -1, 1 / 3)] + [played(0.1, "dice_v0")])
    baseline.save(tmp_path)
    twin = EmaBaseline(0.95)
    twin.load(tmp_path)
    assert twin.baselines == baseline.baselines, "equal to the last bit"
    assert baseline([played(math.nan)]) == {} and twin.baselines == baseline.baselines
    assert list(baseline([played(1)]).values()) == list(twin([played(1)]).values())


def test_ema_averages_over_the_leaves_of_a_shared_turn() -> None:
    """LSP-Zero, one query, R = [1, 0], decay 0.5. Challenger: -1 - 0 = -1, then b = -0.5 and 0 + 0.5 = 0.5; mean
    -0.25. Solver: 1 - 0 = 1, then b = 0.5 and 0 - 0.5 = -0.5."""
    credit = EmaBaseline(0.5)(tree([[1.0, 0.0]]))
    assert by_role(credit, "challenger") == [-0.25] and by_role(credit, "solver") == [1.0, -0.5]


# -- episodes of several rollouts -------------------------------------------------------------------------------------


def test_two_rollouts_do_not_share_groups() -> None:
    """Two rollouts of one query each: within each all is equal, so nobody has an advantage."""
    from agents.scripted import Scripted
    from envs import lsp
    from selfplay.rollout import rollout
    from verifiers.panel import Panel

    def play(score: float, seed: int) -> list[Episode]:
        players = {"challenger": Scripted(["q"]), "solver": Scripted(["a"])}
        panel = Panel(score=lambda cases: [score] * len(cases))
        return rollout([lsp.raw_env()], {**players, "verifier": panel}, {"solver": 2}, seed=seed)

    assert not any(advantages(play(0.0, 1) + play(1.0, 2)).values())
