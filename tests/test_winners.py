"""SPAG's credit by hand: the winner's turns alone, later ones more, and both roles alike."""

from __future__ import annotations

import math

import pytest

from selfplay.estimators import WinnerOnly, make_estimator
from selfplay.types import Action, Episode, Turn
from selfplay.winners import discounted
from tests.credit_trees import by_role, words
from tests.seats import of_seat, paying


def game(winner: str, turns: int = 2, *, tokens: int = 3, frozen: str = "") -> Episode:
    """``turns`` of each role in turn; "" is a tie. The frozen role says nothing in tokens."""
    said = [
        Turn(role, f"{role}_0", {}, Action("x", None if role == frozen else words(tokens)), 10 * number + place)
        for number in range(turns)
        for place, role in enumerate(("attacker", "defender"))
    ]
    dealt = Turn("dealer", "dealer_0", {}, Action("cat"), 99)
    returns = {role: 0.0 if not winner else 1.0 if role == winner else -1.0 for role in ("attacker", "defender")}
    return Episode((dealt, *said), {"dealer": 0.0, **returns}, {}, {}, game="taboo_v0")


@pytest.mark.parametrize(
    ("turns", "shares"),
    [
        (1, [1.0]),
        (2, [0.4444, 0.5556]),
        (3, [0.2623, 0.3279, 0.4098]),
        (5, [0.1218, 0.1523, 0.1904, 0.2380, 0.2975]),
    ],
)
def test_later_turns_count_more(turns: int, shares: list[float]) -> None:
    """(1 / 0.8)^t, normalised. T = 2: 1.25 and 1.5625 of 2.8125, 4/9 and 5/9. T = 3: 0.64, 0.8 and 1 of 2.44.
    T = 5: 0.4096, 0.512, 0.64, 0.8 and 1 of 3.3616."""
    assert discounted(turns, 0.8) == pytest.approx(shares, abs=5e-5)
    assert sum(discounted(turns, 0.8)) == pytest.approx(1)


def test_no_decay_is_a_mean() -> None:
    assert discounted(4, 1.0) == [0.25] * 4 and discounted(0, 0.8) == []


def test_only_the_winner_learns() -> None:
    """One game, won by the Attacker in two turns: n = n_attacker = 1 and k = 2, so a weight of 1/2: 2/9 and 2.5/9."""
    credit = WinnerOnly()([game("attacker")])
    assert by_role(credit, "attacker") == pytest.approx([2 / 9, 2.5 / 9])
    assert by_role(credit, "defender") == [0.0, 0.0] and by_role(credit, "dealer") == [0.0]


def test_roles_weigh_the_same() -> None:
    """3 games won by the Attacker, 1 by the Defender: 4 / (2 * 3) = 4/6 and 4 / (2 * 1) = 4/2. What all games of a role
    add up to is then 2 for both."""
    estimator = WinnerOnly()
    credit = estimator([*(game("attacker") for _ in range(3)), game("defender"), game("")])
    attacks, defences = by_role(credit, "attacker"), by_role(credit, "defender")
    assert attacks[:2] == pytest.approx([4 / 6 * 4 / 9, 4 / 6 * 5 / 9])
    assert defences[6:8] == pytest.approx([4 / 2 * 4 / 9, 4 / 2 * 5 / 9])
    assert sum(attacks) == pytest.approx(2) and sum(defences) == pytest.approx(2)
    assert attacks[6:] == [0.0] * 4 and defences[:6] == [0.0] * 6 and defences[8:] == [0.0] * 2
    assert estimator.metrics() == {"wins/attacker": 3.0, "wins/defender": 1.0}


def test_a_role_that_never_wins_is_not_learned() -> None:
    estimator = WinnerOnly()
    credit = estimator([game("attacker"), game("attacker")])
    assert sum(by_role(credit, "attacker")) == pytest.approx(1) and not any(by_role(credit, "defender"))
    assert estimator.metrics() == {"wins/attacker": 2.0, "wins/defender": 0.0}


def test_a_frozen_opponents_wins_do_not_count() -> None:
    """The Attacker alone learns: k = 1, n = 2, whatever the frozen Defender wins."""
    games = [game(winner, frozen="defender") for winner in ("attacker", "attacker", "defender")]
    credit = WinnerOnly()(games)
    assert by_role(credit, "attacker")[:2] == pytest.approx([4 / 9, 5 / 9])
    assert not any(by_role(credit, "defender"))


def test_ties_and_voids_teach_nothing() -> None:
    assert set(WinnerOnly()([game(""), game("")]).values()) == {0.0}
    void = game("attacker")
    void.returns = {**void.returns, "defender": math.nan}
    assert WinnerOnly()([void]) == {} and WinnerOnly()([]) == {}


def test_of_several_seats_only_those_who_won_learn() -> None:
    """Juror 0 is paid 1 and juror 1 loses as much; the role's mean, 0, is not what either of them won. One win of one
    role that learns: n = n_juror = k = 1, so T = 2 turns have 4/9 and 5/9. A second winner has as much, for n = 2."""
    turns = [("juror_0", {}), ("juror_1", {}), ("juror_0", {}), ("juror_1", {"juror_0": 1.0, "juror_1": -1.0})]
    credit = WinnerOnly()([paying(*turns)])
    assert of_seat(credit, "juror_0") == pytest.approx([4 / 9, 5 / 9]) and of_seat(credit, "juror_1") == [0, 0]
    estimator = WinnerOnly()
    both = estimator([paying(*turns[:-1], ("juror_1", {"juror_0": 1.0, "juror_1": 2.0}))])
    assert of_seat(both, "juror_0") == of_seat(both, "juror_1") == pytest.approx([4 / 9, 5 / 9])
    assert estimator.metrics() == {"wins/juror": 2.0}


def test_a_bonus_is_a_mean_over_a_winners_tokens() -> None:
    """A = r - beta * mean_t(log pi_old - log pi_ref): -0.6 over 3 tokens is -0.2. The loser's turn stays at 0."""
    episode = game("attacker", turns=1)
    _, attack, defence = episode.turns
    credit = WinnerOnly()([episode], {attack: -0.6, defence: -0.6})
    assert credit[attack] == pytest.approx(0.5 - 0.2) and credit[defence] == 0.0


def test_a_shared_turn_has_the_mean_of_its_games() -> None:
    """One clue with two replies, one of which lost and one of which won: n = 2, one win each, weights of 1."""
    clue = Turn("attacker", "attacker_0", {}, Action("x", words(1)), 0)
    replies = [Turn("defender", "defender_0", {}, Action("x", words(1)), 1) for _ in range(2)]
    won, lost = {"attacker": 1.0, "defender": -1.0}, {"attacker": -1.0, "defender": 1.0}
    games = [Episode((clue, reply), paid, {}, {}) for reply, paid in zip(replies, (won, lost), strict=True)]
    assert list(WinnerOnly()(games).values()) == [0.5, 0.0, 1.0]


def test_refused() -> None:
    assert isinstance(make_estimator("winner_only"), WinnerOnly)
    with pytest.raises(ValueError, match="winner_only looks at who won and takes no shapes"):
        make_estimator("winner_only", {"attacker": "zero_sum"})
    for decay in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="must be above 0 and at most 1"):
            WinnerOnly(decay=decay)
