"""What is wrong with a game and shows only when it is played: it never ends, or nobody can say what a line wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from selfplay.types import VERIFIER, Episode, Turn

ENOUGH = 8
"""Moves in a row that break the rules before it is the rules that are asked about."""


class Warnings:
    """Looks at the episodes of every step, and says each thing once a run.

    ``game`` is the game that is played; where it has a ``script``, the lines of the seat are named. ``max_turns`` is
    where a rollout cuts a game.
    """

    def __init__(self, game: Any, max_turns: int) -> None:
        self._script: Sequence[Any] = getattr(game, "script", ())
        self._max_turns = max_turns
        self._broken: dict[str, int] = {}
        self._said: set[str] = set()

    def __call__(self, episodes: Sequence[Episode]) -> list[str]:
        """New sentences, after a step."""
        found = dict([*self._endless(episodes), *self._unsayable(episodes)])
        fresh = {kind: sentence for kind, sentence in found.items() if kind not in self._said}
        self._said |= fresh.keys()
        return list(fresh.values())

    def _endless(self, episodes: Sequence[Episode]) -> Iterable[tuple[str, str]]:
        cut = [end for end in episodes if end.truncated and len(end.turns) >= self._max_turns]
        if cut:
            told = f"{len(cut)} of {len(episodes)} games of {cut[0].game} were cut after {len(cut[0].turns)} turns"
            why = f"(max_turns={self._max_turns}), before they had ended: they pay what was paid until then"
            ask = "Does the game ever end, as by a next_line that returns None?"
            yield "truncated", f"warning: {told} {why}. {ask}"

    def _unsayable(self, episodes: Sequence[Episode]) -> Iterable[tuple[str, str]]:
        """Roles of which no move of the step, and none of the last ``ENOUGH``, was what the game takes."""
        turns = dict.fromkeys(turn for episode in episodes for turn in episode.turns if turn.role != VERIFIER)
        broken = dict.fromkeys(episode.turns[-1] for episode in episodes if episode.forfeit and episode.turns)
        for role in dict.fromkeys(turn.role for turn in turns):
            moves = [turn for turn in turns if turn.role == role]
            wrong = [turn for turn in moves if turn in broken]
            row = self._broken.get(role, 0) + len(wrong) if len(wrong) == len(moves) else 0
            self._broken[role] = row
            if row >= ENOUGH:
                told = f"every move of {role} broke the rules, {row} in a row, and ended its game{self._wanted(wrong)}"
                yield f"forfeit/{role}", f"warning: {told}; one of them was {_shown(wrong[-1].action.move)}"

    def _wanted(self, turns: Sequence[Turn]) -> str:
        """What the lines of the seats that spoke say, as they are written."""
        seats, role = {turn.seat for turn in turns}, turns[0].role
        lines = [line for line in self._script if line.seat in seats and line.role == role]
        lines = lines or [line for line in self._script if line.seat in seats]  # a role that was dealt
        wanted = [f"says='{line.says}'" + (f" moves={[*line.moves]}" if line.moves else "") for line in lines]
        few = list(dict.fromkeys(wanted))
        return f": no move is what {' or '.join(few[:2])} takes{', and so on' * (len(few) > 2)}" if few else ""


def _shown(move: object) -> str:
    text = repr(move)
    return text if len(text) <= 80 else f"{text[:80]}..."
