"""A round table: personas answer a question, criticise one another, and a chair concludes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.script import GameError, Line

MOST = 16
_WORD = re.compile(r"(?<!\w)-\d+|[^\W_]+")


class Roundtable(LanguageGame):
    """``guests`` seats of one role answer at the same time and criticise at the same time, ``rounds`` times; from the
    second round on they answer anew, having heard the critics. Then the chair concludes, and the verifier judges that.

    ``turns`` are those of who asks, of a guest who answers, of a guest who criticises, and of the chair. A guest's slot
    has its seat's number at the end: the line ``view`` fills ``view_0``, ``view_1``, ...; whoever is told
    ``{transcript}`` has heard them all. A chair that ``adopts`` may only repeat one of the last answers: these are its
    legal moves.

    The payoff is the cooperation: what the conclusion is worth to whom. ``prize`` is the competition: the guests whose
    last answers are nearest to the conclusion share it, in equal parts; where no answer has a word of it nobody gets
    it. Near is the F1 of their words (``nearness``). Raises ``GameError``.
    """

    def __init__(
        self, turns: Sequence[Mapping[str, Any]], payoff: Mapping[str, Mapping[str, float]], *,
        guests: int = 4, rounds: int = 1, prize: float = 0.5, adopts: bool = False, name: str = "roundtable_v0",
        personas: Mapping[str, Any] | None = None, sees: Mapping[str, Sequence[str]] | None = None,
        teams: Mapping[str, Sequence[str]] | None = None, forfeit: float = -1.0, max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:  # fmt: skip
        if len(turns) != 4 or turns[1].get("role") != turns[2].get("role"):
            raise GameError("a round table has four turns: who asks, a guest who answers and who criticises, the chair")
        for key, value, least, most in (("guests", guests, 2, MOST), ("rounds", rounds, 1, MOST)):
            if type(value) is not int or not least <= value <= most:
                raise GameError(f"{key}={value!r}: a round table has {least} to {most}")
        for number in (1, 2):
            if not str(turns[number].get("says")).isidentifier():
                raise GameError(f"turns[{number}].says={turns[number].get('says')!r}: what a guest says fills one slot")
        asker, *spoken, chair = turns
        seated = [_at(line, seat) for line in spoken for seat in range(guests)]
        super().__init__(
            [asker, *seated, chair], payoff, name=name, personas=personas, sees=sees, teams=teams, forfeit=forfeit,
            max_chars=max_chars, render_mode=render_mode,
        )  # fmt: skip
        self.guests, self.rounds, self.prize, self.adopts = guests, rounds, float(prize), adopts

    def next_line(self) -> Line | tuple[Line, ...] | None:
        """The question, then all guests at once, answers and critiques in turn, then the chair."""
        asker, chair, guests = self.script[0], self.script[-1], self.guests
        if not self.spoken:
            return asker
        batch, past = divmod(self.spoken - 1, guests)
        if batch < 2 * self.rounds:
            first = 1 + guests * (batch % 2)
            return self.script[first : first + guests]
        if not past:
            return replace(chair, moves=self._answers()) if self.adopts else chair
        self._reward(self.script[1 : 1 + guests], self.case[chair.slots[0]])
        return None

    def _answers(self) -> tuple[str, ...]:
        """What was answered last, the same words once."""
        said = (self.case[line.slots[0]].strip() for line in self.script[1 : 1 + self.guests])
        return tuple({answer.casefold(): answer for answer in said}.values())

    def _reward(self, answers: Sequence[Line], conclusion: str) -> None:
        """Share the prize among those who came nearest to the conclusion."""
        near = {line.seat: nearness(self.case[line.slots[0]], conclusion) for line in answers}
        best = [seat for seat, share in near.items() if share and share == max(near.values())]
        for seat in best:
            self.pay(seat, self.prize / len(best))


def nearness(answer: str, conclusion: str) -> float:
    """F1 of the words of two texts, each as often as it stands there, whatever their case: 1 for the same words."""
    ours, theirs = _words(answer), _words(conclusion)
    common = sum(min(count, theirs[word]) for word, count in ours.items() if word in theirs)
    return 2 * common / max(1, ours.total() + theirs.total())


@lru_cache(maxsize=64)
def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold()))


def _at(line: Mapping[str, Any], seat: int) -> dict[str, Any]:
    """A guest's line for one seat."""
    return {**line, "role": f"{line['role']}_{seat}", "says": f"{line.get('says')}_{seat}", "at_once": seat > 0}


raw_env = partial(shipped.raw, "roundtable")
env = partial(shipped.aec, "roundtable")
parallel_env = partial(shipped.parallel, "roundtable")
