"""Credit against numbers worked by hand, the paper's formulas, and the traps on the way (arXiv 2509.07414)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.credit import advantages, centred, leaves_of, values
from selfplay.lessons import settled
from selfplay.types import Episode, Turn
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


def test_equal_siblings_get_exactly_nothing() -> None:
    """0.1 + 0.1 + 0.1 is not 0.3 in floating point: rounding in the mean must not look like a signal."""
    for rewards in ([0.1] * 3, [1 / 3] * 7, [1e16 + 2] * 5):
        assert by_role(advantages(group(*rewards)), "solver") == [0.0] * len(rewards)
        assert centred(rewards) == [0.0] * len(rewards)


def test_a_bonus_is_added_before_the_baseline() -> None:
    """Rewards [0, 0], bonus [-1, 0]: values [-1, 0], mean -0.5, advantages [-0.5, 0.5]."""
    episodes = group(0.0, 0.0)
    first = episodes[0].turns[1]
    assert by_role(advantages(episodes, bonus={first: -1.0}), "solver") == [-0.5, 0.5]


# -- values and shapes -------------------------------------------------------------------------------------------------


def worst(turns: Sequence[Turn], leaves: Mapping[Turn, Sequence[Episode]]) -> list[float]:
    """Minus the best answer: the shape of a Challenger that is paid by the best."""
    return [-max(end.verdict["score"] for end in leaves[turn]) for turn in turns]


def test_a_shape_sees_the_verdicts_of_all_siblings() -> None:
    """Query 0 has scores [1, 0, 0, 0] and query 1 [0, 0, 0, 0]: means -0.25 and 0, by the best -1 and 0. The Solver's
    values stay what they were."""
    episodes = tree([[1, 0, 0, 0], [0, 0, 0, 0]])
    assert by_role(values(episodes), "challenger") == [-0.25, 0]
    shaped = values(episodes, {"challenger": worst})
    assert by_role(shaped, "challenger") == [-1, 0]
    assert by_role(shaped, "solver") == by_role(values(episodes), "solver") == [1, 0, 0, 0, 0, 0, 0, 0]
    assert by_role(advantages(episodes, shape={"challenger": worst}), "challenger") == [-0.5, 0.5]


def test_a_shape_is_called_once_for_each_group_of_siblings() -> None:
    seen: list[tuple[str, int]] = []

    def count(turns: Sequence[Turn], leaves: Mapping[Turn, Sequence[Episode]]) -> list[float]:
        seen.append((turns[0].role, len(turns)))
        return [float(len(leaves[turn])) for turn in turns]

    found = values(tree([[1, 2, 3], [4, math.nan, 6]]), {"challenger": count, "solver": count})
    assert seen == [("challenger", 2), ("solver", 3), ("solver", 2)]
    assert by_role(found, "challenger") == [3, 2], "void leaves are not shown"


def test_what_a_shape_cannot_tell_nobody_learns_from() -> None:
    episodes = tree([[1, 0], [0, 0], [1, 1]])

    def unsure(turns: Sequence[Turn], leaves: Mapping[Turn, Sequence[Episode]]) -> list[float]:
        return [1.0, math.nan, 3.0]

    credit = advantages(episodes, shape={"challenger": unsure})
    assert by_role(credit, "challenger") == [-1, 1]
    assert episodes[2].turns[0] not in credit


def test_no_shape_looks_at_what_a_gate_has_settled() -> None:
    """Query 1 was refused and is worth 0.5. By the best answer query 0 is worth -1: mean -0.25, so -0.75 and 0.75."""
    episodes = tree([[1, 0], [0, 0]])
    refused = episodes[2].turns[0]
    kept = [*episodes[:2], settled(episodes[2], refused, 0.5)]
    assert by_role(values(kept, {"challenger": worst}), "challenger") == [-1, 0.5]
    assert by_role(advantages(kept, shape={"challenger": worst}), "challenger") == [-0.75, 0.75]
    assert by_role(advantages(kept), "solver") == [0.5, -0.5], "nobody answers the settled query"


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape names the role 'challengr' \(did you mean challenger\?\)"):
        values(tree(R), {"challengr": worst})
    with pytest.raises(ValueError, match="the shape of challenger gave 1 values for 2 turns"):
        values(tree(R), {"challenger": lambda turns, leaves: [0.0]})
    assert values([], {"challenger": worst}) == {}, "no episodes, no roles to know"


def test_leaves_are_those_of_the_tree() -> None:
    episodes = tree([[1, 2], [3, math.nan]])
    leaves = leaves_of(episodes)
    asked, answered, judged = episodes[0].turns
    assert leaves[asked] == episodes[:2] and leaves[answered] == episodes[:1] and judged not in leaves
    assert leaves[episodes[3].turns[0]] == [episodes[2]] and episodes[3].turns[1] not in leaves


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
