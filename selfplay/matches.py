"""Who won against whom: the result of an episode, seat by seat, and the table of all results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from selfplay.types import VERIFIER, Episode


@dataclass(frozen=True, slots=True)
class Match:
    """The sides of one game, best first or not: ``scores[i]`` is what side i earned, the mean over its seats.

    A side is a competitor or, in a game of teams, several who win and lose together. ``forfeiter`` broke the rules: it
    has lost against all others, and nothing is known of the others among themselves.
    """

    sides: tuple[tuple[str, ...], ...]
    scores: tuple[float, ...]
    forfeiter: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for side in self.sides for name in side)

    def results(self) -> Iterator[tuple[str, str, float]]:
        """(one, other, result) for every two competitors of different sides that the game compares, once each: 1 where
        the one won, 1/2 for a draw, 0."""
        for i, side in enumerate(self.sides):
            for j in range(i):
                for one in side:
                    for other in self.sides[j]:
                        if not self.forfeiter:
                            yield one, other, _result(self.scores[i], self.scores[j])
                        elif self.forfeiter in (one, other):
                            yield one, other, float(self.forfeiter == other)


def match_of(
    episode: Episode, names: Mapping[str, str], teams: Mapping[str, Sequence[str]] | None = None
) -> Match | None:
    """The result of an episode for the competitors ``names``, seat -> name; seats that are not in it do not compete.

    Who earned more has won, and equal is a draw. Who sits in several seats earned their mean. ``teams`` maps a team to
    roles: seats of one team do not compete with each other; where one name sits on two sides everybody plays for
    themselves. None for what is no result: a void episode, one that was cut at a limit (``truncated``), or one with
    fewer than two sides.
    """
    if episode.void or episode.truncated:
        return None
    roles = episode.roles
    seats = [seat for seat in names if seat in episode.seats]
    sides: dict[str, dict[str, None]] = {}
    for seat in seats:
        team = next((team for team, members in (teams or {}).items() if roles.get(seat) in members), "")
        sides.setdefault(team or f"={names[seat]}", {})[names[seat]] = None
    named = [name for side in sides.values() for name in side]
    if len(named) > len(set(named)):
        sides = {name: {name: None} for name in named}
    if len(sides) < 2:
        return None
    scores = [_mean(episode.seats[seat] for seat in seats if names[seat] in side) for side in sides.values()]
    forfeiter = next((turn.seat for turn in reversed(episode.turns) if turn.role == episode.forfeit), "")
    return Match(tuple(tuple(side) for side in sides.values()), tuple(scores), names.get(forfeiter, ""))


def paid_seats(game: Any) -> list[str]:
    """The seats of a game that its payoff can pay, or all seats where its rules pay: whoever is paid competes."""
    seats = [seat for seat in game.possible_agents if not seat.startswith(f"{VERIFIER}_")]
    payoff: Mapping[str, Mapping[str, float]] = getattr(game, "payoff", None) or {}
    if getattr(game, "rules_pay", False) or not payoff:
        return seats
    paid = {name for name, row in payoff.items() if any(row.values())}
    dealt, role_of = tuple(getattr(game, "dealt_roles", ())), game.role_of
    teams: Mapping[str, Sequence[str]] = getattr(game, "teams", {})
    found: list[str] = []
    for seat in seats:
        roles = {role_of[seat], *dealt}
        if paid & {seat, *roles, *(team for team, members in teams.items() if roles & {*members})}:
            found.append(seat)
    return found


class Matrix:
    """Games, wins and draws of every two competitors, for each against each."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.games: dict[str, dict[str, int]] = self._blank()
        self.wins: dict[str, dict[str, int]] = self._blank()
        self.draws: dict[str, dict[str, int]] = self._blank()

    def add(self, match: Match) -> None:
        for one, other, result in match.results():
            for a, b, won in ((one, other, result == 1), (other, one, result == 0)):
                self.games[a][b] += 1
                self.wins[a][b] += won
                self.draws[a][b] += result == 0.5

    def share(self, one: str, other: str) -> float | None:
        """The share of their games that ``one`` won, a draw counting 1/2; None where they never met."""
        games = self.games[one][other]
        return (self.wins[one][other] + self.draws[one][other] / 2) / games if games else None

    def of(self, name: str) -> tuple[int, int, int]:
        """How many comparisons a competitor won, drew and lost."""
        won, drawn = sum(self.wins[name].values()), sum(self.draws[name].values())
        return won, drawn, sum(self.games[name].values()) - won - drawn

    def state(self) -> dict[str, dict[str, dict[str, int]]]:
        """``{games, wins, draws}``, each by name and name."""
        return {"games": self.games, "wins": self.wins, "draws": self.draws}

    def take(self, state: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        """What ``state`` gave, of the same names."""
        for table, told in zip((self.games, self.wins, self.draws), ("games", "wins", "draws"), strict=True):
            for one, row in state[told].items():
                table[one].update(row)

    def _blank(self) -> dict[str, dict[str, int]]:
        return {one: {other: 0 for other in self.names if other != one} for one in self.names}


def _result(mine: float, theirs: float) -> float:
    return 0.5 if mine == theirs else float(mine > theirs)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fsum(found) / len(found)
