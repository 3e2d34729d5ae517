"""What other people's games have in common here: chats in, text moves out, the game's own rules and rewards between."""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from string import Formatter
from typing import Any, NamedTuple, cast

from gymnasium.spaces import Dict, Space
from pettingzoo import AECEnv

from envs.cast import Cast
from envs.script import GameError, nearest
from envs.spaces import ANY_LENGTH, AnyText

TOLD = ("game", "player", "state", "moves")
"""What a template ``told`` may show."""
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")


class View(NamedTuple):
    """What the seat on turn is shown, ``text``; the legal ``moves``, empty where the game does not list them; and its
    information ``state``, which holds nothing that this seat does not know, None where the game has none."""

    seat: str
    text: str
    moves: tuple[str, ...] = ()
    state: str | None = None


class Paid(NamedTuple):
    """What a move has paid, by seat, and whether the game itself called it a ``foul``."""

    rewards: Mapping[str, float]
    foul: bool = False


class ForeignGame(AECEnv[str, Any, Any]):
    """A game of somebody else's library as a PettingZoo game of chats: every string is a legal move.

    ``seats`` are the players, each a role of its own, for the seats of these games are seldom alike. The rules pay, so
    there is no verifier and ``parts`` is empty. ``personas`` maps a seat to its system text, or is a cast
    (``envs.cast``). A move longer than ``max_chars``, or one that ``play`` cannot read, ends the game, pays its speaker
    ``forfeit`` and the others 0, and is marked ``infos[seat]["forfeit"]``; so is a foul by the game's own rules, which
    pays what they say.

    A subclass keeps the library's game in ``inner``, all that changes among it, and says how it begins, looks, moves
    and is copied. Raises ``GameError``.
    """

    def __init__(
        self,
        name: str,
        seats: Sequence[str],
        *,
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        named = personas or {}
        self.cast = Cast(named, seats) if "members" in named else None
        plain = cast("Mapping[str, str]", {} if self.cast else named)
        for seat in plain:
            if seat not in seats:
                raise GameError(f"personas.{seat}: {name} has no such seat{nearest(seat, seats)}: {', '.join(seats)}")
        self.possible_agents, self.roles = list(seats), tuple(seats)
        self.parts: tuple[str, ...] = ()
        self.slots, self.role_of = ("query", "answer", "reference"), {seat: seat for seat in seats}
        self.personas = self.texts = {seat: plain.get(seat, "") for seat in seats}
        self.forfeit, self.max_chars, self.render_mode = float(forfeit), max_chars, render_mode
        self.metadata = {"name": name, "render_modes": ["ansi"], "is_parallelizable": True}
        self._told = Dict({"system": AnyText(ANY_LENGTH), "user": AnyText(ANY_LENGTH)})
        self._moves = {seat: AnyText(max_chars) for seat in seats}
        self.agents: list[str] = []
        self.inner: Any = None
        self._view: View | None = None

    # -- what an adapter says ------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self, seed: int | None) -> Any:
        """The library's game, dealt by ``seed`` alone."""

    @abstractmethod
    def look(self) -> View | None:
        """Who is on turn and what they are shown; None when the game is over. Asked once after every move."""

    @abstractmethod
    def play(self, seat: str, move: str) -> Paid | None:
        """Make the move; None where it cannot be read, which forfeits."""

    def fork(self, memo: dict[int, Any]) -> Any:
        """A copy of ``inner`` that shares no state with it."""
        return copy.deepcopy(self.inner, memo)

    def cut_short(self) -> bool:
        """Whether the game, now over, was truncated and not decided."""
        return False

    # -- PettingZoo ----------------------------------------------------------------------------------------------

    def observation_space(self, agent: str) -> Space[Any]:
        return self._told

    def action_space(self, agent: str) -> Space[Any]:
        return self._moves[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {seat: {"role": seat} for seat in self.agents}
        seated = self.cast.seated(seed, (options or {}).get("table")) if self.cast else {}
        for seat, persona in seated.items():
            self.infos[seat]["persona"] = persona
        self.texts = {**self.personas, **{seat: self.cast.text_of(who) for seat, who in seated.items() if self.cast}}
        self.agent_selection = self.agents[0]
        self._skip_agent_selection = None
        self.inner = self.begin(seed)
        self._turn_to(self.look())

    def observe(self, agent: str) -> dict[str, str]:
        """The seat on turn sees the game; all others see their persona only."""
        shown = self._view.text if self._view is not None and self._view.seat == agent else ""
        return {"system": self.texts[agent], "user": shown}

    def step(self, action: Any) -> None:
        seat = self.agent_selection
        if self.terminations[seat] or self.truncations[seat]:
            self._was_dead_step(action)
            return
        if not isinstance(action, str):
            raise GameError(f"{seat} must say a string, not {type(action).__name__}")
        self._cumulative_rewards[seat] = 0.0
        self._clear_rewards()
        paid = self.play(seat, action) if len(action) <= self.max_chars else None
        for name, reward in (paid.rewards if paid else {seat: self.forfeit}).items():
            self.rewards[name] = float(reward)
        if paid is None or paid.foul:
            self.infos[seat]["forfeit"] = True
        self._turn_to(self.look() if paid else None, cut=paid is not None)
        self._accumulate_rewards()

    def render(self) -> str:
        return self._view.text if self._view else ""

    def close(self) -> None:
        """Nothing is held open."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ForeignGame:
        """Rules are shared, state is copied: a game branches into hundreds."""
        twin = memo[id(self)] = copy.copy(self)
        for key in ("rewards", "_cumulative_rewards", "terminations", "truncations", "agents"):
            if hasattr(self, key):  # a game that was never reset has none
                setattr(twin, key, copy.copy(getattr(self, key)))
        if hasattr(self, "infos"):
            twin.infos = {seat: dict(info) for seat, info in self.infos.items()}
        twin.inner = self.fork(memo)
        return twin

    def _turn_to(self, view: View | None, cut: bool = True) -> None:
        self._view = view
        for info in self.infos.values():
            info.pop("legal_actions", None)
            info.pop("state", None)
        if view is None:
            over = self.truncations if cut and self.cut_short() else self.terminations
            over.update(dict.fromkeys(self.agents, True))
            return
        self.agent_selection = view.seat
        told = {"legal_actions": list(view.moves)} if view.moves else {}
        self.infos[view.seat] |= told | ({} if view.state is None else {"state": view.state})


def library(module: str, choice: str, extra: str) -> Any:
    """A module of an optional package. Raises ``GameError`` with the words that install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise GameError(
            f'{choice} needs the package {error.name}: pip install -c constraints.txt ".[{extra}]"'
        ) from error


def number_of(move: str, moves: Sequence[str]) -> int | None:
    """Which of ``moves`` an answer names: the one that it is, else the one in its last brackets; blanks around it and
    case count for nothing. None where it names none."""
    known = {_plain(text): number for number, text in reversed(list(enumerate(moves)))}
    if _plain(move) in known:
        return known[_plain(move)]
    inside = [_plain(text) for text in _BRACKETED.findall(move)[-1:]]
    return next((known[text] for name in inside for text in (name, f"[{name}]") if text in known), None)


def unique(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts, one line each, with a number behind those that are blank or stand there twice."""
    plain = [" ".join(text.split()) for text in texts]
    folded = [_plain(text) for text in plain]
    return tuple(
        text if folded[i] and folded.count(folded[i]) == 1 else f"{text} #{i}".strip() for i, text in enumerate(plain)
    )


def check_told(told: str, place: str = "told") -> str:
    """A template over ``TOLD``. Raises ``GameError``."""
    try:
        fields = [(name, form, kind) for _, name, form, kind in Formatter().parse(told) if name is not None]
    except ValueError as error:
        raise GameError(f"{place} is a broken template ({error}); write {{{{ for a brace") from error
    for name, form, kind in fields:
        if name not in TOLD or form or kind:
            raise GameError(f"{place} shows {{{name}}}{nearest(name, TOLD)}: it may show {', '.join(TOLD)}")
    return told


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
