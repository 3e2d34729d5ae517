"""The optimal player of tic-tac-toe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from agents.legal import LegalPlayer

_ROWS = ("012", "345", "678", "036", "147", "258", "048", "246")


@dataclass(frozen=True)
class Minimax(LegalPlayer):
    """Plays any of the best moves, all alike, by a search of the whole game: it never loses. ``depth`` is how many
    moves it looks ahead, its own included; what lies beyond counts as a draw, so that a small one makes mistakes.
    Raises ``ValueError``."""

    depth: int = 9
    game = "tictactoe"

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 9:
            raise ValueError(f"Minimax looks 1 to 9 moves ahead, not depth={self.depth}.")

    def chances(self, state: str, moves: int) -> Sequence[float]:
        if len(state) != 9 or set(state) - set("xo.") or state.count(".") != moves:
            raise ValueError(state)
        worth = [_worth(board, self.depth - 1) for board in _after(state)]
        return [float(value == min(worth)) for value in worth]


def _after(board: str) -> list[str]:
    """The boards that a move leads to, in the order of the squares."""
    mark = "x" if board.count("x") == board.count("o") else "o"
    return [board[:place] + mark + board[place + 1 :] for place in range(9) if board[place] == "."]


@cache
def _worth(board: str, depth: int) -> int:
    """1 where who moves next will win, -1 where the other will, 0 for a draw or what is too far ahead."""
    if any(board[int(a)] == board[int(b)] == board[int(c)] != "." for a, b, c in _ROWS):
        return -1  # who moved last has three in a row
    if "." not in board or not depth:
        return 0
    return max(-_worth(after, depth - 1) for after in _after(board))
