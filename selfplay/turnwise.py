"""Turn-level credit: a turn is paid what its seat earns from it on, and measured on the scale of its own kind of agent.

For games that pay on the way, and for roles whose returns are on different scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from selfplay.compared import Hierarchical, LspMean, RoleMean
from selfplay.compose import did_you_mean
from selfplay.credit import Bonus, Shape
from selfplay.peers import Shaped
from selfplay.rae import RaeEma
from selfplay.types import Episode, Stateful, Turn
from selfplay.whose import Whose, check_by, whose

STD_EPSILON = 1e-6
"""Added to the deviation, as MARSHAL's code does."""

BASELINES: dict[str, Callable[[str], Shaped]] = {
    "role_mean": lambda by: RoleMean(by=by),
    "rae_ema": lambda by: RaeEma(by=by),
    "lsp_mean": lambda by: LspMean(),
    "hierarchical": lambda by: Hierarchical(),
}
"""What a return to go may be compared with, by name, each made of ``by``."""


class ToGo:
    """G(t) = sum over what t's seat is paid after t of discount^n times the payment, n the seat's own turns in between.

    What is paid before the seat's next turn counts in full, whoever moved last; each further turn of its own costs a
    factor of ``discount``. With a discount of 1 and payment at the end alone it is the return. Where nobody kept what
    was paid when (``Episode.paid``), all was paid at the end. Called with an episode, it gives G of all its turns.

    By hand, discount 0.5, a seat that has turns 0 and 2 and is paid 1 after turn 1 and 4 after turn 3:
    G(2) = 4, G(0) = 1 + 0.5 * 4 = 3.
    """

    def __init__(self, discount: float = 1.0) -> None:
        if not 0 <= discount <= 1:
            raise ValueError(f"discount={discount} must lie between 0 and 1: 1 counts in full whatever comes later")
        self.discount = discount

    def __call__(self, episode: Episode) -> dict[Turn, float]:
        turns = [turn for turn in episode.turns if turn.role in episode.returns]
        paid: Sequence[Mapping[str, float]] = episode.paid
        coming: dict[str, float] = {}  # to each seat, seen from its next turn
        if len(paid) != len(episode.turns):
            paid = [dict[str, float]()] * len(episode.turns)
            coming = {turn.seat: episode.earned(turn) for turn in turns}
        found: dict[Turn, float] = {}
        for turn, amounts in zip(reversed(episode.turns), reversed(paid), strict=True):
            for seat, amount in amounts.items():
                coming[seat] = coming.get(seat, 0.0) + amount
            if turn.role in episode.returns:
                found[turn] = coming.get(turn.seat, 0.0)
                coming[turn.seat] = self.discount * found[turn]
        return {turn: found[turn] for turn in turns}


class TurnLevel(Shaped):
    """Turn-level advantages on the scale of every agent, as in MARSHAL (arXiv 2510.15414): A = (G - b) / deviation.

    G is the mean over the turn's leaves of the return to go (``ToGo``), b what ``baseline`` compares it with:
    ``role_mean`` (siblings where the game branches, else the batch's mean over all turns of the game and role, which is
    MARSHAL's), ``rae_ema``, ``lsp_mean``, ``hierarchical``, or one of these made with keys of its own. The deviation is
    sqrt(sum (G - b)^2 / (n - 1)) over the n turns that learn of the same game and role, so that no role speaks louder
    because it is paid more; ``by`` may be ``seat`` or ``persona``, and ``scale=false`` leaves it out. A role with a
    shape is worth what that says. Sums come before scaling: a turn's payments are added up and then measured.

    By hand, discount 1, two games, the first role has two turns each and is paid 0 and 1 after them in the one game, 0
    and 0 in the other: G = 1, 1, 0, 0, b = 1/2, deviation sqrt(4 * 1/4 / 3) = 0.57735: A = 0.86603 and -0.86603.
    """

    def __init__(
        self,
        shape: Mapping[str, str | Shape] | None = None,
        discount: float = 1.0,
        baseline: str | Shaped = "role_mean",
        by: str = "role",
        scale: bool = True,
    ) -> None:
        self.by, self.scale = check_by(by), scale
        self.baseline = _baseline(baseline, by)
        own = self.baseline.shape
        if own and shape:
            raise ValueError("credit.baseline has shapes of its own, so leave the key shape out")
        super().__init__(shape or own)
        self.baseline.earnings = self.earnings = ToGo(discount)
        self._deviations: dict[Whose, float] = {}

    @property
    def shape(self) -> dict[str, Shape]:
        """The roles' shapes, which the baseline reads."""
        return self.baseline.shape

    @shape.setter
    def shape(self, shape: dict[str, Shape]) -> None:
        self.baseline.shape = shape

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        credit = self.baseline(episodes, bonus)
        self._deviations = {}
        if not self.scale:
            return credit
        kinds: dict[Whose, list[Turn]] = {}
        seen = {turn: end for end in episodes for turn in end.turns}
        for turn in credit:
            if turn.action.completion is not None:
                kinds.setdefault(whose(seen[turn], turn.role, turn.seat, self.by), []).append(turn)
        for name, turns in kinds.items():
            square = math.fsum(credit[turn] ** 2 for turn in turns) / max(len(turns) - 1, 1)
            self._deviations[name] = math.sqrt(square)
            for turn in turns:
                credit[turn] /= self._deviations[name] + STD_EPSILON
        return credit

    def metrics(self) -> dict[str, float]:
        """What the baseline has to tell, and ``credit_deviation/<role>``: by what the last batch was divided."""
        told: dict[str, float] = getattr(self.baseline, "metrics", dict[str, float])()
        return told | {f"credit_deviation/{name}": deviation for (_, name), deviation in self._deviations.items()}

    def save(self, folder: Path) -> None:
        """What the baseline remembers, if it does."""
        if isinstance(self.baseline, Stateful):
            self.baseline.save(folder)

    def load(self, folder: Path) -> None:
        if isinstance(self.baseline, Stateful):
            self.baseline.load(folder)


def _baseline(baseline: str | Shaped, by: str) -> Shaped:
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            meant = did_you_mean(baseline, BASELINES)
            raise ValueError(f"credit.baseline={baseline!r} is unknown{meant}: use {', '.join(BASELINES)}")
        return BASELINES[baseline](by)
    if not isinstance(baseline, Shaped) or isinstance(baseline, TurnLevel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{type(baseline).__name__} compares no returns to go: use {', '.join(BASELINES)}")
    return baseline
