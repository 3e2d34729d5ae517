"""Advantage estimators against numbers worked by hand, what they are told apart from, and what leaves them alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.credit import Estimator, advantages
from selfplay.estimators import (
    ESTIMATORS,
    GrpoStd,
    Hierarchical,
    LspMean,
    MaxRL,
    RaeEma,
    ReinforcePP,
    ReinforcePPBaseline,
    Rloo,
    make_estimator,
)
from selfplay.lessons import settled
from selfplay.types import Action, Episode, Turn
from tests.credit_trees import answers, challenger, played, solver, words
from tests.helpers import tree

GROUPED: list[Callable[[], Estimator]] = [LspMean, Hierarchical, GrpoStd, Rloo, MaxRL, ReinforcePPBaseline]


def earned(estimator: Estimator, *rewards: float) -> list[float]:
    """The Solver's advantages for the answers to one query."""
    return solver(estimator(answers(rewards)))


# -- one group, by hand ------------------------------------------------------------------------------------------------


def test_half_right() -> None:
    """r = [0, 0, 1, 1], mean 1/2. Bessel's std sqrt(1/3) = 0.57735: TRL 0.5 / 0.57745 = 0.86588, verl (epsilon 1e-6)
    0.86602; the population's std would give 1. No std: 0.5. RLOO: 4/3 of it, 0.66667. MaxRL: 0.5 / 0.5 = 1."""
    for estimator, size in (
        (GrpoStd(), 0.86588),
        (GrpoStd(epsilon=1e-6), 0.86602),
        (LspMean(), 0.5),
        (Hierarchical(), 0.5),
        (Rloo(), 0.66667),
        (MaxRL(), 1.0),
    ):
        assert earned(estimator, 0, 0, 1, 1) == pytest.approx([-size, -size, size, size], abs=6e-6)


def test_one_of_four_right() -> None:
    """r = [0, 0, 0, 1], mean 1/4. Bessel's std 0.5: TRL -0.25 / 0.5001 = -0.4999 and 1.4997, verl -0.5 and 1.5 (the
    population's 0.433 would give -0.57735 and 1.73205). No std: -0.25 and 0.75. RLOO: -1/3 and 1. MaxRL: -1 and 3."""
    for estimator, wrong, right in (
        (GrpoStd(), -0.4999, 1.4997),
        (GrpoStd(epsilon=1e-6), -0.5, 1.5),
        (LspMean(), -0.25, 0.75),
        (Rloo(), -1 / 3, 1.0),
        (MaxRL(), -1.0, 3.0),
    ):
        assert earned(estimator, 0, 0, 0, 1) == pytest.approx([wrong] * 3 + [right], abs=5e-5)


def test_rloo_leaves_one_out() -> None:
    """r = [1, 2, 6]: minus the mean of the other two, 1 - 4, 2 - 3.5, 6 - 1.5."""
    assert earned(Rloo(), 1, 2, 6) == pytest.approx([-3, -1.5, 4.5])


def test_hierarchical_group() -> None:
    """One problem, rewards [1, 1, 0]: mean 2/3, advantages [1/3, 1/3, -2/3]."""
    assert earned(Hierarchical(), 1, 1, 0) == pytest.approx([1 / 3, 1 / 3, -2 / 3])


@pytest.mark.parametrize("estimator", [*GROUPED, ReinforcePP, ESTIMATORS["trr_pp"]])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
def test_equal_answers_get_exactly_nothing(estimator: Callable[[], Estimator], reward: float) -> None:
    """All right: 0, MaxRL's too. All wrong: 0, and nothing is divided by a mean or a deviation of 0. 0.1 three times
    is not 0.3 in floating point: rounding in a mean must not look like a signal."""
    assert earned(estimator(), *[reward] * 3) == [0.0] * 3


# -- singletons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", GROUPED)
def test_a_singleton_has_nothing_and_is_counted(estimator: Callable[[], Estimator]) -> None:
    """verl gives a lone answer its raw reward, 7, in its GRPO, RLOO and REINFORCE++ baseline. The query is alone
    as well, but nobody generated it, so it is not counted."""
    alone = estimator()
    assert solver(alone(answers([7.0]))) in ([0.0], [])
    assert alone.metrics() == {"singleton_groups/solver": 1.0}
    alone(answers([0.0, 1.0]))
    assert alone.metrics() == {}, "the last batch only"


