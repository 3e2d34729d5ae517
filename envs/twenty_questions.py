"""Twenty questions: one knows a word, the other finds it by questions that are answered yes, no or maybe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.matching import MATCHES, names
from envs.script import GameError, Line, nearest

_WORD = r"\s*+(?P<word>(?=[^\n\w]*\w)[^\n]*(?<!\s))\s*"  # one line with a letter or digit; read in linear time


class TwentyQuestions(LanguageGame):
    """A dealer names a word to the keeper; the guesser has ``questions`` messages, each of which the keeper answers by
    one of its line's moves. A message that matches ``guesses``, an expression with a group ``guess``, ends the game:
    right, the guesser gets ``win``, and ``bonus`` for each message it has left; wrong, or with none left, ``lose``. The
    keeper gets the share ``keeper`` of that: 1 makes partners; -1 opponents, of whom the keeper may well lie.

    ``turns`` are the dealer's, whose move is the word, the guesser's and the keeper's, who may be told ``left``, the
    guesser's messages to come. ``infos[seat]["state"]`` is what that seat knows, as JSON: ``asked`` (question, answer),
    ``left``, and for the keeper ``word`` and ``question``. ``match``: ``envs.matching``. Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("left",)

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        guesses: str,
        *,
        questions: int = 20,
        match: str = "words",
        win: float = 1.0,
        bonus: float = 0.0,
        lose: float = 0.0,
        keeper: float = 1.0,
        name: str = "twenty_questions_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if len(turns) != 3 or turns[0].get("says") != "word":
            raise GameError("twenty questions has three turns: the dealer's, who says 'word', guesser's and keeper's")
        turns = [{**turns[0], "says": _WORD, "to": [turns[2].get("role")]}, *turns[1:]]
        super().__init__(
            turns, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        if not self.script[2].moves:
            raise GameError("turns[2] needs moves, the answers that there are, as ['yes', 'no', 'maybe']")
        if "word" in self.script[1].fields():
            raise GameError("turns[1] is told {word}, which must be kept from the guesser")
        if type(questions) is not int or questions < 1:
            raise GameError(f"questions={questions}: use a whole number, at least one")
        if match not in MATCHES:
            raise GameError(f"match={match!r} is unknown{nearest(match, MATCHES)}: use {' or '.join(MATCHES)}")
        try:
            self.guesses = re.compile(guesses, re.IGNORECASE)
        except re.error as error:
            raise GameError(f"guesses={guesses!r} is not a regular expression: {error}") from error
        if "guess" not in self.guesses.groupindex:
            raise GameError(f"guesses={guesses!r} has no group 'guess'")
        self.questions, self.match, self.worth = questions, match, (win, bonus, lose, keeper)

    def begin(self, seed: int | None) -> None:
        self.asked: list[tuple[str, str]] = []

    def next_line(self) -> Line | None:
        """The dealer, then questions and answers in turn, until a guess or the end of the messages."""
        dealer, guesser, keeper = self.script
        if not self.spoken:
            return dealer
        left, answered = self.questions - self.spoken // 2, self.spoken % 2
        question = self.case[guesser.slots[0]].strip()
        if self.spoken > 1 and answered:
            self.asked.append((question, self.case[keeper.slots[0]]))
        elif not answered and ((guess := self.guesses.search(question)) or not left):
            right = guess is not None and names(guess["guess"], self.case["word"], self.match)
            win, bonus, lose, share = self.worth
            self.pay(guesser.seat, earned := win + bonus * left if right else lose)
            self.pay(keeper.seat, share * earned)
            return None
        self.case["left"], state = str(left), {"asked": self.asked, "left": left}
        line, knows = (guesser, {}) if answered else (keeper, {"word": self.case["word"], "question": question})
        self.infos[line.seat]["state"] = json.dumps(state | knows)
        last = answered and left == 1  # of what is legal, nothing but a guess is of any use
        return replace(line, moves=tuple(filter(self.guesses.search, line.moves))) if last and line.moves else line


raw_env = partial(shipped.raw, "twenty_questions")
env = partial(shipped.aec, "twenty_questions")
parallel_env = partial(shipped.parallel, "twenty_questions")
