"""Ratings of players from the results of their games: Elo's rule, and Plackett-Luce with its uncertainty.

Elo moves one number by the surprise of a result. The other is Weng and Lin's Bayesian approximation of the
Plackett-Luce model (JMLR 12, 2011, algorithm 4, as the package openskill has it): every player has a normal belief
about its strength, mean mu and deviation sigma, at first 25 and 25/3, and a game of any number of sides moves all of
them at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from selfplay.matches import Match

MU, SIGMA = 25.0, 25.0 / 3.0
DRIFT = MU / 300.0
"""How much the deviation of who plays grows before a game, for players that learn."""
NORMAL_95 = 1.959964
ORDERS, READINGS = (8, 256), 100_000
"""A set of games is rated in that many orders, at least and at most, and the mean is taken, for the rule itself reads
one game after the other; as many as come to about so many readings of a game, which take seconds."""


def expected(rating: float, other: float) -> float:
    """The expected result against ``other``, in (0, 1): 1 / (1 + 10^((other - rating) / 400)). A win counts 1, a draw
    1/2, so two equal players expect 1/2."""
    return 1 / (1 + 10 ** ((other - rating) / 400))


def elo(rating: float, other: float, result: float, step: float = 32.0) -> tuple[float, float]:
    """Both ratings after a match whose mean ``result`` for the first player lies in [0, 1]. What one gains, at most
    ``step`` points, the other loses."""
    gain = step * (result - expected(rating, other))
    return rating + gain, other - gain


@dataclass(frozen=True, slots=True)
class Rating:
    """A normal belief about a player's strength. A lead of 4.1 is the better side of about two games in three."""

    mu: float = MU
    sigma: float = SIGMA

    @property
    def interval(self) -> tuple[float, float]:
        """The central 95 % of the belief."""
        return self.mu - NORMAL_95 * self.sigma, self.mu + NORMAL_95 * self.sigma


class Ratings:
    """The ratings of a set of players, moved by one match after the other; ``drift`` 0 for players that stay as they
    are."""

    def __init__(self, names: Iterable[str], drift: float = DRIFT) -> None:
        from openskill.models import PlackettLuce  # imported here: only whoever rates waits for it

        self._rule: Any = PlackettLuce(mu=MU, sigma=SIGMA, tau=drift)
        self.of = {name: Rating() for name in names}

    def add(self, match: Match) -> None:
        """Move the ratings of all who played. After a forfeit the one who broke the rules is held against each of the
        others alone: it moves by the mean of these, and they by their share, for it is one game that was lost."""
        if not match.forfeiter:
            best = sorted(set(match.scores), reverse=True)
            self.of.update(self._rate(match.sides, [best.index(score) for score in match.scores]))
            return
        winners = [one if result else other for one, other, result in match.results()]
        before, share = dict(self.of), 1 / max(1, len(winners))
        for winner in winners:
            after = self._rate(((winner,), (match.forfeiter,)), (0, 1), before)
            for name, rated in after.items():
                old, now = before[name], self.of[name]
                self.of[name] = Rating(
                    now.mu + share * (rated.mu - old.mu), now.sigma + share * (rated.sigma - old.sigma)
                )

    def _rate(
        self, sides: Sequence[Sequence[str]], ranks: Sequence[int], of: Mapping[str, Rating] | None = None
    ) -> dict[str, Rating]:
        now = of or self.of
        # Places and not scores: openskill takes ranks between whole numbers, and those below 0, for a draw of all.
        teams = [[self._rule.rating(mu=now[name].mu, sigma=now[name].sigma) for name in side] for side in sides]
        after: Any = self._rule.rate(teams, ranks=[float(rank) for rank in ranks])
        return {
            name: Rating(float(rated.mu), float(rated.sigma))
            for side, team in zip(sides, after, strict=True)
            for name, rated in zip(side, team, strict=True)
        }


def rate(names: Sequence[str], matches: Sequence[Match], seed: int) -> dict[str, Rating]:
    """The ratings of players that do not change, from all their matches: the mean over many orders of them, drawn by
    ``seed``."""
    orders = min(max(READINGS // max(1, len(matches)), ORDERS[0]), ORDERS[1])
    found: list[dict[str, Rating]] = []
    for number in range(orders):
        ratings, shuffled = Ratings(names, drift=0.0), list(matches)
        random.Random(f"{seed}/{number}").shuffle(shuffled)
        for match in shuffled:
            ratings.add(match)
        found.append(ratings.of)
    return {
        name: Rating(fmean(one[name].mu for one in found), fmean(one[name].sigma for one in found)) for name in names
    }
