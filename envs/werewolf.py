"""Werewolf: hidden roles, nights that only some hear of, and days at which all talk and vote."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from envs import shipped
from envs.game import LanguageGame
from envs.matching import mention
from envs.news import News
from envs.script import GameError, Line

PARTS = ("wolf", "seer", "talk", "vote")
ROLES = {"wolf": ("name", "wolves"), "seer": ("name",), "villager": ("name",)}
EVENTS = {"is_wolf": ("name",), "no_wolf": ("name",), "killed": ("name", "role"), "out": ("name", "role"), "tie": ()}


class Werewolf(LanguageGame):
    """The seed deals ``wolves`` wolves, a seer and villagers to ``seats`` players, each of whom is told its own role.

    At night the wolves name a victim one after the other, and hear one another: the last word counts. At the same time
    the seer looks at somebody. By day the living talk, ``in_turn`` or all at once, and then vote at once: who has most
    votes is out, nobody in a tie. Who is out speaks no more. The town wins when no wolf lives, the wolves when they are
    as many as the others; after ``days`` days nobody has. Who wins is paid ``win``, who loses ``lose``.

    ``turns`` are a wolf's and the seer's at night, everybody's talk and vote; a slot has its seat's number at the end.
    A move that must name somebody may be a sentence: the last name in it counts. ``news`` (``envs.news``) are the texts
    by which roles and events are told. A player's name is ``title`` and a number, or its persona's. A payoff may name
    the teams town and wolves, too. Raises ``GameError``.
    """

    rules_pay, dealt_roles = True, tuple(ROLES)

    def __init__(
        self, turns: Sequence[Mapping[str, Any]], payoff: Mapping[str, Mapping[str, float]] | None = None, *,
        news: Mapping[str, str], seats: int = 7, wolves: int = 2, days: int = 5, in_turn: bool = False,
        win: float = 1.0, lose: float = -1.0, title: str = "Player ", name: str = "werewolf_v0",
        personas: Mapping[str, Any] | None = None, sees: Mapping[str, Sequence[str]] | None = None,
        forfeit: float = -1.0, max_chars: int = 16_384, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        if [turn.get("role") for turn in turns] != ["player"] * len(PARTS):
            raise GameError("werewolf has four turns of the role 'player': a wolf's, the seer's, the talk, the vote")
        if not (5 <= seats <= 8 and 0 < 2 * wolves < seats and days > 0):
            raise GameError(f"{seats=} {wolves=} {days=}: it takes 5 to 8 seats, fewer wolves than others, and a day")
        numbered = ((turn, n) for turn in turns for n in range(seats))
        super().__init__(
            [{**turn, "role": f"player_{n}", "says": f"{turn.get('says')}_{n}"} for turn, n in numbered], payoff,
            name=name, personas=personas, sees=sees, forfeit=forfeit, max_chars=max_chars,
            teams={"town": ("seer", "villager"), "wolves": ("wolf",)}, render_mode=render_mode,
        )  # fmt: skip
        self.roles = self.dealt_roles  # nobody is a mere player
        self.seats, self.wolves, self.days, self.in_turn, self.title = seats, wolves, days, in_turn, title
        self.news, self.win, self.lose = News(news, ROLES | EVENTS), float(win), float(lose)

    def begin(self, seed: int | None) -> None:
        self.living, self.day, self.phase = self.possible_agents[: self.seats], 0, "vote"
        self.agenda, self.seen = list[tuple[Line, ...]](), dict[str, bool]()
        for n, seat in enumerate(random.Random(seed).sample(self.living, self.seats)):
            self.deal(seat, "wolf" if n < self.wolves else "seer" if n == self.wolves else "villager")
        pack = ", ".join(self.name_of(wolf) for wolf in self._alive("wolf"))
        for seat in self.living:
            self.announce(self.news.tell(self.dealt[seat], name=self.name_of(seat), wolves=pack), to=[seat], by="")

    def next_line(self) -> tuple[Line, ...] | None:
        """Night, talk and vote in turn, until somebody has won or the days are over."""
        if not self.agenda:
            if self._close():
                return None
            self.phase = {"vote": "night", "night": "talk", "talk": "vote"}[self.phase]
            self.agenda = self._open()
        return self.agenda.pop(0)

    def name_of(self, seat: str) -> str:
        return str(self.infos[seat].get("persona") or f"{self.title}{int(seat[7:]) + 1}")

    def _open(self) -> list[tuple[Line, ...]]:
        """Who speaks in the phase, and who of them at once."""
        if self.phase == "talk":
            lines = [self._line("talk", seat, ()) for seat in self.living]
            return [(line,) for line in lines] if self.in_turn else [tuple(lines)]
        if self.phase == "vote":
            return [tuple(self._line("vote", seat, self.living) for seat in self.living)]
        self.day += 1
        *first, last = (self._line("wolf", seat, self._alive("seer", "villager")) for seat in self._alive("wolf"))
        looks = (self._line("seer", seat, self.living) for seat in self._alive("seer"))
        return [*((line,) for line in first), (last, *looks)]

    def _close(self) -> bool:
        """What the phase has brought; whether the game is over."""
        if self.phase == "night":
            for seer in self._alive("seer"):
                seen = self._named("seer", seer)
                self.seen[seen] = self.dealt[seen] == "wolf"
                news = "is_wolf" if self.seen[seen] else "no_wolf"
                self.announce(self.news.tell(news, name=self.name_of(seen)), to=[seer], by="")
            self._lose("killed", self._named("wolf", self._alive("wolf")[-1]))
        elif self.phase == "vote" and self.day:
            (seat, most), *others = Counter(self._named("vote", seat) for seat in self.living).most_common(2)
            self._lose("tie" if others and others[0][1] == most else "out", seat)
        wolves, last = len(self._alive("wolf")), self.phase == "vote" and self.day == self.days
        winner = "town" if not wolves else "wolves" if 2 * wolves >= len(self.living) else ""
        for seat, role in self.dealt.items() if winner else ():
            self.pay(seat, self.win if role in self.teams[winner] else self.lose)
        return bool(winner) or last

    def _line(self, part: str, seat: str, others: Sequence[str]) -> Line:
        """The seat's line in that part, which has to name one of the others if there are some; and its ``state``."""
        known = self.seen if self.dealt[seat] == "seer" else dict.fromkeys(self._alive("wolf"), True)
        facts = [f"{'wolf' if wolf else 'clear'} {self.name_of(other)}" for other, wolf in known.items()]
        self.infos[seat]["state"] = "\n".join([self.dealt[seat], *(facts if self.dealt[seat] != "villager" else ())])
        line, names = self._of(part, seat), tuple(self.name_of(other) for other in others if other != seat)
        return replace(line, moves=names, pattern=mention(line.slots[0], names)) if names else line

    def _lose(self, news: str, seat: str) -> None:
        self.announce(self.news.tell(news, name=self.name_of(seat), role=self.dealt[seat]), by="")
        if news != "tie":
            self.living = [other for other in self.living if other != seat]

    def _of(self, part: str, seat: str) -> Line:
        return self.script[PARTS.index(part) * self.seats + int(seat[7:])]

    def _named(self, part: str, seat: str) -> str:
        said = self.case[self._of(part, seat).slots[0]]
        return next(other for other in self.living if self.name_of(other) == said)

    def _alive(self, *roles: str) -> list[str]:
        return [seat for seat in self.living if self.dealt[seat] in roles]


raw_env = partial(shipped.raw, "werewolf")
env = partial(shipped.aec, "werewolf")
parallel_env = partial(shipped.parallel, "werewolf")
