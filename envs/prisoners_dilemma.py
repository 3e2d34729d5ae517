"""The iterated prisoner's dilemma (Axelrod, The Evolution of Cooperation, 1984), with a word before every choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line


class PrisonersDilemma(LanguageGame):
    """Two players choose ``rounds`` times, at once, whether to cooperate, and are paid after every round: ``reward``
    both if both do, ``punishment`` if neither does, else ``temptation`` to who defected and ``sucker`` to the other.
    Where ``talk`` is true they say something to each other before, at once as well. Nothing binds them to it.

    ``turns`` are the talk of both players and the choice of both, whose ``moves`` are the words for to cooperate and to
    defect. A line may be told ``round``, ``rounds``, ``history`` (what both chose in the rounds so far, as ``cc cd``),
    ``scores`` and the transcript. ``infos[seat]["state"]`` is the history with the seat's own choice first: ``cc,dc``.
    Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("round", "rounds", "history", "scores")

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        rounds: int = 5,
        talk: bool = True,
        reward: float = 3,
        temptation: float = 5,
        sucker: float = 0,
        punishment: float = 1,
        name: str = "prisoners_dilemma_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            turns, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if [line.at_once for line in self.script] != [False, True, False, True] or len(self.roles) != 2:
            raise GameError(
                "a prisoner's dilemma has four turns: the talk of two roles at once, and their choice at once"
            )
        for number, line in enumerate(self.script[2:], 2):
            if len(line.moves) != 2:
                raise GameError(f"turns[{number}].moves are two words: for to cooperate and to defect")
        if rounds < 1:
            raise GameError(f"rounds={rounds}: a prisoner's dilemma has at least one")
        self.rounds, self.talk = rounds, talk
        self.worth = {"cc": float(reward), "cd": float(sucker), "dc": float(temptation), "dd": float(punishment)}

    def begin(self, seed: int | None) -> None:
        self.chosen: tuple[str, ...] = ()
        self.scores = (0.0, 0.0)

    def next_line(self) -> tuple[Line, ...] | None:
        """Both talk, both choose, both are paid; until the rounds are over."""
        talk, choices = self.script[:2], self.script[2:]
        half, rest = divmod(self.spoken // 2, 2) if self.talk else (self.spoken // 2, 0)
        if half > len(self.chosen):
            chose = "".join("cd"[line.moves.index(self.case[line.slots[0]])] for line in choices)
            self.chosen = (*self.chosen, chose)
            paid = self.worth[chose], self.worth[chose[::-1]]
            self.scores = self.scores[0] + paid[0], self.scores[1] + paid[1]
            for line, amount in zip(choices, paid, strict=True):
                self.pay(line.seat, amount)
        if half == self.rounds:
            return None
        scores = [f"{self.name_of(line.seat)} {score:g}" for line, score in zip(choices, self.scores, strict=True)]
        self.case |= {"round": str(len(self.chosen) + 1), "rounds": str(self.rounds)}
        self.case |= {"history": " ".join(self.chosen), "scores": ", ".join(scores)}
        for line, rounds in zip(choices, (self.chosen, [chose[::-1] for chose in self.chosen]), strict=True):
            self.infos[line.seat]["state"] = ",".join(rounds)
        return talk if self.talk and not rest else choices


raw_env = partial(shipped.raw, "prisoners_dilemma")
env = partial(shipped.aec, "prisoners_dilemma")
parallel_env = partial(shipped.parallel, "prisoners_dilemma")
