"""Elo's rule by hand, and Plackett-Luce by places."""

from __future__ import annotations

import pytest

from selfplay.matches import Match
from selfplay.rating import Ratings, elo, expected


def test_expected_results() -> None:
    """Equal: 1/2. 400 points ahead: 1 / (1 + 10^-1) = 10/11; behind: 1/11."""
    assert expected(1500, 1500) == 0.5
    assert expected(1900, 1500) == pytest.approx(10 / 11)
    assert expected(1500, 1900) == pytest.approx(1 / 11)


def test_a_match() -> None:
    """Equal players, a win: 32 * (1 - 1/2) = 16 points change hands. The expected result changes nothing. 400 points
    behind and a win: 32 * (1 - 1/11) = 29.09."""
    assert elo(1500, 1500, 1.0) == (1516.0, 1484.0)
    assert elo(1500, 1500, 0.5) == (1500.0, 1500.0)
    assert elo(1500, 1900, 1.0) == pytest.approx((1500 + 320 / 11, 1900 - 320 / 11))
    one, other = elo(1612.5, 1433.25, 0.3, step=10)
    assert one + other == pytest.approx(1612.5 + 1433.25) and one < 1612.5


@pytest.mark.parametrize("scores", [(1.5, 1.0, 1.0), (0.25, 0.0, 0.0), (-0.1, -0.5, -0.5), (3.0, -2.0, -2.0)])
def test_a_rating_goes_by_the_places_and_not_by_the_scores(scores: tuple[float, ...]) -> None:
    """One wins, two share the second place, whatever the scores are."""
    ratings = Ratings("abc", drift=0.0)
    ratings.add(Match((("a",), ("b",), ("c",)), scores))
    assert ratings.of["a"].mu == pytest.approx(27.87, abs=0.01)
    assert ratings.of["b"].mu == ratings.of["c"].mu == pytest.approx(23.57, abs=0.01)
