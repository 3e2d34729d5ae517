"""Advantage estimators: from the values of a batch's turns to one advantage per turn, which all its tokens share.

All read the same values (``credit.values``, shapes included). They differ in whom a turn is compared with: its siblings
(lsp_mean, grpo_std, rloo, max_rl), its siblings or else its cousins (hierarchical), everybody in the batch
(reinforce_pp), all who have its task and role (trr_pp), its role's past (rae_ema), or nobody, where winning is all that
counts (winner_only).

A turn with nobody to be compared with has advantage 0 and is counted; equal peers have exactly 0. The order of the
episodes changes nothing, except for rae_ema, which learns from one game after the other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from selfplay.compose import did_you_mean
from selfplay.credit import Bonus, Estimator, Shape, centred, siblings, values
from selfplay.lessons import Settled
from selfplay.peers import Compared, Shaped
from selfplay.shapes import make_shapes
from selfplay.types import Episode, Turn
from selfplay.whitening import ReinforcePP, ReinforcePPBaseline, TrrPP
from selfplay.winners import WinnerOnly

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "GrpoStd",
    "Hierarchical",
    "LspMean",
    "MaxRL",
    "RaeEma",
    "ReinforcePP",
    "ReinforcePPBaseline",
    "Rloo",
    "TrrPP",
    "WinnerOnly",
    "make_estimator",
]

STD_EPSILON = 1e-4
"""Added to the group's standard deviation (with Bessel's correction), as TRL does."""

_FILE = "baselines.json"


class LspMean(Compared):
    """The value minus the mean of the siblings, itself among them, and no standard deviation: Language Self-Play
    (arXiv 2509.07414, eq. 3) and Dr. GRPO (2503.20783)."""

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        return centred(_paid(worth, bonus))


class Hierarchical(LspMean):
    """Each level among its own: answers with the answers to their question, questions with the other questions.

    Siblings where a turn has any, as ``LspMean``. A turn that did not branch, such as the only question about one of
    many documents, is compared with its cousins: the batch's other turns without siblings that are the first
    (second, ...) of the same role in the same game.
    """

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        places: dict[Turn, tuple[str, str, int]] = {}
        for end in episodes:
            spoken = Counter[str]()
            for turn in end.turns:
                places[turn] = (end.game, turn.role, spoken[turn.role])
                spoken[turn.role] += 1
        cousins: dict[tuple[str, str, int], list[Turn]] = {}
        for group in siblings(turns):
            if len(group) > 1:
                yield group
            else:
                cousins.setdefault(places[group[0]], []).extend(group)
        yield from cousins.values()


class GrpoStd(Compared):
    """(value - mean) / (standard deviation of the siblings + ``epsilon``), with Bessel's correction (GRPO, arXiv
    2402.03300; TRL's epsilon of 1e-4, verl's is 1e-6)."""

    def __init__(self, shape: Mapping[str, str | Shape] | None = None, epsilon: float = STD_EPSILON) -> None:
        super().__init__(shape)
        if not epsilon >= 0:
            raise ValueError(f"epsilon={epsilon} is added to a standard deviation: it is at least 0")
        self.epsilon = epsilon

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        paid = _paid(worth, bonus)
        if max(paid) == min(paid):
            return [0.0] * len(paid)
        spread = stdev(paid) + self.epsilon
        return [gain / spread for gain in centred(paid)]


class Rloo(Compared):
    """REINFORCE leave-one-out (arXiv 2402.14740): the value minus the mean of the *other* siblings, G / (G - 1) times
    the centred value."""

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        return [gain * len(peers) / (len(peers) - 1) for gain in centred(_paid(worth, bonus))]


class MaxRL(Compared):
    """(value - mean) / mean of the siblings, 0 where the mean is 0 (arXiv 2602.02710): the gradient of log p and not of
    p, so that hard questions weigh about 1 / p. It needs values of at least 0.

    A bonus has no place in that quotient: it is centred among the siblings and added.
    """

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        for turn, value in zip(peers, worth, strict=True):
            if value < 0 and turn.action.completion is not None:
                raise ValueError(
                    f"credit max_rl needs values of at least 0, and a turn of {turn.role} is worth {value:g}: give the "
                    "role a shape, or set env.forfeit=0 if it is paid for a forfeit"
                )
        mean = fmean(worth)
        gains = [gain / mean for gain in centred(worth)] if mean > 0 else [0.0] * len(worth)
        return [gain + extra for gain, extra in zip(gains, centred(bonus), strict=True)]


class RaeEma(Shaped):
    """Role-conditioned advantage of SPIRAL (arXiv 2506.24119): A = R - b, b <- decay b + (1 - decay) R, b from 0.

    One baseline per (game, role). An episode is scored against the baseline *before* its own update. Every turn of a
    role gets the role's advantage, averaged over the turn's leaves. A role with a shape earns by the turn: its baseline
    moves once for each of its turns, shared ones too. A bonus is added to the advantage and no baseline sees it.
    The baselines are state: checkpoint them, or they warm up again over 1 / (1 - decay) games.
    """

    def __init__(self, shape: Mapping[str, str | Shape] | None = None, decay: float = 0.95) -> None:
        super().__init__(shape)
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and below 1")
        self.decay = decay
        self.baselines: dict[tuple[str, str], float] = {}

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        worth = values(episodes, self.shape)
        gains: dict[Turn, list[float]] = {}
        for episode in episodes:
            if episode.void:
                continue
            for role, earned in episode.returns.items():
                key, turns = (episode.game, role), [turn for turn in episode.turns if turn.role == role]
                if isinstance(episode, Settled) and not turns:
                    continue  # a gate settled one turn: the others played no game that counts
                if role not in self.shape:
                    gain = self._score(key, earned)
                    for turn in turns:
                        gains.setdefault(turn, []).append(gain)
                    continue
                for turn in turns:
                    if turn in worth and turn not in gains:
                        gains[turn] = [self._score(key, worth[turn])]
        return {turn: fmean(found) + (bonus or {}).get(turn, 0.0) for turn, found in gains.items()}

    def save(self, folder: Path) -> None:
        rows = [[game, role, value] for (game, role), value in self.baselines.items()]
        (folder / _FILE).write_text(json.dumps(rows), encoding="utf-8")

    def load(self, folder: Path) -> None:
        rows = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        self.baselines = {(game, role): value for game, role, value in rows}

    def _score(self, key: tuple[str, str], earned: float) -> float:
        before = self.baselines.get(key, 0.0)
        self.baselines[key] = self.decay * before + (1 - self.decay) * earned
        return earned - before


ESTIMATORS: dict[str, Callable[[Mapping[str, str | Shape] | None], Estimator]] = {
    "lsp_mean": LspMean,
    "grpo_std": GrpoStd,
    "rloo": Rloo,
    "rae_ema": RaeEma,
    "trr_pp": TrrPP,
    "reinforce_pp": ReinforcePP,
    "reinforce_pp_baseline": ReinforcePPBaseline,
    "hierarchical": Hierarchical,
    "max_rl": MaxRL,
    "winner_only": WinnerOnly,
}
"""The estimators by name, each made of the roles' shapes; what else one takes is given to its class."""


def make_estimator(credit: str | Estimator = "lsp_mean", shape: Mapping[str, str | Shape] | None = None) -> Estimator:
    """The estimator that ``credit`` names, or ``credit`` itself, with the shapes of the roles (``make_shapes``).

    Raises ``ValueError`` for an unknown name, or where an estimator that is given as an object cannot take the shapes.
    """
    if isinstance(credit, str):
        if credit not in ESTIMATORS:
            raise ValueError(
                f"credit={credit!r} is unknown{did_you_mean(credit, ESTIMATORS)}: use {', '.join(ESTIMATORS)}"
            )
        return ESTIMATORS[credit](shape)
    if not callable(credit):
        raise ValueError(f"credit={credit!r} is neither a name nor an estimator: use {', '.join(ESTIMATORS)}")
    if shape:
        if not isinstance(credit, Shaped):
            raise ValueError(f"{type(credit).__name__} takes no shapes, so leave the key shape out")
        if credit.shape:
            raise ValueError(f"{type(credit).__name__} has shapes of its own, so leave the key shape out")
        credit.shape = make_shapes(shape)
    return credit


def _paid(worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
    return [value + extra for value, extra in zip(worth, bonus, strict=True)]
