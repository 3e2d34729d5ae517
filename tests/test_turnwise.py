"""Turn-level credit by hand: returns to go, the scale of every agent, and that without either it is what it was."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.estimators import ESTIMATORS, GrpoStd, LspMean, RaeEma, RoleMean, TurnLevel, make_estimator
from selfplay.lessons import settled
from selfplay.turnwise import BASELINES, ToGo
from selfplay.types import Episode, Stateful
from tests.credit_trees import answers, by_role, challenger, played, solver
from tests.helpers import tree
from tests.seats import moved, of_seat, paying

# -- returns to go -----------------------------------------------------------------------------------------------------


def test_what_comes_later_counts_less() -> None:
    """Seats a b a b, discount 0.5. a is paid 1 after b's first turn and 4 at the end: G = 1 + 0.5 * 4 = 3, then 4. b is
    paid 2 after its first and -4 at the end: G = 2 - 2 = 0, then -4."""
    game = paying(("a_0", {}), ("b_0", {"a_0": 1.0, "b_0": 2.0}), ("a_0", {}), ("b_0", {"a_0": 4.0, "b_0": -4.0}))
    assert list(ToGo(0.5)(game).values()) == [3, 0, 4, -4]
    assert list(ToGo()(game).values()) == [5, -2, 4, -4]
    assert list(ToGo(0.0)(game).values()) == [1, 2, 4, -4], "until its next turn alone"


def test_the_moves_of_others_cost_nothing() -> None:
    """One turn of a, paid 1 after three turns of b: nothing of its own lies in between, so 1 in full."""
    game = paying(("a_0", {}), ("b_0", {}), ("b_0", {}), ("b_0", {"a_0": 1.0}))
    assert list(ToGo(0.5)(game).values()) == [1, 0, 0, 0]


def test_what_came_before_is_no_merit() -> None:
    assert list(ToGo()(paying(("b_0", {"a_0": 8.0}), ("a_0", {"a_0": 1.0}))).values()) == [0, 1]


def test_seats_of_one_role_are_paid_apart() -> None:
    game = paying(("juror_0", {"juror_0": 1.0}), ("juror_1", {}), ("juror_0", {"juror_0": 1.0, "juror_1": 3.0}))
    assert list(ToGo(0.5)(game).values()) == [1.5, 3, 1]


def test_who_kept_no_payments_was_paid_at_the_end() -> None:
    turns = (moved("a_0"), moved("b_0"), moved("a_0"))
    assert list(ToGo(0.5)(Episode(turns, {"a": 4.0, "b": -4.0}, {}, {})).values()) == [2, -4, 4]


def test_what_a_gate_has_settled_is_that_turn_s_worth() -> None:
    """A turn of a game that paid 1 and then 2, worth 0.5 by a gate: to the return and to the return to go."""
    game = paying(("a_0", {"a_0": 1.0}), ("b_0", {"a_0": 2.0}))
    lesson = settled(game, game.turns[0], 0.5)
    assert lesson.earned(game.turns[0]) == 0.5 and list(ToGo(0.5)(lesson).values()) == [0.5]


@pytest.mark.parametrize("discount", [-0.1, 1.1, math.nan])
def test_a_discount_that_is_none(discount: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        TurnLevel(discount=discount)


# -- the scale of every agent ------------------------------------------------------------------------------------------


def test_one_role_by_hand() -> None:
    """Two games, two turns of a in each; paid 0 and then 1 in the one, nothing in the other. G = 1 1 0 0, mean 1/2,
    deviation sqrt(4 * 1/4 / 3) = 0.57735, so 0.86603 and -0.86603."""
    games = [paying(("a_0", {}), ("a_0", {"a_0": reward})) for reward in (1.0, 0.0)]
    credit = TurnLevel()
    assert list(credit(games).values()) == pytest.approx([0.86603, 0.86603, -0.86603, -0.86603], abs=1e-5)
    assert credit.metrics() == {"credit_deviation/a": pytest.approx(0.57735, abs=1e-5)}


def test_payments_are_added_up_before_they_are_measured() -> None:
    """One game, paid 1 after each of two turns: G = 2 and 1, mean 1.5, deviation sqrt(2 * 1/4) = 0.70711. Measured
    first, both payments would be equal and worth nothing."""
    credit = TurnLevel()([paying(("a_0", {"a_0": 1.0}), ("a_0", {"a_0": 1.0}))])
    assert list(credit.values()) == pytest.approx([0.70711, -0.70711], abs=1e-5)


def test_roles_are_measured_apart() -> None:
    """b earns ten times what a does, and both have the same advantages: G = 1 -1 and -10 10, mean 0, deviation sqrt(2)
    and sqrt(200). Without the scale they are what they earn."""
    games = [paying(("a_0", {}), ("b_0", {"a_0": r, "b_0": -10 * r})) for r in (1.0, -1.0)]
    half = 0.70711
    assert list(TurnLevel()(games).values()) == pytest.approx([half, -half, -half, half], abs=1e-5)
    assert list(TurnLevel(scale=False)(games).values()) == [1, -10, -1, 10]


def test_seats_and_personas_may_be_measured_apart() -> None:
    """Jurors 0 and 1 earn 1, 3 and 10, 30. By role the mean is 11. By seat each has the mean of its own: 2 and 20. Ada
    sat in seat 0 first and in seat 1 then: Ada has 1 and 30, Bob 10 and 3."""

    def game(first: float, second: float, *names: str) -> Episode:
        personas = {"juror_0": names[0], "juror_1": names[1]}
        return paying(("juror_0", {}), ("juror_1", {"juror_0": first, "juror_1": second}), personas=personas)

    games = [game(1, 10, "Ada", "Bob"), game(3, 30, "Bob", "Ada")]
    raw = {by: list(TurnLevel(by=by, scale=False)(games).values()) for by in ("role", "seat", "persona")}
    assert raw == {"role": [-10, -1, -8, 19], "seat": [-1, -10, 1, 10], "persona": [-14.5, 3.5, -3.5, 14.5]}
    scaled = TurnLevel(by="persona")
    scaled(games)
    assert set(scaled.metrics()) == {"credit_deviation/juror/Ada", "credit_deviation/juror/Bob"}
    with pytest.raises(ValueError, match=r"by=persona, and nobody in g_v0 has a persona"):
        TurnLevel(by="persona")([paying(("a_0", {}))])
    with pytest.raises(ValueError, match=r"by='seats' is unknown \(did you mean seat\?\)"):
        TurnLevel(by="seats")


def test_a_frozen_player_is_not_measured() -> None:
    """Its turns are in the mean, as siblings without tokens are, and not in the deviation: G = 1 -1 and 7 of the frozen
    one, mean 7/3; (4/3)^2 + (10/3)^2 = 12.889."""
    games = [paying((moved("a_0", tokens=t), {"a_0": r})) for r, t in ((1.0, 1), (-1.0, 1), (7.0, 0))]
    credit = list(TurnLevel()(games).values())
    assert credit[:2] == pytest.approx([-4 / 3 / 12.8889**0.5, -10 / 3 / 12.8889**0.5], abs=1e-5)


def test_where_all_is_equal_nothing_is_learned() -> None:
    """0.1 three times is not 0.3: rounding in a mean must not be blown up by a deviation of nearly 0."""
    games = [paying(("a_0", {"a_0": 0.1}), ("b_0", {"b_0": 1 / 3})) for _ in range(3)]
    assert set(TurnLevel()(games).values()) == {0.0}
    assert list(TurnLevel()([paying(("a_0", {"a_0": 5.0}))]).values()) == [0.0]
    assert TurnLevel()([]) == {}


# -- with branches -----------------------------------------------------------------------------------------------------


def test_branches_are_compared_with_their_siblings() -> None:
    """a's two siblings are paid 1 after the turn, and 3 or 0, and 1 or 0 at the two leaves of each: V = 1 + 1.5 and
    1 + 0.5, mean 2: 0.5 and -0.5. Each leaf is a turn of b, who earns what a does in the end, less the mean of its two:
    +-1.5 and +-0.5. Deviations 0.70711 and sqrt(5 / 3) = 1.29099."""
    games = []
    for number, ends in enumerate(((3.0, 0.0), (1.0, 0.0))):
        turn = moved("a_0", group=1)
        for end in ends:
            games.append(paying((turn, {"a_0": 1.0}), (moved("b_0", group=2 + number), {"a_0": end, "b_0": end})))
    plain = TurnLevel(scale=False)(games)
    assert of_seat(plain, "a_0") == [0.5, -0.5] and of_seat(plain, "b_0") == [1.5, -1.5, 0.5, -0.5]
    scaled = TurnLevel()(games)
    assert of_seat(scaled, "a_0") == pytest.approx([0.70711, -0.70711], abs=1e-5)
    assert of_seat(scaled, "b_0")[0] == pytest.approx(1.5 / 1.29099, abs=1e-5)


def test_role_mean_compares_loners_with_their_role() -> None:
    """Values of lone turns 1, 2 and 6 of a: mean 3. Siblings 0 and 4 of a stay among themselves."""
    lone = [paying((moved("a_0"), {"a_0": r})) for r in (1.0, 2.0, 6.0)]
    twins = [paying((moved("a_0", group=1), {"a_0": r})) for r in (0.0, 4.0)]
    assert list(RoleMean()([*lone, *twins]).values()) == [-2, -1, 3, -2, 2]
    alone = RoleMean()
    assert list(alone([paying((moved("a_0"), {"a_0": 7.0})), paying(("b_0", {"b_0": 1.0}))]).values()) == [0, 0]
    assert alone.metrics() == {"singleton_groups/a": 1.0, "singleton_groups/b": 1.0}


# -- the same as ever --------------------------------------------------------------------------------------------------

scores = st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=4), min_size=1, max_size=4)


@pytest.mark.parametrize("name", sorted(BASELINES))
@settings(max_examples=30, deadline=None)
@given(rows=scores)
def test_paid_at_the_end_in_full_it_is_the_plain_estimator(name: str, rows: list[list[float]]) -> None:
    """Discount 1, no scale, by the bit: with payments that were kept, and with those that were not."""
    episodes = tree(rows)
    for episode in episodes:
        episode.seats = {f"{role}_0": value for role, value in episode.returns.items()}
    plain = make_estimator(name)(episodes)
    assert TurnLevel(baseline=name, scale=False)(episodes) == plain
    for episode in episodes:
        episode.paid = ({},) * (len(episode.turns) - 1) + (episode.seats,)
    assert TurnLevel(baseline=name, scale=False)(episodes) == plain


@settings(max_examples=30, deadline=None)
@given(payments=st.lists(st.lists(st.integers(-8, 8), min_size=4, max_size=4), min_size=1, max_size=8))
def test_a_zero_sum_game_is_symmetric(payments: list[list[int]]) -> None:
    """What one seat gains the other loses, after every pair of turns: their advantages are each other's negatives."""
    games = [
        paying(*[(f"{seat}_0", {"a_0": r, "b_0": -r} if seat == "b" else {}) for r in rewards for seat in "ab"])
        for rewards in payments
    ]
    for estimator in (TurnLevel(discount=0.5), TurnLevel(baseline="rae_ema"), RaeEma(), RoleMean()):
        credit = estimator(games)
        assert by_role(credit, "a") == pytest.approx([-value for value in by_role(credit, "b")], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    payments=st.lists(st.lists(st.floats(-8, 8), min_size=2, max_size=2), min_size=2, max_size=8), seed=st.integers()
)
def test_the_order_of_the_games_changes_nothing(payments: list[tuple[float, float]], seed: int) -> None:
    games = [paying(("a_0", {"a_0": first}), ("b_0", {}), ("a_0", {"a_0": last})) for first, last in payments]
    shuffled = random.Random(seed).sample(games, len(games))
    assert TurnLevel(discount=0.9)(shuffled) == TurnLevel(discount=0.9)(games)


