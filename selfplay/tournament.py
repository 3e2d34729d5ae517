"""A round robin: everybody against everybody in one game, seats swapped; nobody learns."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from selfplay import standings
from selfplay.cohort import Cohort
from selfplay.compose import ConfigError, build, did_you_mean, resolved
from selfplay.entrants import Entrant, find_entrants, fixed_players, members_of
from selfplay.matches import Match, Matrix, match_of, paid_seats
from selfplay.playing import Table, open_tables, role_of
from selfplay.rating import Rating, rate
from selfplay.record import Recorder, Stopwatch
from selfplay.runs import open_run, write_config
from selfplay.seating import number_of_games, seatings
from selfplay.seeds import derive
from selfplay.table import check_fit
from selfplay.tales import most_telling, show_places, write_tales
from selfplay.types import VERIFIER, Agent, Episode

KEYS = ("players", "checkpoints", "games", "seats")
WIDTH = 120
AT_ONCE = 1024
"""Games that are played side by side."""


@dataclass(frozen=True)
class Tournament:
    """A game, the seats that are competed for, who competes, who sits in the other seats (the verifiers' panel among
    them), and how often."""

    cfg: DictConfig
    game: Any
    seats: Sequence[str]
    entrants: Sequence[Entrant]
    others: Mapping[str, Agent]
    games: int
    seed: int

    @property
    def names(self) -> list[str]:
        return [entrant.name for entrant in self.entrants]

    @property
    def total(self) -> int:
        return number_of_games(len(self.entrants), len(self.seats), self.games)

    def play(self, watch: Stopwatch, tick: Callable[[int], None]) -> list[Episode]:
        """All games in the order of their seatings; ``tick`` is told how many have ended, again and again.

        Every game has its own players, and equal players share a batch across all games. What a game is dealt, and what
        its players draw, depends on the seed, on the number of the deal and on who sits where, and on no other game.
        """
        agents = {**self.others, **{entrant.name: entrant.agent for entrant in self.entrants}}
        waiting = seatings(self.names, self.seats, self.games, self.seed)
        episodes: list[Episode] = []
        while tables := [self._table(*one) for one in islice(waiting, AT_ONCE)]:
            cohort = Cohort(tables, agents, {}, watch, self.cfg.max_turns)
            while True:
                while cohort.play_turn():
                    tick(len(episodes) + sum(map(_ended, cohort.tables)))
                if not cohort.play_to_verdict():
                    break
                cohort.hear_verdict()
            episodes += [table.episode() for table in cohort.tables]
            tick(len(episodes))
        return episodes

    def results(self, episodes: Sequence[Episode]) -> list[Match | None]:
        """The result of every game, None for one that has none."""
        teams = getattr(self.game, "teams", None)
        return [match_of(episode, {seat: episode.personas[seat] for seat in self.seats}, teams) for episode in episodes]

    def _table(self, deal: int, seated: Mapping[str, str]) -> Table:
        """The table of one game, dealt, with who sits there."""
        (table,) = open_tables([self._game_of(seated)], derive(self.seed, "deal", deal))
        table.personas = seated
        return table

    def _game_of(self, seated: Mapping[str, str]) -> Any:
        """A copy of the game in which the personas among these are told who they are."""
        personas = {entrant.name: entrant.persona for entrant in self.entrants if entrant.persona is not None}
        if not personas:
            return copy.deepcopy(self.game)
        sitting = {seat: name for seat, name in seated.items() if name in personas}
        members = [personas[name] for name in dict.fromkeys(sitting.values())]
        told = {"members": members, "seating": "named", "seats": sitting} if sitting else None
        return build({**resolved(self.cfg.env), "personas": told}, self.cfg.allow)


def open_tournament(cfg: DictConfig, judge: Callable[[DictConfig], Any]) -> Tournament:
    """Build everybody from a configuration; ``judge`` builds the verifier of a node. Raises ``ConfigError``."""
    settings = cfg.tournament
    for key in settings:
        if key not in KEYS:
            raise ConfigError(f"tournament.{key} is unknown{did_you_mean(str(key), KEYS)}: {', '.join(KEYS)}")
    if not isinstance(settings.games, int) or settings.games < 1:
        raise ConfigError(f"tournament.games={settings.games}: everybody plays at least one game in every seat")
    # Who sits where is the tournament's to say: the game is made without its cast.
    game = build({**resolved(cfg.env), "personas": None} if members_of(cfg) else cfg.env, cfg.allow)
    seats = _competing(game, resolved(settings).get("seats"), _seats_of_personas(cfg))
    panel = judge(cfg.verifier)
    check_fit(game, panel, ())
    entrants = find_entrants(cfg, game)
    others = {**fixed_players(cfg, game, seats), VERIFIER: panel}
    return Tournament(cfg, game, seats, entrants, others, settings.games, cfg.seed)


def hold(cfg: DictConfig, judge: Callable[[DictConfig], Any], set_processor: Callable[[], None]) -> None:
    """Play the tournament of a configuration and show who beats whom.

    Into the run folder go ``standings.json`` and ``standings.png``, the most telling games (``transcripts.md``), and
    the record: all games, and in ``metrics.jsonl`` what everybody earned in every role.
    """
    if cfg.resume:
        raise ConfigError("a tournament is not resumed: it is short, and the same seed plays the same games")
    run = open_run(cfg, f"tournament/{HydraConfig.get().runtime.choices['env']}", HydraConfig.get().overrides.task)
    tournament = open_tournament(cfg, judge)
    if "torch" in sys.modules:  # somebody has a model here
        set_processor()
    console, watch = Console(), Stopwatch()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=WIDTH)
    console.print(f"{len(tournament.entrants)} entrants, {tournament.total} games", highlight=False)
    person = any(getattr(entrant.agent, "at_console", False) for entrant in tournament.entrants)
    with Progress(console=console, disable=person or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("games", total=tournament.total)
        episodes = tournament.play(watch, lambda done: bar.update(task, completed=done))
    matches = tournament.results(episodes)
    counted = [match for match in matches if match is not None]
    matrix = Matrix(tournament.names)
    for match in counted:
        matrix.add(match)
    ratings = rate(tournament.names, counted, tournament.seed)
    told = standings.report(matrix, ratings, played=len(episodes), left_out=len(episodes) - len(counted))
    earned = standings.rewards(episodes)
    for place in told["places"]:
        name = place["name"]
        place["forfeits"] = sum(match.forfeiter == name for match in counted)
        place["reward"] = {key.split("/")[1]: mean for key, mean in earned.items() if key.split("/", 2)[2] == name}
    write_config(cfg, run.folder)
    with Recorder(run.folder, tensorboard=False) as record:
        record.step(0, {"episodes": float(len(episodes)), **_metrics(ratings), **earned}, episodes, watch.lap())
    standings.write(run.folder, told)
    tales = most_telling(zip(episodes, matches, strict=True), ratings)
    write_tales(tales, run.folder)
    show_places(told, tales, run.folder, console)


def _seats_of_personas(cfg: DictConfig) -> list[str]:
    """The roles and seats that the cast itself is for, empty where it does not say so."""
    told: Any = resolved(cfg.env)["personas"].get("seats") if members_of(cfg) else None
    return [str(name) for name in cast("list[object] | dict[str, object]", told or ())]


def _competing(game: Any, chosen: object, usual: Sequence[str]) -> list[str]:
    """The seats that are competed for: those that are paid, or those among them that ``tournament.seats`` names, or
    else ``usual``."""
    paid = paid_seats(game)
    if chosen is None and usual:
        paid = [seat for seat in paid if seat in usual or role_of(seat) in usual]
    if chosen is not None:
        if not isinstance(chosen, list):
            raise ConfigError(f"tournament.seats={chosen!r} is not a list of roles or seats")
        known = list(dict.fromkeys([*map(role_of, paid), *paid]))
        names = [str(name) for name in cast("list[object]", chosen)]
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"tournament.seats names {name!r}, who is not paid{did_you_mean(name, known)}: {', '.join(known)}"
                )
        paid = [seat for seat in paid if seat in names or role_of(seat) in names]
    if len(paid) < 2:
        who = f"only {paid[0]}" if paid else "nobody"
        other = "name more of them in tournament.seats" if chosen else "choose another env"
        raise ConfigError(f"a tournament needs two seats that are paid, and here {who} competes: {other}")
    return paid


def _ended(table: Table) -> bool:
    env = table.env
    return (
        table.truncated or not env.agents or all(env.terminations[seat] or env.truncations[seat] for seat in env.agents)
    )


def _metrics(ratings: Mapping[str, Rating]) -> dict[str, float]:
    found = {f"rating/{name}": rating.mu for name, rating in ratings.items()}
    return found | {f"rating_sigma/{name}": rating.sigma for name, rating in ratings.items()}
