"""Credit for games that somebody wins: only the winner's turns are worth something, later ones more than earlier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from selfplay.credit import Bonus, Shape
from selfplay.types import Episode, Turn
from selfplay.whose import seated


class WinnerOnly:
    """The credit of SPAG (arXiv 2404.10642; its released code): imitate who won.

    A seat wins an episode that pays it more than 0. Its T turns there have r_t = decay^(T - t) / sum_s decay^(T - s),
    which add up to 1 for every win; the turns of all others have 0. A role's turns weigh n / (k n_role), where n_role
    of the n wins are its seats' and k roles learn: each counts 1 / k, however seldom it wins. Wins of those who say
    nothing in tokens, such as a frozen opponent, are not counted. A turn that several episodes share has the mean.

    A bonus is a sum over the turn's tokens, as a KL penalty is; the mean is added to a turn that has won, for SPAG's
    log-probabilities are averages over a turn. Raises ``ValueError`` for shapes: a game is worth what it pays.
    """

    def __init__(self, shape: Mapping[str, str | Shape] | None = None, decay: float = 0.8) -> None:
        if shape:
            raise ValueError("credit winner_only looks at who won and takes no shapes, so leave the key shape out")
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} must be above 0 and at most 1")
        self.decay = decay
        self._wins = Counter[str]()

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        played = [episode for episode in episodes if not episode.void]
        self._wins = Counter({turn.role: 0 for end in played for turn in end.turns if _learns(turn, end)})
        gains: dict[Turn, list[float]] = {}
        for end in played:
            for role, members in seated(end).items():
                for turns in filter(None, members.values()):
                    won = end.earned(turns[0]) > 0 and any(map(_tokens, turns))
                    if won:
                        self._wins[role] += 1
                    for turn, share in zip(turns, discounted(len(turns), self.decay), strict=True):
                        gains.setdefault(turn, []).append(share if won else 0.0)
        credit: dict[Turn, float] = {}
        for turn, shares in gains.items():
            credit[turn] = fmean(shares) * self._weight(turn.role)
            if credit[turn]:
                credit[turn] += (bonus or {}).get(turn, 0.0) / max(_tokens(turn), 1)
        return credit

    def metrics(self) -> dict[str, float]:
        """``wins/<role>``: how often the role's seats won a game of the last batch, and learn from it."""
        return {f"wins/{role}": float(count) for role, count in self._wins.items()}

    def _weight(self, role: str) -> float:
        wins = self._wins[role]
        return self._wins.total() / (len(self._wins) * wins) if wins else 0.0


def discounted(turns: int, decay: float) -> list[float]:
    """decay^(T - t) for t = 1 ... T, divided by their sum."""
    shares = [decay ** (turns - t) for t in range(1, turns + 1)]
    return [share / sum(shares) for share in shares]


def _learns(turn: Turn, episode: Episode) -> bool:
    return turn.role in episode.returns and _tokens(turn) > 0


def _tokens(turn: Turn) -> int:
    return len(turn.action.completion.token_ids) if turn.action.completion else 0
