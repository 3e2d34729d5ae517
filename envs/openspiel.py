"""The games of the package open_spiel as they are: ``env=openspiel env.game=kuhn_poker``."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from envs.adapters import ForeignGame, Paid, View, check_told, library, number_of, unique
from envs.script import GameError, nearest

Shows = Literal["auto", "information_state", "observation", "board"]


class _Inner(NamedTuple):
    """The library's state, the game's own random numbers, and what everybody had when it was last looked at."""

    state: Any
    chance: random.Random
    returns: tuple[float, ...]


class OpenSpiel(ForeignGame):
    """A game of OpenSpiel by its name there, arguments and all: ``kuhn_poker``, ``"liars_dice(numdice=2)"``.

    Moves are the library's names of the legal actions. An answer is the move that it is, else the one in its last
    brackets; any other forfeits. Chance is drawn by the game's seed. Where all move at once, one is asked after the
    other and is not told what the others chose. Every move pays what the library's returns have grown by.

    ``shows`` is what a seat sees: its ``information_state``, its ``observation``, or the ``board``, which is all there
    is and only shown where nothing is hidden. ``auto`` is the observation in games of perfect information and the
    information state in others, or whichever there is. ``told`` is the chat, over ``game``, ``player``, ``state`` and
    ``moves``. Raises ``GameError``.
    """

    def __init__(
        self,
        game: str,
        *,
        shows: Shows = "auto",
        told: str = "{state}",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        spiel = library("pyspiel", "env=openspiel", "openspiel")
        self._game = _load(spiel, game)
        kind = self._game.get_type()
        self._title, self._told_as = str(kind.long_name), check_told(told, "env.told")
        self._open = kind.information == spiel.GameType.Information.PERFECT_INFORMATION
        has = {"information_state": kind.provides_information_state_string, "observation": True, "board": self._open}
        has["observation"] = kind.provides_observation_string
        if shows not in get_args(Shows):
            raise GameError(f"env.shows={shows!r} is unknown{nearest(shows, get_args(Shows))}")
        first, second = ("observation", "information_state") if self._open else ("information_state", "observation")
        self._shows = next((way for way in (first, second, "board") if has[way]), "") if shows == "auto" else shows
        if not has.get(self._shows):
            raise GameError(f"{game} cannot show a player the {self._shows or 'state of the game'} as text")
        self._knows = "information_state" if has["information_state"] else self._shows
        super().__init__(
            f"openspiel/{game}",
            [f"player_{number}" for number in range(self._game.num_players())],
            personas=personas,
            forfeit=forfeit,
            max_chars=max_chars,
            render_mode=render_mode,
        )
        self.inner = self.begin(0)
        try:
            self.look()
        except spiel.SpielError as error:  # what the library has not written yet shows before the first token
            raise GameError(f"open_spiel cannot play {game} in words: {' '.join(str(error).split())}") from error
        self.inner = None

    def begin(self, seed: int | None) -> _Inner:
        inner = _Inner(self._game.new_initial_state(), random.Random(seed), (0.0,) * self._game.num_players())
        return _deal(inner)

    def look(self) -> View | None:
        state = self.inner.state
        if state.is_terminal():
            return None
        player = state.current_player()
        moves = _moves(state)
        shown = self._text(state, player, self._shows)
        facts = {"game": self._title, "player": str(player), "state": shown, "moves": ", ".join(moves)}
        return View(f"player_{player}", self._told_as.format_map(facts), moves, self._text(state, player, self._knows))

    def play(self, seat: str, move: str) -> Paid | None:
        state, chance, before = self.inner
        number = number_of(move, _moves(state))
        if number is None:
            return None
        state.apply_action(state.legal_actions()[number])
        self.inner = _deal(_Inner(state, chance, before))
        pay = [now - then for now, then in zip(self.inner.returns, before, strict=True)]
        return Paid(dict(zip(self.possible_agents, pay, strict=True)))

    def fork(self, memo: dict[int, Any]) -> Any:
        if self.inner is None:
            return None
        chance = random.Random()
        chance.setstate(self.inner.chance.getstate())
        return _Inner(self.inner.state.clone(), chance, self.inner.returns)

    def _text(self, state: Any, player: int, way: str) -> str:
        if way == "board":
            return str(state)
        return (
            state.information_state_string(player) if way == "information_state" else state.observation_string(player)
        )


def _deal(inner: _Inner) -> _Inner:
    """Chance moves until a player is on turn, and what everybody then has."""
    state, chance, _ = inner
    while state.is_chance_node():
        actions, weights = zip(*state.chance_outcomes(), strict=True)
        state.apply_action(chance.choices(actions, weights)[0])
    return inner._replace(returns=tuple(state.returns()))


def _moves(state: Any) -> tuple[str, ...]:
    player = state.current_player()
    return unique([state.action_to_string(player, action) for action in state.legal_actions()])


def _load(spiel: Any, game: str) -> Any:
    """The library's game, its players in turn. Raises ``GameError``."""
    name, known = game.partition("(")[0].strip(), spiel.registered_names()
    if name not in known:
        raise GameError(f"open_spiel has no game {name!r}{nearest(name, known)}")
    try:
        loaded = spiel.load_game(game)
    except (spiel.SpielError, IndexError) as error:  # the second for a missing argument of a few games
        raise GameError(f"open_spiel cannot load {game}: {' '.join(str(error).split())}") from error
    kind = loaded.get_type()
    if kind.dynamics == spiel.GameType.Dynamics.MEAN_FIELD:
        raise GameError(f"{game} is a mean-field game: nobody sits at it, so nobody can play it here")
    if kind.chance_mode == spiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise GameError(f"{game} draws its chance from numbers of its own, so no seed could bring a game back")
    return spiel.convert_to_turn_based(loaded) if kind.dynamics == spiel.GameType.Dynamics.SIMULTANEOUS else loaded
