"""Ratings of players from the results of their games: Elo's rule."""

from __future__ import annotations


def expected(rating: float, other: float) -> float:
    """The expected result against ``other``, in (0, 1): 1 / (1 + 10^((other - rating) / 400)). A win counts 1, a draw
    1/2, so two equal players expect 1/2."""
    return 1 / (1 + 10 ** ((other - rating) / 400))


def elo(rating: float, other: float, result: float, step: float = 32.0) -> tuple[float, float]:
    """Both ratings after a match whose mean ``result`` for the first player lies in [0, 1]. What one gains, at most
    ``step`` points, the other loses."""
    gain = step * (result - expected(rating, other))
    return rating + gain, other - gain
