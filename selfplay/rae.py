"""Role-conditioned advantages: a moving baseline for every role of every game, or for every seat or persona."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from selfplay.credit import Bonus, Shape, values
from selfplay.lessons import Settled
from selfplay.peers import Shaped
from selfplay.types import Episode, Turn
from selfplay.whose import Whose, check_by, mean, seated, whose

_FILE = "baselines.json"


class RaeEma(Shaped):
    """Role-conditioned advantage of SPIRAL (arXiv 2506.24119): A = R - b, b <- decay b + (1 - decay) R, b from 0.

    One baseline per (game, role); ``by=seat`` or ``persona`` has one for each of these (``whose``). An episode is
    scored against the baseline *before* its own update. Every turn of a seat gets the seat's own advantage, averaged
    over the turn's leaves; where a role has several seats, all of them are scored against the role's baseline, which
    moves once per episode, by their mean. A role with a shape earns by the turn: its baseline moves once for each of
    its turns, shared ones too. A bonus is added to the advantage and no baseline sees it. The baselines are state:
    checkpoint them, or they warm up again over 1 / (1 - decay) games.

    By hand, decay 0.5, two jurors who earn 1 and 0, and then 1 and 1: 1 - 0 and 0 - 0, b = 0.25; 0.75 and 0.75.
    """

    def __init__(self, shape: Mapping[str, str | Shape] | None = None, decay: float = 0.95, by: str = "role") -> None:
        super().__init__(shape)
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and below 1")
        self.decay, self.by = decay, check_by(by)
        self.baselines: dict[Whose, float] = {}

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        worth = values(episodes, self.shape, self.earnings)
        gains: dict[Turn, list[float]] = {}
        for episode in episodes:
            if episode.void:
                continue
            earned = self.earnings(episode)
            for role, members in seated(episode).items():
                if isinstance(episode, Settled) and not any(members.values()):
                    continue  # a gate settled one turn: the others played no game that counts
                if role in self.shape:
                    for turn in (turn for turns in members.values() for turn in turns):
                        if turn in worth and turn not in gains:
                            key = whose(episode, role, turn.seat, self.by)
                            gains[turn] = [worth[turn] - self._move(key, worth[turn])]
                    continue
                for key, seats in self._keyed(episode, role, members).items():
                    each = [_of_seat(episode, role, seat, turns, earned) for seat, turns in seats.items()]
                    before = self._move(key, mean(each))
                    for turn in (turn for turns in seats.values() for turn in turns):
                        gains.setdefault(turn, []).append(earned[turn] - before)
        return {turn: fmean(found) + (bonus or {}).get(turn, 0.0) for turn, found in gains.items()}

    def save(self, folder: Path) -> None:
        rows = [[game, name, value] for (game, name), value in self.baselines.items()]
        (folder / _FILE).write_text(json.dumps(rows), encoding="utf-8")

    def load(self, folder: Path) -> None:
        rows = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        self.baselines = {(game, name): value for game, name, value in rows}

    def _keyed(
        self, episode: Episode, role: str, members: Mapping[str, list[Turn]]
    ) -> dict[Whose, dict[str, list[Turn]]]:
        """The role's seats by their baseline."""
        keyed: dict[Whose, dict[str, list[Turn]]] = {}
        for seat, turns in members.items():
            keyed.setdefault(whose(episode, role, seat, self.by), {})[seat] = turns
        return keyed

    def _move(self, key: Whose, earned: float) -> float:
        """The baseline as it was before it moves by ``earned``."""
        before = self.baselines.get(key, 0.0)
        self.baselines[key] = self.decay * before + (1 - self.decay) * earned
        return before


def _of_seat(episode: Episode, role: str, seat: str, turns: Sequence[Turn], earned: Mapping[Turn, float]) -> float:
    """What a seat earned: the mean over its turns, or its return where it had none."""
    if turns:
        return mean([earned[turn] for turn in turns])
    return episode.seats.get(seat, episode.returns[role])
