"""What advantage estimators share: whom a turn is compared with, and the count of those who have nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from selfplay.credit import Bonus, Earnings, Shape, earned, siblings, values
from selfplay.shapes import make_shapes
from selfplay.types import Episode, Turn


class Shaped:
    """An estimator whose roles may have shapes, given as objects or by their names in ``shapes.SHAPES``; roles without
    one are paid by ``earnings``, the return unless somebody else sets it (``turnwise``)."""

    def __init__(self, shape: Mapping[str, str | Shape] | None = None) -> None:
        self.shape = make_shapes(shape)
        self.earnings: Earnings = earned

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        raise NotImplementedError


class Compared(Shaped):
    """Splits a batch's turns into peers and compares each with the others among them."""

    def __init__(self, shape: Mapping[str, str | Shape] | None = None) -> None:
        super().__init__(shape)
        self._alone: dict[str, int] = {}

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        worth = values(episodes, self.shape, self.earnings)
        credit: dict[Turn, float] = {}
        self._alone = {}
        for peers in self.peers(worth, episodes):
            if len(peers) > 1:
                gains = self.compare(peers, [worth[t] for t in peers], [(bonus or {}).get(t, 0.0) for t in peers])
                credit.update(zip(peers, gains, strict=True))
            else:
                self._leave(peers[0], credit)
        return {turn: credit[turn] for turn in worth if turn in credit}

    def metrics(self) -> dict[str, float]:
        """``singleton_groups/<role>``: the last batch's turns that could have learned, had they had a peer."""
        return {f"singleton_groups/{role}": float(count) for role, count in self._alone.items()}

    def peers(self, turns: Iterable[Turn], episodes: Sequence[Episode]) -> Iterable[list[Turn]]:
        """The turns that have an advantage, each with those it is compared with: siblings, unless overridden."""
        return siblings(turns)

    def compare(self, peers: Sequence[Turn], worth: Sequence[float], bonus: Sequence[float]) -> list[float]:
        """The advantages of at least two peers."""
        raise NotImplementedError

    def _leave(self, turn: Turn, credit: dict[Turn, float]) -> None:
        credit[turn] = 0.0
        if turn.action.completion is not None:
            self._alone[turn.role] = self._alone.get(turn.role, 0) + 1
