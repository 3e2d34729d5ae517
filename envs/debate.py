"""A debate before a jury, or before a verifier (arXiv 1805.00899): whoever wins over more votes has won."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gymnasium.spaces import Dict

from envs import shipped
from envs.duel import Duel
from envs.game import VERIFIER_SEAT
from envs.script import GameError, Line
from envs.spaces import AnyText


class Debate(Duel):
    """A moderator sets the motion, ``jurors`` seats vote, two sides speak in turn, ``rounds`` times each, and they
    vote again: all at once, in secret, by the moves of their lines, which name the sides' roles and perhaps others, as
    undecided. The side that gains more votes from the first vote to the second gets 1, the other -1; equal gains are 0.

    ``turns`` are those of the moderator, of a juror before, of the two sides, and of a juror after; what a juror's line
    fills has its seat's number at the end (``before_0``). In the end a side's slot holds all it said; a verifier may
    judge it beside the jury, or in its place (``jurors`` 0: one sits there in silence). As in a duel, a part of the
    verdict is a share of a win, and worth ``2 * score - 1`` to the ``payoff``. ``infos["juror_0"]["state"]`` is the
    speeches so far, by role, as JSON. Raises ``GameError``.
    """

    rules_pay = True

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        payoff: Mapping[str, Mapping[str, float]] | None = None,
        *,
        jurors: int = 5,
        rounds: int = 2,
        name: str = "debate_v0",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if len(turns) != 5:
            raise GameError("a debate has five turns: the moderator's, a juror's, the two sides', and a juror's again")
        if type(jurors) is not int or jurors < 0 or (jurors and jurors % 2 == 0):
            raise GameError(f"jurors={jurors}: use an odd number, or 0 to leave the judgement to a verifier")
        if type(rounds) is not int or rounds < 1:
            raise GameError(f"rounds={rounds}: use a whole number, at least one")
        before, after = ([_at(turns[n], seat) for seat in range(some)] for n, some in ((1, jurors), (4, jurors or 1)))
        spoken = [turns[0], *before, *[*turns[2:4]] * rounds, *after]
        super().__init__(
            spoken, payoff, name=name, personas=personas, forfeit=forfeit, max_chars=max_chars, render_mode=render_mode
        )
        self.length, self.sides = 1 + 2 * (jurors + rounds), self.script[1 + jurors : 3 + jurors]
        self.before, self.after = self.script[1 : 1 + jurors], self.script[self.length - jurors : self.length]
        if self.sides[0].role == self.sides[1].role:
            raise GameError("turns[3].role is that of turns[2]: the two sides have names of their own")
        for line in (*self.before, *self.after):
            if missing := {side.role for side in self.sides} - {*line.moves}:
                raise GameError(f"{line.role} cannot vote for {min(missing)!r}: its moves are {list(line.moves)}")
        if not jurors and not self.parts:
            raise GameError("jurors=0: without a jury it takes a payoff, as {affirmative: {score: 1}}, and a verifier")
        if self.parts:  # all speeches of a side are longer than any move
            case = Dict({slot: AnyText(rounds * (max_chars + 2)) for slot in self.slots})
            self._spaces[VERIFIER_SEAT] = (case, self.action_space(VERIFIER_SEAT))

    def begin(self, seed: int | None) -> None:
        self.speeches: dict[str, list[str]] = {side.role: [] for side in self.sides}

    def next_line(self) -> Line | tuple[Line, ...] | None:
        """As the script has it; at the end the votes are counted."""
        spoke = self.script[self.spoken - 1] if self.spoken else None
        if spoke in self.sides:
            self.speeches[spoke.role].append(self.case[spoke.slots[0]].strip())
        if self.spoken < self.length:
            for line in self.before:
                self.infos[line.seat]["state"] = json.dumps(self.speeches)
            return super().next_line()
        votes = [[self.case[line.slots[0]] for line in jury] for jury in (self.before, self.after)]
        first, second = (votes[1].count(side.role) - votes[0].count(side.role) for side in self.sides)
        for side, ahead in zip(self.sides, (first - second, second - first), strict=True):
            self.case[side.slots[0]] = "\n\n".join(self.speeches[side.role])
            self.pay(side.seat, (ahead > 0) - (ahead < 0))
        return None


def _at(turn: Mapping[str, Any], seat: int) -> dict[str, Any]:
    """A juror's line for one seat, which fills slots of its own and is heard by nobody else."""
    says = str(turn.get("says"))
    slot = f"{says}_{seat}" if says.isidentifier() else re.sub(r"\(\?P<(\w+)>", rf"(?P<\1_{seat}>", says)
    return {**turn, "role": f"{turn.get('role')}_{seat}", "says": slot, "to": [], "at_once": seat > 0}


raw_env = partial(shipped.raw, "debate")
env = partial(shipped.aec, "debate")
parallel_env = partial(shipped.parallel, "debate")
