"""Opponents from a pool: frozen copies of the model that learns, taken every few steps, one of them drawn per step."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from agents.llm import LLM
from selfplay.compose import did_you_mean
from selfplay.rating import elo, expected
from selfplay.seeds import derive
from selfplay.types import Action, Chat, Episode
from selfplay.whose import seated

_FILE = "pool.json"
_START = 1500.0

CHOICES = ("latest", "recency", "uniform", "rating")


class PoolError(ValueError):
    """A pool that cannot be made or rated, in one sentence."""


@dataclass(slots=True)
class Snapshot:
    """A frozen copy: its engine, the step after which it was taken, and its rating."""

    engine: Any
    taken: int
    rating: float


class Pool:
    """Sits in a seat and plays each step by one of at most ``size`` snapshots of ``engine``; nobody trains its turns.

    The first snapshot is the model as the pool found it; after every ``every`` steps the present one joins, and the
    oldest leaves when there is no room. Who plays the next step is drawn by ``choose``:

    - ``latest``: the newest; with ``every=1``, the model as it is when the step begins.
    - ``recency``: the newest with twice the chance of the one before it, and so on.
    - ``uniform``: all alike (fictitious self-play over a window of the past).
    - ``rating``: in proportion to x (1 - x), x the expected result of the learner against it: those who are its match
      rather than those whom it always beats or never does (prioritised fictitious self-play of AlphaStar, 2019).

    Ratings are Elo's and need ``role``, the pool's role or seat in the game: an episode is won by who has the larger
    return, whether a verdict pays or the rules do, and the mean over a step's episodes counts as one match of at most
    ``elo_step`` points. A snapshot starts with the learner's rating.

    Everything random comes from ``seed`` and the step. Snapshots and ratings are saved, in ``save_pretrained`` folders,
    so that a resumed run meets the same opponents. With ``pipeline=true`` a first turn is played by the opponent of the
    step before. ``temperature``, ``top_p``, ``max_tokens`` and ``moves`` are those of ``LLM``. Raises ``PoolError``.
    """

    def __init__(
        self,
        engine: Any,
        *,
        every: int = 10,
        size: int = 4,
        choose: str = "recency",
        role: str | None = None,
        elo_step: float = 32.0,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 256,
        moves: str = "free",
    ) -> None:
        if every < 1 or size < 1 or not elo_step > 0:
            raise PoolError(
                f"agent.every={every} and agent.size={size} must be at least 1, agent.elo_step={elo_step} above 0"
            )
        if choose not in CHOICES:
            meant = did_you_mean(choose, CHOICES)
            raise PoolError(f"agent.choose={choose!r} is unknown{meant}: use {', '.join(CHOICES)}")
        if choose == "rating" and role is None:
            raise PoolError(
                "agent.choose=rating needs agent.role, the role that the pool plays: results are read there"
            )
        if not hasattr(engine, "snapshot"):
            raise PoolError(f"{engine.name} has no weights here to keep a copy of: a pool needs the model that learns")
        self.engine, self._every, self._size, self._choose = engine, every, size, choose
        self._role, self._elo_step, self._seed = role, elo_step, seed
        self._sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "moves": moves}
        self.steps, self.rating = 0, _START
        self.snapshots = [Snapshot(engine.snapshot(), 0, _START)]
        self._seat(self._drawn())

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """The answers of the opponent of this step."""
        return self._player.act(observations, seeds)

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """The same, among the legal moves where ``moves`` is ``choose``."""
        return self._player.choose(observations, seeds, infos)

    def __eq__(self, other: object) -> bool:
        """Pools that play by the same snapshot are one player, and share a batch with whoever else plays by it."""
        return self._player == (other._player if isinstance(other, Pool) else other)

    def remember(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """After the update of a step: rate the opponent by ``episodes``, take a snapshot if one is due, and draw the
        opponent of the next step. Metrics are of the step that was played."""
        self.steps += 1
        played = self.opponent
        metrics = {"opponent": float(played.taken)}
        results = [] if self._role is None else _results(episodes, self._role)
        if results:
            result = fmean(results)
            played.rating, self.rating = elo(played.rating, self.rating, result, self._elo_step)
            metrics |= {"result": result, "rating": played.rating, "learner_rating": self.rating}
        if self.steps % self._every == 0:
            self.snapshots.append(Snapshot(self.engine.snapshot(), self.steps, self.rating))
            del self.snapshots[: -self._size]
        self._seat(self._drawn())
        name = f"/{self._role}" if self._role else ""
        return {f"pool/{key}{name}": value for key, value in {**metrics, "size": float(len(self.snapshots))}.items()}

    def save(self, folder: Path) -> None:
        """Write ``pool.json``, and the weights of every snapshot in a folder named by its step."""
        rows = [{"taken": snapshot.taken, "rating": snapshot.rating} for snapshot in self.snapshots]
        body = {"steps": self.steps, "rating": self.rating, "snapshots": rows}
        (folder / _FILE).write_text(json.dumps(body) + "\n", encoding="ascii")
        for snapshot in self.snapshots:
            (folder / str(snapshot.taken)).mkdir()
            snapshot.engine.save(folder / str(snapshot.taken))

    def load(self, folder: Path) -> None:
        body = json.loads((folder / _FILE).read_text(encoding="ascii"))
        self.steps, self.rating = body["steps"], body["rating"]
        self.snapshots = [
            Snapshot(self._frozen(folder / str(row["taken"])), row["taken"], row["rating"]) for row in body["snapshots"]
        ]
        self._seat(self._drawn())

    def _frozen(self, folder: Path) -> Any:
        """The snapshot that was saved in ``folder``."""
        engine = self.engine.snapshot()
        engine.load(folder)
        return engine

    def _drawn(self) -> Snapshot:
        """The opponent of the next step: a function of the seed, the step, and who is in the pool."""
        if self._choose == "latest":
            return self.snapshots[-1]
        chances = [1.0] * len(self.snapshots)
        if self._choose == "recency":
            chances = [2.0**age for age in range(len(self.snapshots))]
        elif self._choose == "rating":
            wins = [expected(self.rating, snapshot.rating) for snapshot in self.snapshots]
            chances = [x * (1 - x) for x in wins]
        return random.Random(derive(self._seed, "pool", self.steps)).choices(self.snapshots, chances)[0]

    def _seat(self, snapshot: Snapshot) -> None:
        self.opponent = snapshot
        self._player = LLM(snapshot.engine, **self._sampling, trained=False)


def _results(episodes: Sequence[Episode], role: str) -> list[float]:
    """1 for an episode that ``role`` (a role, or one seat) wins, 1/2 for a draw, 0 for one that it loses, against the
    best of its rivals; the mean over its seats, where it has several.

    Rivals are the roles that some game pays which came to its end; who only asks earns 0 and is none. A void episode is
    no result, nor is one that ended because somebody else than these broke the rules. Raises ``PoolError`` for a role
    that does not play."""
    results: list[float] = []
    tables = [(episode, _earned(episode)) for episode in episodes]
    ended = [seats for episode, seats in tables if not episode.void and not episode.forfeit]
    paid = {names[0] for seats in ended for names, earned in seats.items() if earned and role not in names}
    for episode, seats in tables:
        mine = {names: earned for names, earned in seats.items() if role in names}
        if not mine:
            known = list(dict.fromkeys(name for names in seats for name in names if name))
            raise PoolError(f"agent.role={role!r} does not play{did_you_mean(role, known)}: {', '.join(known)}")
        others = {names: earned for names, earned in seats.items() if names not in mine}
        rivals = {names: earned for names, earned in others.items() if not paid or names[0] in paid}
        playing = {names[0] for names in (*mine, *rivals)}
        if rivals and not episode.void and (not episode.forfeit or episode.forfeit in playing):
            best = max(rivals.values())
            results.append(fmean(0.5 if earned == best else float(earned > best) for earned in mine.values()))
    return results


def _earned(episode: Episode) -> dict[tuple[str, str], float]:
    """What everybody earned, by role and seat."""
    sitting = ((role, seat) for role, members in seated(episode).items() for seat in members)
    return {(role, seat): episode.seats.get(seat, episode.returns[role]) for role, seat in sitting}