def test_a_lone_answer_stays_out_of_the_whitening() -> None:
    """Centred [-0.5, 0.5] over two tokens: std sqrt(0.5) = 0.70711, so -+0.70711. Were the lone 7 (centred 0, ten
    tokens) in, the deviation would be sqrt(0.5 / 11)."""
    credit = solver(ReinforcePPBaseline()(answers([0, 1], [7], tokens=[1, 1, 10])))
    assert sorted(credit) == pytest.approx([-0.70711, 0, 0.70711], abs=1e-5)


# -- hierarchical ------------------------------------------------------------------------------------------------------


def test_who_did_not_branch_is_compared_with_cousins() -> None:
    """Three tables with one query each, LSP-Zero: values -1, -2 and -6 with mean -3, so 2, 1 and -3. Siblings alone say
    0. The answers, two to a query, stay among themselves: [0, 2] -> -1, 1."""
    tables = [answers([0, 2]), answers([1, 3]), answers([5, 7])]
    for number, episodes in enumerate(tables):
        for episode in episodes:
            for turn in episode.turns:
                turn.group += 100 * number
    together = [episode for episodes in tables for episode in episodes]
    credit = Hierarchical()(together)
    asked = challenger(credit)
    assert asked == [2, 1, -3] and solver(credit) == [-1, 1] * 3
    assert not any(value for turn, value in LspMean()(together).items() if turn.role == "challenger")


def test_where_all_branch_hierarchical_is_the_group_mean() -> None:
    episodes = answers([0, 2, 5], [1, 1, 3])
    assert Hierarchical()(episodes) == LspMean()(episodes) == advantages(episodes)


def test_a_settled_turn_is_a_cousin_still() -> None:
    """Two documents, a question about each, the second of which a gate has settled at 0.5: -0.25 and 0.25, around the
    mean of 0 and 0.5, though nothing is left of the second episode but the question."""
    turns = [
        [Turn(role, f"{role}_0", {}, Action("x"), 10 * i + j) for j, role in enumerate(("library", "asker"))]
        for i in range(2)
    ]
    games = [Episode(tuple(said), {"library": 0.0, "asker": 0.0}, {}, {}, game="document_v0") for said in turns]
    credit = Hierarchical()([games[0], settled(games[1], turns[1][1], 0.5)])
    assert [credit[said[1]] for said in turns] == [-0.25, 0.25]


def test_cousins_are_of_one_game_and_place() -> None:
    """Two lone games of different names, 1 and 5: nobody to be compared with. Two of one name: -2 and 2."""
    assert list(Hierarchical()([played(1.0), played(5.0, "dice_v0", group=1)]).values()) == [0, 0]
    assert list(Hierarchical()([played(1.0), played(5.0, group=1)]).values()) == [-2, 2]


# -- MaxRL -------------------------------------------------------------------------------------------------------------


def test_max_rl_refuses_what_it_is_not_made_for() -> None:
    """A trainable turn below 0 has no place in a quotient; the query of LSP-Zero (-V) is nobody's to train here."""
    assert solver(MaxRL()(answers([0, 1]))) == [-1, 1]
    with pytest.raises(
        ValueError, match=r"max_rl needs values of at least 0, and a turn of solver is worth -1: .*forfeit=0"
    ):
        MaxRL()(answers([-1, 1]))


def test_a_bonus_beside_the_quotient() -> None:
    """r = [0, 1], quotient [-1, 1]; bonus [-0.2, -0.4], mean -0.3: +0.1 and -0.1."""
    episodes = answers([0, 1])
    bonus = {episodes[0].turns[1]: -0.2, episodes[1].turns[1]: -0.4}
    assert solver(MaxRL()(episodes, bonus)) == pytest.approx([-0.9, 0.9])


# -- what leaves them as they are --------------------------------------------------------------------------------------

