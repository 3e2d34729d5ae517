"""Advantages by comparison: a turn against its siblings, its cousins, or all of its role, by their mean value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from selfplay.credit import Shape, centred, siblings
from selfplay.peers import Compared
from selfplay.types import Episode, Turn
from selfplay.whose import Whose, check_by, whose

STD_EPSILON = 1e-4
"""Added to the group's standard deviation (with Bessel's correction), as TRL does."""


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


class RoleMean(LspMean):
    """Siblings where a turn has any, as ``LspMean``; a turn without is compared with the batch's other turns without
    siblings, early or late, of the same game and role (``by=seat`` or ``persona``: ``whose``).

    REINFORCE with one mean per role, as for games that do not branch: 128 games are then 128 results of each role. Of
    one batch, it needs no memory, as ``RaeEma`` does.
    """

    def __init__(self, shape: Mapping[str, str | Shape] | None = None, by: str = "role") -> None:
        super().__init__(shape)
        self.by = check_by(by)

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        seen = {turn: end for end in episodes for turn in end.turns}
        alone: dict[Whose, list[Turn]] = {}
        for group in siblings(turns):
            if len(group) > 1:
                yield group
            else:
                (turn,) = group
                alone.setdefault(whose(seen[turn], turn.role, turn.seat, self.by), []).append(turn)
        yield from alone.values()


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


def _paid(worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
    return [value + extra for value, extra in zip(worth, bonus, strict=True)]
