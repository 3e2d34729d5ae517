"""Teams share what they earn: by hand, when it was paid, and that nothing else is touched."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.estimators import LspMean, Teams, TurnLevel, make_estimator
from selfplay.lessons import settled
from selfplay.teams import shared
from selfplay.types import Episode, Stateful
from tests.credit_trees import by_role
from tests.seats import moved, of_seat, paying

TOWN = {"town": ["villager", "seer"], "wolves": ["wolf"]}


def night(*paid: float, silent: tuple[str, ...] = ()) -> Episode:
    """Two villagers, the seer, a wolf: each has a turn, and is paid after the last."""
    seats = ("villager_0", "villager_1", "seer_0", "wolf_0")
    return paying(*[(seat, {}) for seat in seats[:-1]], (seats[-1], dict(zip(seats, paid, strict=True))), silent=silent)


def test_a_team_has_the_mean_of_its_seats() -> None:
    """Paid 1, 0, 5 and -3: the town 6 / 3 = 2 each, the wolf -3. A role's return is that of its team."""
    game = night(1, 0, 5, -3)
    after = shared(game, TOWN)
    assert after.seats == {"villager_0": 2, "villager_1": 2, "seer_0": 2, "wolf_0": -3}
    assert after.returns == {"villager": 2, "seer": 2, "wolf": -3} and after.paid[-1] == after.seats
    assert after.turns == game.turns and game.seats["villager_0"] == 1, "a copy, of the very same turns"


def test_a_seat_can_be_in_a_team_and_who_was_silent_too() -> None:
    """villager_1 with the wolf: 0 and -3, mean -1.5. villager_0 shares with villager_2, who had no turn: 1 and 0. The
    villagers' return is the mean of all three; the seer's is its own."""
    after = shared(
        night(1, 0, 5, -3, silent=("villager_2",)), {"x": ["villager_1", "wolf"], "y": ["villager_0", "villager_2"]}
    )
    assert after.seats == {"villager_2": 0.5, "villager_0": 0.5, "villager_1": -1.5, "seer_0": 5, "wolf_0": -1.5}
    assert after.returns == {"villager": pytest.approx(-0.5 / 3), "seer": 5, "wolf": -1.5}


def test_payments_are_shared_when_they_come() -> None:
    """The seer is paid 2 after villager_0's turn, the villager 2 at the end: alike in total, and not in time. Shared, G
    of the seer, who speaks last, is 1, and not 0."""
    game = paying(("villager_0", {"seer_0": 2.0}), ("seer_0", {"villager_0": 2.0}))
    team = {"town": ["villager", "seer"]}
    assert shared(game, team).paid == ({"villager_0": 1, "seer_0": 1}, {"villager_0": 1, "seer_0": 1})
    alone, together = (TurnLevel(baseline="rae_ema", scale=False) for _ in range(2))
    assert list(alone([game]).values()) == [2, 0]
    assert list(make_estimator(together, teams=team)([game]).values()) == [2, 1]


def test_who_counted_by_the_role_shares_as_well() -> None:
    turns = (moved("villager_0"), moved("seer_0"), moved("wolf_0"))
    game = Episode(turns, {"villager": 1.0, "seer": 0.0, "wolf": -1.0}, {}, {})
    assert shared(game, TOWN).returns == {"villager": 0.5, "seer": 0.5, "wolf": -1}


def test_what_teams_do_not_change_is_the_very_same() -> None:
    alike, void = night(1, 1, 1, -3), night(1, 0, math.nan, 0)
    assert shared(alike, TOWN) is alike and shared(void, TOWN) is void and void.void
    lesson = settled(night(1, 0, 5, -3), alike.turns[0], 0.5)
    assert shared(lesson, TOWN) is lesson, "a gate has decided what it is worth"


def test_any_estimator_can_be_given_teams(tmp_path: Path) -> None:
    """Siblings of villager_0 whose team earns 3 and 0 by the seer alone: 1 each and 0, centred 0.5 and -0.5."""
    games = [
        paying((moved("villager_0", group=1), {}), (moved("villager_1"), {}), (moved("seer_0"), {"seer_0": earned}))
        for earned in (3.0, 0.0)
    ]
    team = {"town": ["villager", "seer"]}
    assert set(LspMean()(games).values()) == {0.0}
    credit = make_estimator("lsp_mean", teams=team)
    assert of_seat(credit(games), "villager_0") == [0.5, -0.5]
    assert credit.metrics() == {"singleton_groups/villager": 2.0, "singleton_groups/seer": 2.0}  # pyright: ignore
    moving = make_estimator("rae_ema", teams=team)
    assert isinstance(moving, Teams) and isinstance(moving, Stateful)
    assert by_role(moving(games[:1]), "villager") == [1, 1]
    moving.save(tmp_path)
    twin = make_estimator("rae_ema", teams=team)
    twin.load(tmp_path)  # pyright: ignore
    assert twin(games) == moving(games)
    credit.save(tmp_path / "nothing")  # pyright: ignore
    credit.load(tmp_path / "nothing")  # pyright: ignore


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=4, max_size=4))
def test_sharing_keeps_the_sum_and_twice_is_once(paid: list[float]) -> None:
    game = night(*paid)
    once = shared(game, TOWN)
    assert math.fsum(once.seats.values()) == pytest.approx(math.fsum(game.seats.values()), abs=1e-9)
    assert shared(once, TOWN) is once


@pytest.mark.parametrize(
    ("teams", "sentence"),
    [
        (
            {"town": ["villagr"]},
            r"teams.town names 'villagr' \(did you mean villager\?\), who earns nothing: these",
        ),
        ({"town": ["villager"], "x": ["villager"]}, "teams name 'villager' twice"),
        ({"town": "villager"}, "teams.town='villager' must be a list of roles or seats"),
        ({"town": []}, r"teams.town=\[\] must be a list"),
    ],
)
def test_teams_that_cannot_be(teams: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_estimator("lsp_mean", teams=teams)([night(0, 0, 0, 0)])


def test_a_role_may_be_missing_later() -> None:
    """Whoever is dealt may be missing from a game: names are checked by the first games that come."""
    credit = make_estimator("lsp_mean", teams=TOWN)
    assert credit([]) == {}
    credit([night(0, 0, 0, 0)])
    assert credit([paying(("villager_0", {"villager_0": 1.0}))])