# -- as a part ---------------------------------------------------------------------------------------------------------


def test_its_baselines_are_kept(tmp_path: Path) -> None:
    credit = make_estimator(TurnLevel(baseline="rae_ema", scale=False))
    assert isinstance(credit, TurnLevel) and isinstance(credit, Stateful)
    games = [paying(("a_0", {"a_0": 1.0}), ("a_0", {"a_0": 1.0}))]
    assert list(credit(games).values()) == [2, 1], "b = 0"
    credit.save(tmp_path)
    twin = TurnLevel(baseline="rae_ema", scale=False)
    twin.load(tmp_path)
    assert list(twin(games).values()) == list(credit(games).values()) == pytest.approx([2 - 0.075, 1 - 0.075])
    TurnLevel().save(tmp_path / "nothing to keep")
    TurnLevel().load(tmp_path / "nothing to keep")


def test_a_shape_comes_before_payments() -> None:
    """4 p (1 - p) of two queries, 1 and 0: +-0.5. The answers are paid as they are."""
    episodes = tree([[1, 0], [1, 1]])
    credit = make_estimator(TurnLevel(scale=False), {"challenger": "learnability"})(episodes)
    assert challenger(credit) == [0.5, -0.5] and solver(credit) == [0.5, -0.5, 0, 0]
    own = TurnLevel(baseline=LspMean({"challenger": "learnability"}), scale=False)
    assert challenger(own(episodes)) == [0.5, -0.5]
    with pytest.raises(ValueError, match=r"credit\.baseline has shapes of its own"):
        TurnLevel({"challenger": "learnability"}, baseline=LspMean({"challenger": "learnability"}))


def test_wrong_baselines() -> None:
    with pytest.raises(ValueError, match=r"credit.baseline='rae' is unknown \(did you mean rae_ema\?\): use role_mean"):
        TurnLevel(baseline="rae")
    with pytest.raises(ValueError, match="TurnLevel compares no returns to go"):
        TurnLevel(baseline=TurnLevel())
    assert isinstance(TurnLevel(baseline=GrpoStd(epsilon=1.0)).baseline, GrpoStd), "any that compares may be made"


def test_by_its_name_it_is_marshal_s() -> None:
    """arXiv 2510.15414: games that do not branch, the role's mean and deviation, no discount."""
    assert isinstance(ESTIMATORS["turn_level"](None), TurnLevel)
    games = [played(r, group=n) for n, r in enumerate((1.0, 1.0, 0.0))]
    assert make_estimator("turn_level")(games) == RoleMean()(games), "turns without tokens are not measured"
    assert set(make_estimator("turn_level")(answers([0.0, 1.0]))), "and trees are taken as well"
