"""LanguageGame: a PettingZoo AEC game that is written as data, with the verifier in the last seat."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium.spaces import Dict, Space
from pettingzoo import AECEnv

from envs.script import GameError, Line, check_script, nearest
from envs.spaces import AnyScore, AnyText

VERIFIER, VERIFIER_SEAT = "verifier", "verifier_0"
ALWAYS = ("query", "answer", "reference")
"""The slots that every case has, empty where a game does not use them."""


class LanguageGame(AECEnv[str, Any, Any]):
    """A script of seats: each is told something and says something; then the verifier plays a verdict, which pays.

    ``turns`` is a list of ``{role, says, told}``; ``payoff[role][part]`` is what a point of the verdict's part is
    worth to a role; ``personas[role or seat]`` is the seat's system text. Any string is a legal move: one that is
    blank, longer than ``max_chars`` or not of the line's pattern ends the game, pays its speaker ``forfeit`` and the
    others 0, and is marked ``infos[seat]["forfeit"]``.

    A game without a fixed script overrides ``next_line``; its own attributes are copied when a game branches.
    """

    def __init__(
        self,
        turns: Sequence[Mapping[str, str]],
        payoff: Mapping[str, Mapping[str, float]],
        *,
        name: str = "language_game_v0",
        personas: Mapping[str, str] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        mine = frozenset(vars(self))  # what a subclass set before it called us is its state, not our rules
        if not turns:
            raise GameError("a game needs at least one turn")
        self.script = tuple(Line.parse(line, number) for number, line in enumerate(turns))
        roles = tuple(dict.fromkeys(line.role for line in self.script))
        if VERIFIER in roles:
            raise GameError("the verifier speaks last by itself: no turn may have the role 'verifier'")
        check_script(self.script, ())
        self.roles, self.forfeit, self.max_chars, self.render_mode = roles, float(forfeit), max_chars, render_mode
        self.payoff = {
            role: {part: float(worth) for part, worth in (row or {}).items()} for role, row in payoff.items()
        }
        self.parts = tuple(dict.fromkeys(part for row in self.payoff.values() for part in row))
        seats = tuple(dict.fromkeys(line.seat for line in self.script))
        self._check_names("payoff", self.payoff, roles)
        self._check_names("personas", personas or {}, (*roles, *seats))
        if not self.parts:
            raise GameError("payoff is empty: say what a part of the verdict is worth, as {solver: {score: 1}}")
        self.role_of = {**{line.seat: line.role for line in self.script}, VERIFIER_SEAT: VERIFIER}
        self.personas = {
            seat: (personas or {}).get(seat, (personas or {}).get(self.role_of[seat], "")) for seat in seats
        }
        self.metadata = {"name": name, "render_modes": ["ansi"], "is_parallelizable": True}
        self.possible_agents = [*seats, VERIFIER_SEAT]
        self.slots = tuple(dict.fromkeys([*ALWAYS, *(slot for line in self.script for slot in line.slots)]))
        self._spaces = {seat: self._make_spaces(seat) for seat in self.possible_agents}
        self._rules = frozenset(vars(self)) - mine
        self.agents: list[str] = []
        self.case: dict[str, str] = {}
        self.spoken = 0

    # -- the rules, open to a subclass ---------------------------------------------------------------------------

    def next_line(self) -> Line | None:
        """Who speaks next; None calls the verifier. ``spoken`` moves were made and filled ``case``."""
        return self.script[self.spoken] if self.spoken < len(self.script) else None

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
        self.case = dict.fromkeys(self.slots, "")
        self.spoken = 0
        self._skip_agent_selection = None
        self._advance()

    def observe(self, agent: str) -> dict[str, str]:
        """The verifier sees the case; the seat whose turn it is sees its line; all others see their persona only."""
        if agent == VERIFIER_SEAT:
            return dict(self.case)
        line = self._line
        told = line.told.format_map(self.case) if line is not None and line.seat == agent else ""
        return {"system": self.personas[agent], "user": told}

    def step(self, action: Any) -> None:
        seat = self.agent_selection
        if self.terminations[seat] or self.truncations[seat]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[seat] = 0.0
        self._clear_rewards()
        line = self._line
        if line is None:
            self._pay(action)
        else:
            self._hear(line, action)
        self._accumulate_rewards()

    def render(self) -> str:
        return "\n".join(f"{slot}: {text}" for slot, text in self.case.items() if text)

    def close(self) -> None:
        """Nothing is held open."""

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageGame:
        """Rules are shared, state is copied: a game branches into hundreds."""
        twin = memo[id(self)] = copy.copy(self)
        for key, value in vars(self).items():
            if key not in self._rules and key != "_rules":
                setattr(twin, key, copy.deepcopy(value, memo))
        return twin

    # -- inside ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._line = self.next_line()
        self.agent_selection = VERIFIER_SEAT if self._line is None else self._line.seat

    def _hear(self, line: Line, move: Any) -> None:
        if not isinstance(move, str):
            raise GameError(f"{line.seat} must say a string, not {type(move).__name__}")
        slots = line.read(move, self.max_chars)
        if slots is None:
            self.rewards[line.seat] = self.forfeit
            self.infos[line.seat]["forfeit"] = True
            self._end()
            return
        self.case.update(slots)
        self.spoken += 1
        self._advance()

    def _pay(self, verdict: Mapping[str, float]) -> None:
        if set(verdict) != set(self.parts):
            raise GameError(f"the verdict has the parts {sorted(verdict)}, but the payoff pays {sorted(self.parts)}")
        for seat in self.agents:
            row = self.payoff.get(self.role_of[seat], {})
            self.rewards[seat] = float(sum(worth * verdict[part] for part, worth in row.items()))
        self._end()

    def _end(self) -> None:
        self.terminations = dict.fromkeys(self.agents, True)

    def _make_spaces(self, seat: str) -> tuple[Space[Any], Space[Any]]:
        if seat == VERIFIER_SEAT:
            case = Dict({slot: AnyText(self.max_chars) for slot in self.slots})
            return case, Dict({part: AnyScore() for part in self.parts})
        told = max(len(line.told) + len(line.fields()) * self.max_chars for line in self.script if line.seat == seat)
        chat = Dict({"system": AnyText(len(self.personas[seat])), "user": AnyText(told)})
        return chat, AnyText(self.max_chars)

    @staticmethod
    def _check_names(where: str, named: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in named:
            if name not in known:
                raise GameError(f"{where} names {name!r}, who never speaks{nearest(name, known)}")
