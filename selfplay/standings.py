"""Who beats whom: the standings of the personas of a game, over a whole run, with ratings."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from selfplay.matches import Match, Matrix, match_of, paid_seats
from selfplay.rating import Rating, Ratings
from selfplay.types import Episode

FILE = "standings.json"
PICTURE = "standings.png"


class Standings:
    """The results of competitors against each other, and their ratings; kept in a checkpoint, so that a resumed run
    has the same.

    ``seats`` are those that compete, and ``teams`` maps a team to its roles (``matches.match_of`` says who wins). Every
    leaf of a branched game is a game. A game that is void or was cut at a limit moves nothing, and is counted.
    """

    def __init__(
        self, names: Iterable[str], seats: Sequence[str], teams: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.names = list(names)
        self._seats, self._teams = list(seats), teams
        self.matrix, self.ratings = Matrix(self.names), Ratings(self.names)
        self.played = self.left_out = 0

    def note(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Count the games of a step; metrics of it: ``rating/<name>`` (mu) and ``rating_sigma/<name>`` of all who have
        played, ``wins/<name>``, the share of the step's comparisons that a competitor won, a draw counting 1/2, and
        ``reward/<role>/<name>`` for every role that it had."""
        shares: dict[str, list[float]] = {}
        for episode in episodes:
            match = match_of(episode, self._competing(episode), self._teams)
            self.played += 1
            self.left_out += match is None
            if match is not None:
                self._add(match, shares)
        met = [name for name in self.names if any(self.matrix.games[name].values())]
        metrics = {f"rating/{name}": self.ratings.of[name].mu for name in met}
        metrics |= {f"rating_sigma/{name}": self.ratings.of[name].sigma for name in met}
        metrics |= {f"wins/{name}": fmean(shares[name]) for name in self.names if name in shares}
        return metrics | rewards(episodes)

    def report(self) -> dict[str, Any]:
        """All of it as plain JSON: places, matrix, and what was left out."""
        return report(self.matrix, self.ratings.of, played=self.played, left_out=self.left_out)

    def write(self, folder: Path) -> Path | None:
        """``standings.json`` and a picture of the matrix; None where nobody has met anybody."""
        if not any(sum(row.values()) for row in self.matrix.games.values()):
            return None
        write(folder, self.report())
        return folder / PICTURE

    def save(self, folder: Path) -> None:
        state = {
            "matrix": self.matrix.state(),
            "ratings": {name: [rating.mu, rating.sigma] for name, rating in self.ratings.of.items()},
            "played": self.played,
            "left_out": self.left_out,
        }
        (folder / FILE).write_text(json.dumps(state) + "\n", encoding="ascii")

    def load(self, folder: Path) -> None:
        state = json.loads((folder / FILE).read_text(encoding="ascii"))
        self.matrix.take(state["matrix"])
        self.ratings.of.update({name: Rating(*told) for name, told in state["ratings"].items()})
        self.played, self.left_out = state["played"], state["left_out"]

    def _competing(self, episode: Episode) -> dict[str, str]:
        return {seat: episode.personas[seat] for seat in self._seats if seat in episode.personas}

    def _add(self, match: Match, shares: dict[str, list[float]]) -> None:
        self.matrix.add(match)
        self.ratings.add(match)
        for one, other, result in match.results():
            shares.setdefault(one, []).append(result)
            shares.setdefault(other, []).append(1 - result)


def open_standings(game: Any) -> Standings | None:
    """Standings of the personas of a game; None where it has fewer than two of them, or fewer than two seats that are
    paid."""
    cast_of = getattr(game, "cast", None)
    seats = paid_seats(game)
    if cast_of is None or len(cast_of.names) < 2 or len(seats) < 2:
        return None
    return Standings(cast_of.names, seats, getattr(game, "teams", None))


def rewards(episodes: Sequence[Episode]) -> dict[str, float]:
    """``reward/<role>/<name>``: what who sits in the seats of a role earned there, on average, over episodes that are
    not void. The role is the one that the seat had when it spoke."""
    earned: dict[tuple[str, str], list[float]] = {}
    for episode in episodes:
        roles = {turn.seat: turn.role for turn in episode.turns}
        for seat, name in episode.personas.items():
            if seat in roles and seat in episode.seats and not episode.void:
                earned.setdefault((roles[seat], name), []).append(episode.seats[seat])
    return {f"reward/{role}/{name}": fmean(values) for (role, name), values in sorted(earned.items())}


def report(matrix: Matrix, ratings: Mapping[str, Rating], *, played: int, left_out: int) -> dict[str, Any]:
    """Places, best first, with the 95 % interval of each rating, and the matrix: ``games``, ``wins`` and ``draws``."""
    best = sorted(matrix.names, key=lambda name: (-ratings[name].mu, matrix.names.index(name)))
    places: list[dict[str, Any]] = []
    for name in best:
        won, drawn, lost = matrix.of(name)
        rating = ratings[name]
        places.append(
            {
                "name": name,
                "rating": rating.mu,
                "sigma": rating.sigma,
                "interval": list(rating.interval),
                "won": won,
                "drawn": drawn,
                "lost": lost,
            }
        )
    return {"places": places, "games_played": played, "games_without_result": left_out, **matrix.state()}


def write(folder: Path, told: Mapping[str, Any]) -> None:
    """``standings.json`` and ``standings.png``."""
    (folder / FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="ascii")
    draw(told, folder / PICTURE)


def draw(told: Mapping[str, Any], out: Path) -> Path:
    """The matrix as a picture: a row is who wins, best first; a field the share of games won, a draw counting 1/2."""
    from matplotlib.figure import Figure

    names = [place["name"] for place in told["places"]]
    size = max(3.2, 0.62 * len(names) + 2.0)
    figure: Any = Figure(figsize=(size + 0.6, size), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    matrix = Matrix(names)
    matrix.take(told)
    rows = [[math.nan] * len(names) for _ in names]
    for y, one in enumerate(names):
        for x, other in enumerate(names):
            share = matrix.share(one, other) if one != other else None
            if share is not None:
                rows[y][x] = share
                ax.text(x, y, f"{share:.0%}\n{matrix.games[one][other]}", ha="center", va="center", fontsize=7)
    image = ax.imshow(rows, cmap="RdBu", vmin=0.0, vmax=1.0, alpha=0.75)
    short = [name if len(name) <= 24 else f"{name[:21]}..." for name in names]
    plain: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a name is no formula
    ax.set_xticks(range(len(names)), short, rotation=45, ha="right", **plain)
    ax.set_yticks(range(len(names)), short, **plain)
    ax.set_xlabel("against")
    ax.set_title("Share of games that the row won, and games", fontsize=10)
    figure.colorbar(image, ax=ax, shrink=0.7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks is drawn as boxes
        figure.savefig(out, format="png")
    return out