scores = st.lists(
    st.lists(st.floats(0, 1).map(lambda r: round(r, 3)) | st.just(math.nan), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def dressed(rows: list[list[float]], seed: int) -> list[Episode]:
    """A tree whose turns have one to five tokens each."""
    rng = random.Random(seed)
    said = [[words(rng.randint(1, 5)) for _ in row] for row in rows]
    return tree(rows, completions=said, proposals=[words(rng.randint(1, 5)) for _ in rows])


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"rae_ema"}))
@settings(max_examples=40, deadline=None)
@given(rows=scores, seed=st.integers(0, 2**32))
def test_the_order_of_the_episodes_changes_nothing(name: str, rows: list[list[float]], seed: int) -> None:
    """Not by a bit, for all sums are exact. rae_ema is left out: it learns from one game after the other, so the first
    of [1, -1] has 1 and the first of [-1, 1] has -1."""
    episodes = dressed(rows, seed)
    shuffled = random.Random(seed).sample(episodes, len(episodes))
    shape = {"challenger": "learnability"} if name != "winner_only" else None
    assert make_estimator(name, shape)(shuffled) == make_estimator(name, shape)(episodes)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"rae_ema"}))
@settings(max_examples=20, deadline=None)
@given(rows=scores, seed=st.integers(0, 2**32))
def test_no_advantage_is_nan(name: str, rows: list[list[float]], seed: int) -> None:
    """Void episodes are out, whatever is left of their group."""
    episodes = dressed(rows, seed)
    credit = make_estimator(name, {"challenger": "spice_gauss"} if name != "winner_only" else None)(episodes)
    assert all(map(math.isfinite, credit.values()))
    assert set(credit) == {turn for end in episodes if not end.void for turn in end.turns if turn.role != "verifier"}


@pytest.mark.parametrize("name", ["lsp_mean", "hierarchical", "grpo_std", "rloo", "reinforce_pp_baseline", "trr_pp"])
@settings(max_examples=20, deadline=None)
@given(rows=scores, seed=st.integers(0, 2**32), add=st.integers(-9, 9))
def test_a_constant_changes_nothing(name: str, rows: list[list[float]], seed: int, add: int) -> None:
    """Added to all rewards, it leaves every advantage. A multiple of 1/8 keeps the sums exact enough for a division by
    the small deviation of nearly equal rewards."""
    rows = [[round(r * 8) / 8 if r == r else r for r in row] for row in rows]
    plain = make_estimator(name)(dressed(rows, seed))
    moved = make_estimator(name)(dressed([[r + add for r in row] for row in rows], seed))
    assert list(moved.values()) == pytest.approx(list(plain.values()), abs=1e-9)


# -- by name -----------------------------------------------------------------------------------------------------------


def test_a_name_makes_an_estimator_with_shapes() -> None:
    episodes = tree([[1, 0], [1, 1]])
    credit = make_estimator("lsp_mean", {"challenger": "learnability"})(episodes)
    assert challenger(credit) == [0.5, -0.5], "V = 1 and 0"


def test_an_object_is_taken_as_it_is_and_may_be_given_shapes() -> None:
    mine = GrpoStd(epsilon=0.1)
    assert make_estimator(mine) is mine and mine.shape == {}
    make_estimator(mine, {"challenger": "uncertainty"})
    assert list(mine.shape) == ["challenger"]
    with pytest.raises(ValueError, match="GrpoStd has shapes of its own, so leave the key shape out"):
        make_estimator(mine, {"challenger": "uncertainty"})
    assert make_estimator(advantages) is advantages, "any callable of episodes will do"
    with pytest.raises(ValueError, match="function takes no shapes"):
        make_estimator(advantages, {"challenger": "uncertainty"})


@pytest.mark.parametrize(
    ("credit", "shape", "sentence"),
    [
        ("lsp-mean", None, r"credit='lsp-mean' is unknown \(did you mean lsp_mean\?\): use lsp_mean, grpo_std"),
        ("rae", None, r"credit='rae' is unknown \(did you mean rae_ema\?\)"),
        (7, None, "credit=7 is neither a name nor an estimator"),
        ("rloo", {"challenger": "rzero"}, r"shape.challenger='rzero' is unknown \(did you mean r_zero\?\)"),
        ("rloo", {"challenger": 3}, "shape.challenger=3 is neither a name nor a shape"),
        ("rloo", "r_zero", "shape='r_zero' must say whose it is"),
    ],
)
def test_unknown_names_are_refused_in_a_sentence(credit: str, shape: dict[str, str] | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_estimator(credit, shape)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="decay=1 must be at least 0 and below 1"):
        RaeEma(decay=1)
    with pytest.raises(ValueError, match="epsilon=-1"):
        GrpoStd(epsilon=-1)
