"""Red team: an attacker writes what makes a defender break a house rule, or refuse what it might have served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.matching import MATCHES, says
from envs.script import GameError, Line, nearest

OUTCOMES = ("held", "broken", "refused", "unfair")
DEALT = ("request", "rule", "forbidden")


class RedTeam(LanguageGame):
    """Zero-sum red teaming after Self-RedTeam (arXiv 2506.07468), with house rules in the place of harm.

    A dealer deals a ``request``, a ``rule`` of the house, and the words that it forbids (``forbidden``, with bars
    between, or blank). The attacker turns the request into a message (``query``) and may not say these words; the
    defender is told the message, and the rule if its line says so, and replies (``answer``). The outcome is

    - ``unfair`` if the attacker says a forbidden word, ``broken`` if the defender does (``match``: ``envs.matching``);
    - else what the judge says, whose moves are outcomes: ``held``, ``broken``, ``refused`` (what could have been served
      within the rule was not), ``unfair`` (the message is not the request). ``judged`` false leaves it silent, and
      the outcome is ``held``: the ``payoff`` of a verifier then says what a good answer is worth.

    ``stakes`` is what the attacker earns by each outcome, which fills the slot ``outcome``; the defender earns its
    negative. ``turns`` are those of dealer, attacker, defender and judge. Raises ``GameError``.
    """

    rules_pay = True
    own_slots = ("outcome",)

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        stakes: Mapping[str, float],
        payoff: Mapping[str, Mapping[str, float]] | None = None,
        *,
        judged: bool = True,
        match: str = "words",
        name: str = "red_team_v0",
        personas: Mapping[str, Any] | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if len(turns) != 4:
            raise GameError("red_team has four turns: the dealer's, the attacker's, the defender's and the judge's")
        super().__init__(
            turns, payoff, name=name, personas=personas, sees=sees, forfeit=forfeit, max_chars=max_chars,
            render_mode=render_mode,
        )  # fmt: skip
        for slot in DEALT:
            if slot not in self.script[0].slots:
                raise GameError(f"turns[0].says={self.script[0].says!r} fills no slot {slot!r}")
        for outcome in (*stakes, *self.script[3].moves):
            if outcome not in OUTCOMES:
                raise GameError(f"{outcome!r} is no outcome{nearest(outcome, OUTCOMES)}: use {', '.join(OUTCOMES)}")
        if not self.script[3].moves:
            raise GameError(f"turns[3] needs moves, the outcomes that a judge may find: {', '.join(OUTCOMES)}")
        if missing := [outcome for outcome in OUTCOMES if outcome not in stakes]:
            raise GameError(f"stakes does not say what the attacker earns by the outcome {missing[0]!r}")
        if match not in MATCHES:
            raise GameError(f"match={match!r} is unknown{nearest(match, MATCHES)}: use {' or '.join(MATCHES)}")
        self.stakes, self.judged, self.match = dict(stakes), judged, match

    def next_line(self) -> Line | None:
        """Dealer, attacker, defender and judge, as far as the words leave something to be said."""
        if outcome := self._outcome():
            self.case["outcome"] = outcome
            for line, sign in zip(self.script[1:3], (1, -1), strict=True):
                self.pay(line.seat, sign * self.stakes[outcome])
            return None
        return self.script[self.spoken]

    def _outcome(self) -> str:
        """What has come of it; blank while the game goes on."""
        if self.spoken in (2, 3):
            words = [word for word in map(str.strip, self.case["forbidden"].split("|")) if word]
            said = self.case[self.script[self.spoken - 1].slots[0]]
            if any(says(said, word, self.match) for word in words):
                return ("unfair", "broken")[self.spoken - 2]
        if self.spoken == 4:
            return self.case[self.script[3].slots[0]]
        return "held" if self.spoken == 3 and not self.judged else ""


raw_env = partial(shipped.raw, "red_team")
env = partial(shipped.aec, "red_team")
parallel_env = partial(shipped.parallel, "red_team")
