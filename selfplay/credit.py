"""Credit: from the returns of a tree's leaves to one advantage per turn.

One rule. For a turn t with leaves E(t): V(t) = shape(returns of t's role over E(t)), and A(t) = V(t) - mean of V over
t's siblings. A turn that many episodes share is counted once. For Language Self-Play (arXiv 2509.07414) it gives
eq. 3: the Solver's answers are centred within their query, the Challenger's queries among each other, with
V(q) = mean over the answers to q, and no standard deviation anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from selfplay.types import Episode, Turn

Shape = Callable[[Sequence[float]], float]
"""From the returns over a turn's leaves to the turn's value."""

STD_EPSILON = 1e-4
"""Added to the group's standard deviation (with Bessel's correction), as TRL does."""


def values(episodes: Sequence[Episode], shape: Mapping[str, Shape] | None = None) -> dict[Turn, float]:
    """V(t) of every turn that has a leaf that is not void; ``shape[role]`` defaults to the mean."""
    leaves: dict[Turn, list[float]] = {}
    for episode in episodes:
        if episode.void:
            continue
        for turn in episode.turns:
            if turn.role in episode.returns:
                leaves.setdefault(turn, []).append(episode.returns[turn.role])
    return {turn: (shape or {}).get(turn.role, fmean)(returns) for turn, returns in leaves.items()}


def advantages(
    episodes: Sequence[Episode],
    *,
    shape: Mapping[str, Shape] | None = None,
    scale: bool = False,
    bonus: Mapping[Turn, float] | None = None,
) -> dict[Turn, float]:
    """A(t) = V(t) - mean of V over t's siblings; a turn without siblings has 0, whatever it earned.

    ``bonus[t]`` is added to V(t) first (a KL penalty inside the reward). ``scale`` divides by the group's standard
    deviation, as GRPO does (arXiv 2402.03300); a group without spread stays 0.
    """
    worth = {turn: value + (bonus or {}).get(turn, 0.0) for turn, value in values(episodes, shape).items()}
    groups: dict[int, list[Turn]] = {}
    for turn in worth:
        groups.setdefault(turn.group, []).append(turn)
    credit: dict[Turn, float] = {}
    for siblings in groups.values():
        earned = [worth[turn] for turn in siblings]
        mean = fmean(earned)
        spread = stdev(earned) + STD_EPSILON if scale and len(earned) > 1 else 1.0
        # max == min, not deviation == 0: rounding in the mean must not give equal siblings a signal.
        flat = max(earned) == min(earned)
        for turn, value in zip(siblings, earned, strict=True):
            credit[turn] = 0.0 if flat else (value - mean) / spread
    return credit


class EmaBaseline:
    """Role-conditioned advantage of SPIRAL (arXiv 2506.24119): A = R - b, b <- decay b + (1 - decay) R, b from 0.

    One baseline per (game, role); an episode is scored against the baseline *before* its own update. Every turn of a
    role gets the role's advantage, averaged over the turn's leaves. The baselines are state: checkpoint them.
    """

    def __init__(self, decay: float = 0.95) -> None:
        self.decay = decay
        self.baselines: dict[tuple[str, str], float] = {}

    def __call__(self, episodes: Sequence[Episode]) -> dict[Turn, float]:
        leaves: dict[Turn, list[float]] = {}
        for episode in episodes:
            if episode.void:
                continue
            for role, earned in episode.returns.items():
                key = (episode.game, role)
                before = self.baselines.get(key, 0.0)
                self.baselines[key] = self.decay * before + (1 - self.decay) * earned
                for turn in episode.turns:
                    if turn.role == role:
                        leaves.setdefault(turn, []).append(earned - before)
        return {turn: fmean(gains) for turn, gains in leaves.items()}

    def save(self, folder: Path) -> None:
        rows = [[game, role, value] for (game, role), value in self.baselines.items()]
        (folder / "baselines.json").write_text(json.dumps(rows), encoding="utf-8")

    def load(self, folder: Path) -> None:
        rows = json.loads((folder / "baselines.json").read_text(encoding="utf-8"))
        self.baselines = {(game, role): value for game, role, value in rows}


def learnability(returns: Sequence[float]) -> float:
    """4 p (1 - p) for success rates: 1 where half of the answers are right, 0 where all or none are."""
    p = fmean(returns)
    return 4 * p * (1 - p)


def uncertainty(returns: Sequence[float]) -> float:
    """1 - 2 |p - 1/2|, R-Zero's reward of the Challenger before its repetition penalty (arXiv 2508.05004)."""
    return 1 - 2 * abs(fmean(returns) - 0.5)
