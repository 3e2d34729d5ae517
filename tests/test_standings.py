"""Who beats whom, by hand: results, the matrix, ratings, metrics, and what a resumed run finds again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.scripted import Scripted
from envs.game import LanguageGame
from selfplay.matches import Match, Matrix, match_of, paid_seats
from selfplay.rating import MU, SIGMA, Rating, Ratings, rate
from selfplay.rollout import rollout
from selfplay.standings import Standings, open_standings, rewards
from selfplay.table import Table
from selfplay.types import VERIFIER, Action, Episode, Stateful, Turn
from verifiers.panel import Panel


def played(
    seats: Mapping[str, float],
    personas: Mapping[str, str],
    *,
    forfeit: str = "",
    truncated: bool = False,
    roles: Mapping[str, str] | None = None,
) -> Episode:
    """An episode in which every seat spoke once, in order, and earned ``seats``."""
    named = {seat: (roles or {}).get(seat, seat.rpartition("_")[0]) for seat in seats}
    turns = tuple(Turn(named[seat], seat, {}, Action("x"), 0) for seat in seats)
    returns = {role: seats[seat] for seat, role in named.items()}
    who = {"seats": dict(seats), "personas": dict(personas), "roles": named}
    return Episode(turns, returns, {}, {}, forfeit=forfeit, truncated=truncated, **who)


def pair(first: float, second: float, one: str = "Ada", other: str = "Bob", **more: Any) -> Episode:
    return played({"first_0": first, "second_0": second}, {"first_0": one, "second_0": other}, **more)


def results(episode: Episode, teams: Any = None) -> set[tuple[str, str, float]]:
    match = match_of(episode, episode.personas, teams)
    assert match is not None
    return {(one, other, r) if one < other else (other, one, 1 - r) for one, other, r in match.results()}


# -- one game ----------------------------------------------------------------------------------------------------------


def test_who_earned_more_has_won() -> None:
    assert results(pair(1.0, -1.0)) == {("Ada", "Bob", 1.0)}
    assert results(pair(-0.5, 0.25)) == {("Ada", "Bob", 0.0)}
    assert results(pair(0.5, 0.5)) == {("Ada", "Bob", 0.5)}


def test_every_two_of_many_are_compared() -> None:
    """3 > 2 = 2 > 0: Ada beats all, Bob and Cyd draw, Dag loses to all."""
    seats = {"guest_0": 3.0, "guest_1": 2.0, "guest_2": 2.0, "guest_3": 0.0}
    episode = played(seats, dict(zip(seats, ("Ada", "Bob", "Cyd", "Dag"), strict=True)))
    assert results(episode) == {
        ("Ada", "Bob", 1.0),
        ("Ada", "Cyd", 1.0),
        ("Ada", "Dag", 1.0),
        ("Bob", "Cyd", 0.5),
        ("Bob", "Dag", 1.0),
        ("Cyd", "Dag", 1.0),
    }


def test_several_seats_of_one_persona_count_as_their_mean() -> None:
    """Ada has 4 and 0, so 2; Bob has 3."""
    seats = {"guest_0": 4.0, "guest_1": 0.0, "guest_2": 3.0}
    episode = played(seats, {"guest_0": "Ada", "guest_1": "Ada", "guest_2": "Bob"})
    assert results(episode) == {("Ada", "Bob", 0.0)}
    assert match_of(played(seats, dict.fromkeys(seats, "Ada")), dict.fromkeys(seats, "Ada")) is None, "alone"


def test_a_team_wins_and_loses_together() -> None:
    """Roles are those that were dealt. Two villagers do not compete; who never spoke wins with their team, too."""
    seats = {"player_0": 1.0, "player_1": 1.0, "player_2": -1.0}
    names = dict(zip(seats, ("Ada", "Bob", "Cyd"), strict=True))
    roles = {"player_0": "villager", "player_1": "seer", "player_2": "werewolf"}
    teams = {"town": ["villager", "seer"], "wolves": ["werewolf"]}
    episode = played(seats, names, roles=roles)
    assert results(episode, teams) == {("Ada", "Cyd", 1.0), ("Bob", "Cyd", 1.0)}
    episode.turns = episode.turns[1:]
    assert results(episode, teams) == {("Ada", "Cyd", 1.0), ("Bob", "Cyd", 1.0)}
    both = {"player_0": "Ada", "player_1": "Bob", "player_2": "Ada"}
    assert results(played(seats, both, roles=roles), teams) == {("Ada", "Bob", 0.0)}, "on two sides: for oneself"


def test_a_forfeit_is_lost_against_all_and_says_nothing_of_them() -> None:
    seats = {"a_0": 0.0, "b_0": 0.5, "c_0": -1.0}
    episode = played(seats, {"a_0": "Ada", "b_0": "Bob", "c_0": "Cyd"}, forfeit="c")
    assert results(episode) == {("Ada", "Cyd", 1.0), ("Bob", "Cyd", 1.0)}
    assert results(pair(0.0, 0.0, forfeit="first")) == {("Ada", "Bob", 0.0)}, "whatever a forfeit costs"
    outsider = played({"dealer_0": -1.0, **seats}, episode.personas, forfeit="dealer")
    assert results(outsider) == results(played(seats, episode.personas)), "no competitor broke the rules"


@pytest.mark.parametrize("episode", [pair(math.nan, 1.0), pair(1.0, 0.0, truncated=True)], ids=["void", "cut short"])
def test_what_is_no_result(episode: Episode) -> None:
    assert match_of(episode, episode.personas) is None


def test_whoever_is_paid_competes() -> None:
    def game(payoff: Any, **more: Any) -> LanguageGame:
        turns = [{"role": role, "says": role} for role in ("asker", "one", "other")]
        return LanguageGame(turns, payoff, **more)

    assert paid_seats(game({"one": {"score": 1}, "other": {"score": -1}})) == ["one_0", "other_0"]
    assert paid_seats(game({"one": {"score": 1}, "asker": {"score": 0}})) == ["one_0"]
    assert paid_seats(game({"pair": {"score": 1}}, teams={"pair": ["one", "asker"]})) == ["asker_0", "one_0"]
    assert paid_seats(SimpleNamespace(possible_agents=["x_0", "o_0", "verifier_0"])) == ["x_0", "o_0"]


# -- ratings -----------------------------------------------------------------------------------------------------------


def win(one: str, other: str) -> Match:
    return Match(((one,), (other,)), (1.0, 0.0))


def test_a_rated_game_by_hand() -> None:
    """Weng and Lin, algorithm 4, for two equal players, mu 25, sigma^2 = 69.44, beta^2 = 17.36: c^2 = 2 (sigma^2 +
    beta^2) = 173.6, both expect 1/2. The winner gains sigma^2 / c * 1/2 = 69.44 / 13.176 / 2 = 2.635; the variance
    falls by the share sigma^2 / c^2 * gamma * 1/4 = 0.4 * gamma / 4 with gamma = sigma / c = 0.6325: 6.325 %."""
    ratings = Ratings(["Ada", "Bob", "Cyd"], drift=0.0)
    ratings.add(win("Ada", "Bob"))
    gain = SIGMA**2 / math.sqrt(2 * (SIGMA**2 + (25 / 6) ** 2)) / 2
    assert ratings.of["Ada"].mu == pytest.approx(MU + gain) and ratings.of["Bob"].mu == pytest.approx(MU - gain)
    assert ratings.of["Ada"].sigma == pytest.approx(SIGMA * math.sqrt(1 - 0.06325), rel=1e-3)
    assert ratings.of["Cyd"] == Rating()
    low, high = ratings.of["Ada"].interval
    assert high - low == pytest.approx(2 * 1.96 * ratings.of["Ada"].sigma, rel=1e-4)


def test_a_forfeit_among_many_is_one_game() -> None:
    """Of two players it is any lost game. Of four, the loser moves as far, and the others share what it lost."""
    two, four = Ratings(["Ada", "Bob"], drift=0.0), Ratings(["Ada", "Bob", "Cyd", "Dag"], drift=0.0)
    two.add(Match((("Ada",), ("Bob",)), (0.0, -1.0), "Bob"))
    plain = Ratings(["Ada", "Bob"], drift=0.0)
    plain.add(win("Ada", "Bob"))
    for name, rating in plain.of.items():
        assert (two.of[name].mu, two.of[name].sigma) == pytest.approx((rating.mu, rating.sigma))
    four.add(Match((("Ada",), ("Bob",), ("Cyd",), ("Dag",)), (0.0, -1.0, 0.0, 0.0), "Bob"))
    assert four.of["Bob"].mu == pytest.approx(two.of["Bob"].mu)
    assert four.of["Ada"].mu - MU == pytest.approx((two.of["Ada"].mu - MU) / 3)
    assert sum(rating.mu for rating in four.of.values()) == pytest.approx(4 * MU)


def test_ratings_of_a_set_of_games_are_in_the_order_of_the_wins() -> None:
    """Everybody meets everybody 12 times, and wins 9 of 12 against the one below; the order of the games is drawn by
    the seed, and hardly matters."""
    names = ["Dag", "Ada", "Cyd", "Bob"]
    ranks = ["Ada", "Bob", "Cyd", "Dag"]
    matches: list[Match] = []
    for i, better in enumerate(ranks):
        for worse in ranks[i + 1 :]:
            matches += [win(better, worse)] * 9 + [win(worse, better)] * 3
    one, other = rate(names, matches, seed=0), rate(names, matches, seed=1)
    assert sorted(names, key=lambda name: -one[name].mu) == ranks
    assert one == rate(names, matches, seed=0)
    assert all(abs(one[name].mu - other[name].mu) < 0.5 * one[name].sigma for name in names)
    assert one["Ada"].interval[0] > one["Dag"].mu, "the best are told from the worst"


# -- a run -------------------------------------------------------------------------------------------------------------


def standing(**more: Any) -> Standings:
    return Standings(["Ada", "Bob", "Cyd"], ["first_0", "second_0"], **more)


STEP = [pair(1.0, -1.0), pair(1.0, -1.0, "Bob", "Ada"), pair(0.0, 0.0), pair(1.0, 0.0, truncated=True)]


def test_metrics_of_a_step() -> None:
    """Ada wins, loses, draws: 1/2; and Bob as much. A game that was cut moves nothing and is counted. Rewards are by
    role, cut games among them: as first Ada has 1, 0 and 1."""
    standings = standing()
    metrics = standings.note(STEP)
    assert metrics["wins/Ada"] == metrics["wins/Bob"] == 0.5 and "wins/Cyd" not in metrics
    assert metrics["reward/first/Ada"] == pytest.approx(2 / 3) and metrics["reward/second/Ada"] == -1.0
    assert metrics["reward/first/Bob"] == 1.0
    assert not any(name in metrics for name in ("reward/Ada", "rating/Cyd")), "never one mean over roles"
    assert (
        metrics["rating/Ada"] + metrics["rating/Bob"] == pytest.approx(2 * MU) and metrics["rating_sigma/Ada"] < SIGMA
    )
    told = standings.report()
    assert told["games_played"] == 4 and told["games_without_result"] == 1
    assert told["games"]["Ada"] == {"Bob": 3, "Cyd": 0} and told["wins"]["Bob"]["Ada"] == 1
    assert told["draws"]["Ada"]["Bob"] == 1
    assert {place["name"]: (place["won"], place["drawn"], place["lost"]) for place in told["places"]} == {
        "Ada": (1, 1, 1),
        "Bob": (1, 1, 1),
        "Cyd": (0, 0, 0),
    }


def test_rewards_are_by_the_role_that_was_dealt() -> None:
    seats = {"player_0": 1.0, "player_1": -1.0}
    episode = played(seats, {"player_0": "Ada", "player_1": "Bob"}, roles={"player_0": "seer", "player_1": "werewolf"})
    assert rewards([episode]) == {"reward/seer/Ada": 1.0, "reward/werewolf/Bob": -1.0}


def test_a_resumed_run_has_the_same(tmp_path: Path) -> None:
    whole, half = standing(), standing()
    assert isinstance(whole, Stateful)
    whole.note(STEP[:2])
    half.note(STEP[:2])
    half.save(tmp_path)
    resumed = standing()
    resumed.load(tmp_path)
    assert resumed.note(STEP[2:]) == whole.note(STEP[2:])
    assert resumed.report() == whole.report()


def test_what_a_run_leaves(tmp_path: Path) -> None:
    standings = Standings(["Ada $x", "漢字", "Cyd"], ["first_0", "second_0"])
    assert standings.write(tmp_path) is None and not list(tmp_path.iterdir()), "nobody has met anybody"
    standings.note([pair(1.0, -1.0, "Ada $x", "漢字")])
    picture = standings.write(tmp_path)
    assert picture is not None and picture.read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "standings.json").read_text(encoding="ascii"))
    assert [place["name"] for place in told["places"]] == ["Ada $x", "Cyd", "漢字"]
    low, high = told["places"][0]["interval"]
    assert low < told["places"][0]["rating"] < high


CAST = {"members": [{"name": "Ada", "system": "A."}, {"name": "Bob", "system": "B."}], "seating": "pairs"}
TURNS = [{"role": "one", "says": "query"}, {"role": "other", "says": "answer", "told": "{query}"}]


def duel(**more: Any) -> LanguageGame:
    return LanguageGame(TURNS, {"one": {"score": 1.0}, "other": {"score": -1.0}}, **more)


def test_only_a_game_with_personas_that_compete_has_standings() -> None:
    assert open_standings(duel()) is None and open_standings(duel(personas={"one": "You are one."})) is None
    alone = LanguageGame(TURNS, {"one": {"score": 1.0}}, personas=CAST)
    assert open_standings(alone) is None, "one seat is paid"
    made = open_standings(duel(personas=CAST))
    assert made is not None and made.names == ["Ada", "Bob"]


class Nothing:
    """A learner that learns nothing."""

    def update(self, episodes: Any) -> dict[str, float]:
        return {}


def test_a_table_tells_them_and_keeps_them() -> None:
    """Whoever is first gets 1, and all ordered pairs are seated: both personas win as first and lose as second."""
    game = duel(personas=CAST)
    panel = Panel(score=lambda cases: [1.0] * len(cases))
    lines = Scripted(["x"])
    engine = SimpleNamespace(begin_step=lambda: None, metrics=dict)
    table = Table([game, game], {"one": lines, "other": lines}, panel, Nothing(), engine)
    assert "standings" not in table.state
    seated = Table([game], table.players, panel, Nothing(), engine, standings=open_standings(game))
    assert "standings" in seated.state
    players = {**table.players, VERIFIER: panel}
    metrics = seated.learn(rollout([duel(personas=CAST), duel(personas=CAST)], players, seed=1))
    assert metrics["wins/Ada"] == metrics["wins/Bob"] == 0.5
    assert metrics["reward/one/Ada"] == metrics["reward/one/Bob"] == 1.0
    assert "episodes/truncated_share" not in metrics


def test_the_share_that_was_cut_short() -> None:
    """Told where a game was cut, and always where no verifier ends it."""
    panel = Panel(score=lambda cases: [1.0] * len(cases))
    table = Table([duel()], {}, panel, Nothing(), None)
    assert "episodes/truncated_share" not in table.results([pair(1.0, 0.0)])
    assert table.results([pair(1.0, 0.0), pair(1.0, 0.0, truncated=True)])["episodes/truncated_share"] == 0.5
    free = Table([SimpleNamespace(parts=())], {}, panel, Nothing(), None)
    assert free.results([pair(1.0, 0.0)]) == {"episodes/truncated_share": 0.0}


def test_the_matrix_has_shares() -> None:
    matrix = Matrix(["Ada", "Bob", "Cyd"])
    for match in (win("Ada", "Bob"), win("Ada", "Bob"), win("Bob", "Ada"), Match((("Ada",), ("Bob",)), (0.0, 0.0))):
        matrix.add(match)
    assert matrix.share("Ada", "Bob") == 0.625 and matrix.share("Bob", "Ada") == 0.375
    assert matrix.share("Ada", "Cyd") is None and matrix.of("Ada") == (2, 1, 1)
