"""Tic-tac-toe: two players, nine squares, three in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line

SQUARES = "123456789"
"""From left to right, row by row: the legal moves."""
ROWS = ("123", "456", "789", "147", "258", "369", "159", "357")
"""The three squares of every line that wins."""


class TicTacToe(LanguageGame):
    """``x`` and ``o`` take turns to mark a free square, ``x`` first. Who has three in a row gets 1 and the other -1; a
    full board without such a row is a draw, 0 for both.

    ``turns`` are the lines of ``x`` and of ``o``. A line may be told ``mark`` (its own, X or O), ``board`` (three rows
    of the marks, or the number of a free square), ``free`` (the free squares), the squares that are ``mine`` and
    ``theirs``, those that would win at once (``wins``) or would for the other (``threats``), and the transcript.
    ``infos[seat]["state"]`` is the nine squares, ``.`` where one is free: ``x...o....``. Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("mark", "board", "free", "mine", "theirs", "wins", "threats")

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        name: str = "tictactoe_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            turns, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if self.roles != ("x", "o") or len(self.script) != 2:
            raise GameError(f"tic-tac-toe has two turns, of the roles x and o, not of {', '.join(self.roles)}")

    def begin(self, seed: int | None) -> None:
        self.board = "." * 9

    def next_line(self) -> Line | None:
        """The players in turn, until one has three in a row or no square is free."""
        if self.spoken:
            spoke = self.script[(self.spoken - 1) % 2]
            self.board = marked(self.board, self.case[spoke.slots[0]], spoke.role)
            if winner(self.board):
                self.pay(spoke.seat, 1.0)
                self.pay(self.script[self.spoken % 2].seat, -1.0)
                return None
        free = tuple(square for square in SQUARES if self.board[int(square) - 1] == ".")
        if not free:
            return None
        line = self.script[self.spoken % 2]
        shown = [mark.replace(".", number).upper() for number, mark in zip(SQUARES, self.board, strict=True)]
        rows = [" ".join(shown[start : start + 3]) for start in (0, 3, 6)]
        self.case |= {"mark": line.role.upper(), "board": "\n".join(rows), "free": ", ".join(free)}
        for role, marks, wins in ((line.role, "mine", "wins"), ("xo".replace(line.role, ""), "theirs", "threats")):
            self.case[marks] = "".join(number for number, mark in zip(SQUARES, self.board, strict=True) if mark == role)
            self.case[wins] = "".join(square for square in free if winner(marked(self.board, square, role)))
        self.infos[line.seat]["state"] = self.board
        return replace(line, moves=free)

    def render(self) -> str:
        return "\n".join(self.board[start : start + 3] for start in (0, 3, 6))


def marked(board: str, square: str, mark: str) -> str:
    place = SQUARES.index(square)
    return board[:place] + mark + board[place + 1 :]


def winner(board: str) -> str:
    """``x`` or ``o``, who has three in a row on a board of nine squares; blank where nobody has."""
    for row in ROWS:
        marks = {board[int(square) - 1] for square in row}
        if len(marks) == 1 and marks != {"."}:
            return marks.pop()
    return ""


raw_env = partial(shipped.raw, "tictactoe")
env = partial(shipped.aec, "tictactoe")
parallel_env = partial(shipped.parallel, "tictactoe")
