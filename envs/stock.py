"""Any PettingZoo game with numbered moves as a game of chats: ``env=pettingzoo env.id=classic/connect_four_v3``."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

import pettingzoo
from gymnasium.spaces import Discrete
from gymnasium.utils import EzPickle
from pettingzoo.env_registry.exceptions import FailedToImport

from envs.adapters import ForeignGame, Paid, View, check_told, number_of, unique
from envs.rendering import Arrays
from envs.script import GameError, nearest

_VERSION = re.compile(r"_v(?=\d+$)")
"""The registry writes ``connect_four-v3`` for the module ``connect_four_v3``; either is understood."""


class Renderer(Protocol):
    """Says what a seat sees. It may also have ``moves(env, seat)``, which names the seat's moves, all of them."""

    def __call__(self, env: Any, seat: str, observation: Any) -> str: ...


class PettingZoo(ForeignGame):
    """An AEC environment whose moves are ``Discrete``, by its name in PettingZoo's registry,
    ``classic/connect_four_v3``, or the path of a module that has ``env``, ``my_package.my_game_v0``.

    ``options`` are the arguments of ``env``. ``renderer`` tells an observation in words; moves are called "0" to "n-1"
    unless it names them. Legal moves are those of the ``action_mask``, in the observation or in the infos, else all.
    An answer is the move that it is, else the one in its last brackets; any other forfeits. Seats that are done before
    the others are stepped out of the game unasked. ``told`` is the chat, over ``game``, ``player``, ``state`` and
    ``moves``. Raises ``GameError``.
    """

    def __init__(
        self,
        id: str,
        *,
        options: Mapping[str, Any] | None = None,
        renderer: Renderer | None = None,
        told: str = "{state}",
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        self._maker, self._options = _maker(id), dict(options or {})
        self._renderer: Renderer = renderer or Arrays()
        self._told_as = check_told(told, "env.told")
        self._prototype = self._make(id)
        seats = list(self._prototype.possible_agents)
        self._names = {seat: self._moves_of(seat, id) for seat in seats}
        name = str(self._prototype.metadata.get("name", id))
        super().__init__(
            f"pettingzoo/{name}",
            seats,
            personas=personas,
            forfeit=forfeit,
            max_chars=max_chars,
            render_mode=render_mode,
        )
        self._title, self._cut = name, False
        self.reset(seed=0)  # an observation that is no text shows before the first token
        self.inner, self._view = None, None

    def begin(self, seed: int | None) -> Any:
        game = self._make(self._title)  # a new one: some keep more from one game to the next than they say
        game.reset(seed=None if seed is None else seed % 2**31)  # some hand it on to C, as an int
        return game

    def look(self) -> View | None:
        game = self.inner
        while game.agents and (game.terminations[game.agent_selection] or game.truncations[game.agent_selection]):
            game.step(None)
        if not game.agents:
            return None
        seat = game.agent_selection
        observation, mask = _apart(game.observe(seat), game.infos[seat])
        names = self._names[seat]
        moves = names if mask is None else tuple(name for name, legal in zip(names, mask, strict=True) if legal)
        state = self._renderer(game, seat, observation)
        facts = {"game": self._title, "player": seat, "state": state, "moves": ", ".join(moves)}
        return View(seat, self._told_as.format_map(facts), moves, state)

    def play(self, seat: str, move: str) -> Paid | None:
        game = self.inner
        number = number_of(move, self._view.moves if self._view else ())
        if number is None:
            return None
        assert self._view is not None
        game.step(self._names[seat].index(self._view.moves[number]))
        self._cut = all(game.truncations.get(who, False) for who in game.agents) and bool(game.agents)
        return Paid({who: float(reward) for who, reward in game.rewards.items()})

    def fork(self, memo: dict[int, Any]) -> Any:
        return _twin(self.inner, memo)

    def cut_short(self) -> bool:
        return self._cut

    def _make(self, id: str) -> Any:
        try:
            return self._maker(**self._options)
        except TypeError as error:
            raise GameError(f"env.options do not suit {id}: {error}") from error
        except (ImportError, FailedToImport) as error:  # the registry imports the game when it makes it
            cause = error.__cause__ or error
            hint = f'pip install "pettingzoo[{id.partition("/")[0]}]"'
            raise GameError(f"{id} cannot be imported ({cause}): {hint}") from error

    def _moves_of(self, seat: str, id: str) -> tuple[str, ...]:
        space: Any = self._prototype.action_space(seat)
        if type(space) is not Discrete:
            raise GameError(f"{id}: the moves of {seat} are {space}, and only numbered ones (Discrete) can be named")
        number = int(space.n)
        named: Sequence[str] = [str(int(space.start) + move) for move in range(number)]
        namer = getattr(self._renderer, "moves", None)
        if namer is not None:
            named = list(namer(self._prototype, seat))
            if len(named) != number:
                raise GameError(f"env.renderer names {len(named)} moves of {seat}, who has {number} in {id}")
        return unique(named)


def _twin(found: Any, memo: dict[int, Any]) -> Any:
    """A copy of an environment as it stands. Many keep the arguments that they were made with in the place of their
    state when they are copied: whatever does so is copied attribute by attribute."""
    if not _keeps_arguments(found):
        return copy.deepcopy(found, memo)
    if id(found) not in memo:
        twin = memo[id(found)] = object.__new__(cast("type[object]", type(found)))
        own = cast("dict[str, Any]", vars(found))  # a wrapper would answer for what it wraps, too
        vars(twin).update({key: _twin(value, memo) for key, value in own.items()})
    return memo[id(found)]


def _keeps_arguments(found: Any) -> bool:
    return isinstance(found, pettingzoo.AECEnv | pettingzoo.ParallelEnv | EzPickle)


def _apart(observation: Any, info: Mapping[str, Any]) -> tuple[Any, Any]:
    """An observation without its mask, and the mask, None if there is none."""
    parts: dict[str, Any] = dict(observation) if _is_mapping(observation) else {}
    if "action_mask" not in parts:
        return observation, info.get("action_mask")
    mask = parts.pop("action_mask")
    return (parts["observation"] if list(parts) == ["observation"] else parts), mask


def _is_mapping(found: Any) -> bool:
    return isinstance(found, Mapping)


def _maker(id: str) -> Callable[..., Any]:
    """What makes the game of a name in PettingZoo's registry, or of a module's path. Raises ``GameError``."""
    name = _VERSION.sub("-v", id)
    if name in pettingzoo.aec_registry:
        return partial(pettingzoo.make, "aec", name)
    path = id.replace("/", ".")
    try:
        found = find_spec(path) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        known = nearest(id, [name.replace("-v", "_v") for name in pettingzoo.aec_registry])
        raise GameError(f"there is no PettingZoo game {id!r}{known}, nor a module of that name")
    module = import_module(path)
    if not hasattr(module, "env"):
        raise GameError(f"{id} is a module without env(): name the one that makes the game")
    return module.env
