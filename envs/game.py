"""LanguageGame: a PettingZoo AEC game that is written as data, with the verifier in the last seat."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

from gymnasium.spaces import Dict, Space
from pettingzoo import AECEnv

from envs.cast import Cast
from envs.copying import twin
from envs.heard import Heard
from envs.script import TRANSCRIPT, GameError, Line, check_script, check_sight, nearest
from envs.spaces import ANY_LENGTH, AnyScore, AnyText

VERIFIER, VERIFIER_SEAT = "verifier", "verifier_0"
ALWAYS = ("query", "answer", "reference")
"""The slots that every case has, empty where a game does not use them."""


class LanguageGame(AECEnv[str, Any, Any]):
    """A script of seats: each is told something and says something; then the verifier plays a verdict, which pays.

    ``turns`` is a list of lines (``envs.script.Line``); ``payoff`` says what a point of the verdict's part is worth, by
    seat, role, or team, and who has several of these earns them all; ``teams`` maps a name to roles. ``personas`` maps
    a role or seat to its system text, or is a cast (``envs.cast``). ``sees`` maps a role to the slots that it may be
    told, and none else. Any string is a legal move: one that is blank, longer than ``max_chars`` or not of the line's
    pattern or moves ends the game, pays its speaker ``forfeit`` and the others 0, and is marked
    ``infos[seat]["forfeit"]``.

    ``infos[seat]`` tells whoever plays there, and nobody else: its ``persona``, its ``role`` where it was dealt one
    (``deal``), and, when it has a turn, its ``legal_actions`` where the line lists moves.

    A game without a fixed script overrides ``next_line``; its own attributes are copied when a game branches. Where
    its rules pay (``pay``), ``rules_pay`` is true and the payoff may be empty: then no verifier is seated.
    """

    rules_pay: ClassVar[bool] = False
    dealt_roles: ClassVar[tuple[str, ...]] = ()
    """The roles that ``begin`` deals, besides those of the script."""
    own_slots: ClassVar[tuple[str, ...]] = ()
    """The slots that ``begin`` and ``next_line`` fill, and nobody says."""

    def __init__(
        self,
        turns: Sequence[Mapping[str, Any]],
        payoff: Mapping[str, Mapping[str, float]] | None = None,
        *,
        name: str = "language_game_v0",
        personas: Mapping[str, Any] | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
        teams: Mapping[str, Sequence[str]] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        mine = frozenset(vars(self))  # what a subclass set before it called us is its state, not our rules
        if not turns:
            raise GameError("a game needs at least one turn")
        self.script = tuple(Line.parse(line, number) for number, line in enumerate(turns))
        roles = tuple(dict.fromkeys([*(line.role for line in self.script), *self.dealt_roles]))
        if VERIFIER in roles:
            raise GameError("the verifier speaks last by itself: no turn may have the role 'verifier'")
        check_script(self.script, self.own_slots)
        seats = tuple(dict.fromkeys(line.seat for line in self.script))
        self.roles, self.forfeit, self.max_chars, self.render_mode = roles, float(forfeit), max_chars, render_mode
        self.role_of = {**{line.seat: line.role for line in self.script}, VERIFIER_SEAT: VERIFIER}
        self._pays(payoff or {}, teams or {}, seats)
        self.sees = {role: tuple(slots) for role, slots in (sees or {}).items()}
        check_names("sees", self.sees, (*roles, *seats))
        check_sight(self.script, self.sees, {})
        for number, line in enumerate(self.script):
            check_names(f"turns[{number}].to", line.to or (), (*roles, *seats))
        self._seat_personas(personas or {}, seats)
        self._titles = {seat: self._title(seat) for seat in seats}
        self.metadata = {"name": name, "render_modes": ["ansi"], "is_parallelizable": True}
        self.possible_agents = [*seats, *([VERIFIER_SEAT] if self.parts else [])]
        self.slots = tuple(
            dict.fromkeys([*ALWAYS, *self.own_slots, *(slot for line in self.script for slot in line.slots)])
        )
        self._talks = any(TRANSCRIPT in line.fields() for line in self.script)
        self._spaces = {seat: self._make_spaces(seat) for seat in self.possible_agents}
        self._rules = frozenset(vars(self)) - mine
        self.agents: list[str] = []
        self.case: dict[str, str] = {}
        self.spoken = 0
        self.dealt: dict[str, str] = {}
        self.heard = Heard()

    # -- the rules, open to a subclass ---------------------------------------------------------------------------

    def next_line(self) -> Line | tuple[Line, ...] | None:
        """Who speaks next, several if they speak at once; None calls the verifier, or ends a game without one.
        ``spoken`` moves were made and filled ``case``."""
        rest = self.script[self.spoken :]
        return rest[: next((n for n, line in enumerate(rest) if n and not line.at_once), len(rest))] or None

    def pay(self, seat: str, amount: float) -> None:
        """Pay a seat now, by the rules; for ``next_line``."""
        self.rewards[seat] += float(amount)

    def deal(self, seat: str, role: str) -> None:
        """Give a seat one of ``dealt_roles``, which nobody else is told; for ``begin``."""
        self.dealt[seat] = self.infos[seat]["role"] = role

    def announce(self, words: str, to: Sequence[str] | None = None, by: str = "Game") -> None:
        """Let the transcript of these seats and roles, or of all, go on with words that no seat has said; for
        ``begin`` and ``next_line``."""
        self.heard = self.heard.after(by, words, "", None if to is None else tuple(to))

    def name_of(self, seat: str) -> str:
        """What the others call who sits there: the persona's name, or the role, with its number if several have it."""
        return str(self.infos[seat].get("persona") or self._titles[seat])

    # -- PettingZoo ----------------------------------------------------------------------------------------------

    def observation_space(self, agent: str) -> Space[Any]:
        return self._spaces[agent][0]

    def action_space(self, agent: str) -> Space[Any]:
        return self._spaces[agent][1]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {seat: {} for seat in self.agents}
        self.texts = self.personas
        if self.cast:
            seated = self.cast.seated(seed, (options or {}).get("table"))
            for seat, name in seated.items():
                self.infos[seat]["persona"] = name
            self.texts = {**self.personas, **{seat: self.cast.text_of(name) for seat, name in seated.items()}}
        self.case = dict.fromkeys(self.slots, "")
        self.dealt, self.heard, self.spoken = {}, Heard(), 0
        self._skip_agent_selection = None
        self.begin(seed)
        self._advance()
        if any(self.rewards.values()):
            raise GameError("a payment before the first move is lost: pay in next_line, once somebody has spoken")

    def begin(self, seed: int | None) -> None:
        """What a subclass deals before anybody speaks, from the seed alone."""

    def observe(self, agent: str) -> dict[str, str]:
        """The verifier sees the case; the seats whose turn it is see their line; all others their persona only."""
        if agent == VERIFIER_SEAT:
            return dict(self.case)
        line = next((line for line in self._lines if line.seat == agent), None)
        if line is None:
            return {"system": self.texts[agent], "user": ""}
        if self._talks:
            heard = self.heard.by(agent, self.role_of[agent], self.role_in(agent))
            told = line.told.format_map({**self.case, TRANSCRIPT: heard})
        else:
            told = line.told.format_map(self.case)
        return {"system": self.texts[agent], "user": told}

    def step(self, action: Any) -> None:
        seat = self.agent_selection
        if self.terminations[seat] or self.truncations[seat]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[seat] = 0.0
        self._clear_rewards()
        if self._lines:
            self._hear(self._lines[0], action)
        else:
            self._judge(action)
        self._accumulate_rewards()

    def render(self) -> str:
        return "\n".join(f"{slot}: {text}" for slot, text in self.case.items() if text)

    def close(self) -> None:
        """Nothing is held open."""

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageGame:
        """Rules are shared, state is copied: a game branches into hundreds."""
        other = memo[id(self)] = copy.copy(self)
        for key, value in vars(self).items():
            if key not in self._rules and key != "_rules":
                setattr(other, key, twin(value, memo))
        return other

    # -- for those who seat players -------------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[str, ...]:
        """The seats whose turn it is at once, in the order in which their moves are played."""
        return tuple(line.seat for line in self._lines)

    def role_in(self, seat: str) -> str:
        """The role that the seat was dealt, or has by its name."""
        return self.dealt.get(seat, self.role_of[seat])

    # -- inside ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        following = self.next_line()
        lines = (following,) if isinstance(following, Line) else following or ()
        if self.sees:
            check_sight((line for line in lines if self.dealt or line not in self.script), self.sees, self.dealt)
        for line in lines:
            if line.moves:
                self.infos[line.seat]["legal_actions"] = list(line.moves)
        self._lines, self._said = lines, ()
        if lines:
            self.agent_selection = lines[0].seat
        elif self.parts:
            self.agent_selection = VERIFIER_SEAT
        else:
            self._end()

    def _hear(self, line: Line, move: Any) -> None:
        if not isinstance(move, str):
            raise GameError(f"{line.seat} must say a string, not {type(move).__name__}")
        slots = line.read(move, self.max_chars)
        self.infos[line.seat].pop("legal_actions", None)
        if slots is None:
            self.rewards[line.seat] = self.forfeit
            self.infos[line.seat]["forfeit"] = True
            self._end()
            return
        self._said = (*self._said, (line, slots))
        self.spoken += 1
        self._lines = self._lines[1:]
        if self._lines:  # others speak at the same time, and are not told of this
            self.agent_selection = self._lines[0].seat
            return
        for spoke, said in self._said:
            self.case.update(said)
            if self._talks:
                self.heard = self.heard.after(self.name_of(spoke.seat), said[spoke.slots[0]], spoke.seat, spoke.to)
        self._advance()

    def _judge(self, verdict: Mapping[str, float]) -> None:
        if set(verdict) != set(self.parts):
            raise GameError(f"the verdict has the parts {sorted(verdict)}, but the payoff pays {sorted(self.parts)}")
        for seat in self.agents:
            rows = [row for name in self._names_of(seat) if (row := self.payoff.get(name))]
            self.rewards[seat] += float(sum(worth * verdict[part] for row in rows for part, worth in row.items()))
        self._end()

    def _end(self) -> None:
        self._lines = ()  # who was to speak at the same time has no turn any more
        self.terminations = dict.fromkeys(self.agents, True)

    def _names_of(self, seat: str) -> tuple[str, ...]:
        """By which the payoff may name a seat: its own name, its role, and the teams of its role."""
        mine = (self.role_of[seat], self.role_in(seat))
        return (*dict.fromkeys((seat, *mine)), *(team for team, roles in self.teams.items() if {*mine} & {*roles}))

    def _pays(self, payoff: Mapping[str, Any], teams: Mapping[str, Sequence[str]], seats: Sequence[str]) -> None:
        self.teams = {team: tuple(roles) for team, roles in teams.items()}
        for team, roles in self.teams.items():
            if team in (*self.roles, *seats):
                raise GameError(f"teams.{team} has the name of a role: call the team otherwise")
            check_names(f"teams.{team}", roles, self.roles)
        check_names("payoff", payoff, (*self.roles, *seats, *self.teams))
        rows = {name: cast("Mapping[str, float]", row or {}) for name, row in payoff.items()}
        self.payoff = {name: {part: float(worth) for part, worth in row.items()} for name, row in rows.items()}
        self.parts = tuple(dict.fromkeys(part for row in self.payoff.values() for part in row))
        if not self.parts and not self.rules_pay:
            raise GameError("payoff is empty: say what a part of the verdict is worth, as {solver: {score: 1}}")

    def _seat_personas(self, personas: Mapping[str, Any], seats: Sequence[str]) -> None:
        self.cast = Cast(personas, seats) if "members" in personas else None
        plain = cast("Mapping[str, str]", {} if self.cast else personas)
        check_names("personas", plain, (*self.roles, *seats))
        self.personas = {seat: plain.get(seat, plain.get(self.role_of[seat], "")) for seat in seats}

    def _title(self, seat: str) -> str:
        role, number = self.role_of[seat], int(seat.rpartition("_")[2])
        title = role.replace("_", " ").capitalize()
        return f"{title} {number + 1}" if list(self.role_of.values()).count(role) > 1 else title

    def _make_spaces(self, seat: str) -> tuple[Space[Any], Space[Any]]:
        if seat == VERIFIER_SEAT:
            case = Dict({slot: AnyText(self.max_chars) for slot in self.slots})
            return case, Dict({part: AnyScore() for part in self.parts})
        told = max(len(line.told) + len(line.fields()) * self.max_chars for line in self.script if line.seat == seat)
        system = max(len(self.personas[seat]), self.cast.longest if self.cast else 0)
        chat = Dict({"system": AnyText(system), "user": AnyText(ANY_LENGTH if self._talks else told)})
        return chat, AnyText(self.max_chars)


def check_names(where: str, named: Iterable[str], known: Sequence[str]) -> None:
    """Raise ``GameError`` for a name in ``where`` that is not ``known`` to the game."""
    for name in named:
        if name not in known:
            raise GameError(f"{where} names {name!r}, who never speaks{nearest(name, known)}")
