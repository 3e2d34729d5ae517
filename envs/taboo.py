"""Adversarial Taboo (arXiv 1911.01622; SPAG, arXiv 2404.10642): make the other say a word that only you know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from gymnasium.spaces import Dict

from envs import shipped
from envs.game import LanguageGame
from envs.matching import MATCHES, names, opens, plain, says
from envs.script import GameError, Line, nearest
from envs.spaces import AnyText

ANNOUNCES = r"\bi know the word\b\W*it(?: is|['’]s)\b(?P<guess>[^.!?]*)"
"""How the Defender announces a guess, which ends with its sentence, or with the word if that has stops of its own."""

BREACHES = ("loses", "void")
_DEALT = r"\s*+(?P<word>(?=[^\n\w]*\w)[^\n]*(?<!\s))\s*(?P<history>)(?P<rounds>)(?P<winner>)(?P<ending>)"
"""A line with a letter or digit, and none beside it; read in linear time, for a dealer may be a model that runs on."""


class Taboo(LanguageGame):
    """A dealer names a word; the Attacker, who is told it, and the Defender, who is not, talk in turn, ``rounds`` each.

    The Defender loses by saying the word, or by announcing a wrong guess; it wins by announcing the right one. The
    Attacker may neither say the word nor announce anything: that is a ``breach``, by which it ``loses``, or which is
    ``void``. A void game has no winner, nor has one whose rounds are over. At the end the slot ``winner`` is a role or
    blank, and ``ending`` is ``said``, ``right guess``, ``wrong guess``, ``breach`` or ``tie``: a verifier reads them.

    ``match``, ``words`` or ``letters``, is how the word is found (``envs.matching``). ``announces`` is an expression
    with a group ``guess``; case counts for nothing. ``turns`` are the dealer's, who says ``word``, the Attacker's and
    the Defender's, who may be told ``rounds``, ``history`` (all that was said) and what both said last. Raises
    ``GameError``.
    """

    def __init__(
        self,
        turns: Sequence[Mapping[str, str]],
        payoff: Mapping[str, Mapping[str, float]],
        *,
        rounds: int = 5,
        match: str = "words",
        announces: str = ANNOUNCES,
        breach: str = "loses",
        name: str = "taboo_v0",
        personas: Mapping[str, str] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if len(turns) != 3 or turns[0].get("says") != "word":
            raise GameError("taboo has three turns: the dealer's, who says 'word', the Attacker's and the Defender's")
        dealt = [{**turns[0], "says": _DEALT}, *turns[1:]]  # beside the word, slots that nobody says
        super().__init__(
            dealt, payoff, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        for key, value, known in (("match", match, MATCHES), ("breach", breach, BREACHES)):
            if value not in known:
                raise GameError(f"{key}={value!r} is unknown{nearest(value, known)}: use {' or '.join(known)}")
        if type(rounds) is not int or rounds < 1:
            raise GameError(f"rounds={rounds}: taboo has a whole number of rounds, at least one")
        if self.script[1].role == self.script[2].role:
            raise GameError(f"turns[2].role={self.script[2].role} is the Attacker's: the winner is told by the role")
        if "word" in self.script[2].fields():
            raise GameError(f"turns[2]: {self.script[2].role} is told {{word}}, which must be kept from it")
        self.rounds, self.match, self.breach = rounds, match, breach
        self.announces = _announces(announces)
        self._widen(2 * rounds * (3 * max_chars + 64))  # an indented line of the history may be three times as long

    def next_line(self) -> Line | None:
        """The dealer, then the Attacker and the Defender in turn, until the game has an ending."""
        if not self.spoken:
            return self.script[0]
        if self.spoken == 1:
            self.case |= {"history": "(Nobody has spoken yet.)", "rounds": str(self.rounds)}
            return self.script[1]
        spoke, other = self.script[1:] if self.spoken % 2 == 0 else self.script[:0:-1]
        move = self.case[spoke.slots[0]].strip()
        said = "\n  ".join(f"{spoke.role.capitalize()}: {move}".splitlines())  # nobody writes a line for the other
        self.case["history"] = said if self.spoken == 2 else f"{self.case['history']}\n{said}"
        self.case["winner"], self.case["ending"] = self._outcome(spoke, plain(move))
        return None if self.case["ending"] else other

    def _outcome(self, spoke: Line, move: str) -> tuple[str, str]:
        """Who has won by this move, and how; both blank while the game goes on."""
        word, (_, attack, defence) = self.case["word"], self.script
        guess, said = self.announces.search(move), says(move, word, self.match)
        if spoke is attack:
            breach = said or guess is not None
            return (defence.role if self.breach == "loses" else "", "breach") if breach else ("", "")
        if guess is not None:
            right = names(guess["guess"], word, self.match) or opens(move[guess.start("guess") :], word)
            return (defence.role, "right guess") if right else (attack.role, "wrong guess")
        if said:
            return attack.role, "said"
        return "", "tie" if self.spoken == 1 + 2 * self.rounds else ""

    def _widen(self, room: int) -> None:
        """The history is longer than any move: so may be what a seat, or the verifier, is told."""
        for seat, (told, move) in self._spaces.items():
            texts = cast("Mapping[str, AnyText]", told)
            self._spaces[seat] = Dict({key: AnyText(text.max_chars + room) for key, text in texts.items()}), move


def _announces(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)  # what was said comes in small letters
    except re.error as error:
        raise GameError(f"announces={pattern!r} is not a regular expression: {error}") from error
    if "guess" not in compiled.groupindex:
        raise GameError(f"announces={pattern!r} has no group 'guess', as in {ANNOUNCES}")
    return compiled


raw_env = partial(shipped.raw, "taboo")
env = partial(shipped.aec, "taboo")
parallel_env = partial(shipped.parallel, "taboo")
