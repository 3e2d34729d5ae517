"""The games of the package textarena as they are: ``env=textarena env.game=KuhnPoker-v0 env.players=2``."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

import numpy as np

from envs.adapters import ForeignGame, GameError, Paid, View, library
from envs.script import nearest

_SWAP = threading.RLock()
_BREAKS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the library's games raise over moves that they did not foresee."""


class _Inner(NamedTuple):
    """The library's game, the state of its private random numbers, and what is to be said next, if anything is."""

    game: Any
    chance: _Chance
    turn: tuple[int, str] | None


class _Chance(NamedTuple):
    """The states of ``random`` and ``numpy.random``; never changed in place, so that copies may share them."""

    python: Any
    numpy: Any


class _Out(list[int]):
    """Who is out of the game. Some games look for the next player among none, for ever: here they break instead."""

    asked = 0

    def __contains__(self, who: object) -> bool:
        self.asked += 1
        if self.asked > 100_000:
            raise LookupError("the game looks for its next player and finds none")
        return super().__contains__(who)


class TextArena(ForeignGame):
    """A game of textarena by its name there: ``KuhnPoker-v0``, or ``KuhnPoker-v0-train`` with the shorter prompts.

    ``options`` are arguments of the game's own class. The library draws from the random numbers of the whole process:
    here every game has a state of its own, which is put in place for each call and taken out again, so that a seed
    gives one game, whatever else is played, and nobody else's numbers move. Invalid moves cost what the game says. A
    move over which the library itself breaks is a forfeit.

    Some games ask a hosted model. Nothing here opens a connection: they are refused unless ``judge``, a callable from
    a prompt to words, answers in its place. Some want word lists that they download: those must lie here already.
    Raises ``GameError``.
    """

    def __init__(
        self,
        game: str,
        players: int = 2,
        *,
        options: Mapping[str, Any] | None = None,
        judge: Callable[[str], str] | None = None,
        personas: Mapping[str, Any] | None = None,
        forfeit: float = -1.0,
        max_chars: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if type(players) is not int or players < 1:
            raise GameError(f"env.players={players}: a game has a whole number of players, at least one")
        self.game, self.players, self.options, self._judge = game, players, dict(options or {}), judge
        with _swapped(_seeded(0)):  # its import draws random numbers, too
            self._library = library("textarena", "env=textarena", "textarena")
        known = self._library.envs.registration.ENV_REGISTRY
        if game not in known:
            raise GameError(f"textarena has no game {game!r}{nearest(game, known)}")
        seats = [f"player_{number}" for number in range(players)]
        super().__init__(
            f"textarena/{game}",
            seats,
            personas=personas,
            forfeit=forfeit,
            max_chars=max_chars,
            render_mode=render_mode,
        )
        self._try()

    # -- the adapter ---------------------------------------------------------------------------------------------

    def begin(self, seed: int | None) -> _Inner:
        number = random.Random(seed).getrandbits(32)
        with self._calls(_seeded(number)) as take:
            game = self._make()
            game.reset(num_players=self.players, seed=number)
            turn = _turn(game)
        return _Inner(game, take(), turn)

    def look(self) -> View | None:
        turn = self.inner.turn
        return None if turn is None else View(f"player_{turn[0]}", turn[1])

    def play(self, seat: str, move: str) -> Paid | None:
        game, chance, _ = self.inner
        if hasattr(game.state, "elimination_order"):
            game.state.elimination_order = _Out(game.state.elimination_order)
        with self._calls(chance) as take:
            try:
                done, _ = game.step(action=move)
                turn = None if done else _turn(game)
                rewards, foul = self._ended(game, seat) if done else ({}, False)
            except _BREAKS as error:
                self.infos[seat]["broke"] = f"{type(error).__name__}: {error}"
                return None
        self.inner = _Inner(game, take(), turn)
        return Paid(rewards, foul)

    def _ended(self, game: Any, seat: str) -> tuple[dict[str, float], bool]:
        """What the game pays, and whether the seat, which moved last, ended it by an invalid move."""
        ended: tuple[dict[int, Any] | None, dict[int, dict[str, Any]] | None] = game.close()
        rewards, facts = ended[0] or {}, ended[1] or {}
        paid = {self.possible_agents[who]: float(reward) for who, reward in rewards.items()}
        return paid, bool(facts.get(self.possible_agents.index(seat), {}).get("invalid_move"))

    # -- the library ---------------------------------------------------------------------------------------------

    def _make(self) -> Any:
        game = self._library.make(self.game, **self.options)
        wrappers = self._library.wrappers
        inner = game
        while isinstance(inner, self._library.Wrapper):
            if isinstance(inner, self._library.ObservationWrapper):
                return game
            inner = inner.env
        return wrappers.LLMObservationWrapper(game)  # a -raw game shows a list of messages

    def _try(self) -> None:
        """Begin once: what is wrong shows before the first token. Raises ``GameError``."""
        reason = self._reason(self.players)
        if reason is None:
            return
        others = [n for n in (1, 2, 3, 4, 5, 6, 7, 8) if n != self.players and self._reason(n) is None]
        if others:
            fit = ", ".join(map(str, others))
            raise GameError(f"textarena's {self.game} cannot begin with {self.players} players ({reason}), only: {fit}")
        raise GameError(f"textarena's {self.game} cannot begin: {reason}")

    def _reason(self, players: int) -> str | None:
        """Why the game cannot begin with so many players; None if it can."""
        with self._calls(_seeded(0)):
            try:
                game = self._make()
                game.reset(num_players=players, seed=0)
                _turn(game)
            except (*_BREAKS, ImportError, OSError, SyntaxError) as error:
                return _sentence(error)
        return None

    @contextmanager
    def _calls(self, chance: _Chance) -> Generator[Callable[[], _Chance]]:
        """Calls into the library: with its own random numbers, without a connection, and with its prints unheard."""
        with _swapped(chance) as take, _offline(self._library, self._judge), redirect_stdout(StringIO()):
            yield take


def _turn(game: Any) -> tuple[int, str]:
    """Who speaks and what they are shown; asking takes it out of the game."""
    player, shown = game.get_observation()
    return int(player), str(shown).strip("\n")


def _seeded(seed: int) -> _Chance:
    return _Chance(random.Random(seed).getstate(), np.random.RandomState(seed).get_state())


@contextmanager
def _swapped(chance: _Chance) -> Generator[Callable[[], _Chance]]:
    """The process's random numbers at ``chance`` within the block; what it yields tells where they then stood."""
    left: list[_Chance] = []
    with _SWAP:  # one thread at a time: there is one place for these states
        before = _now()
        _put(chance)
        try:
            yield lambda: left[0]
        finally:
            left.append(_now())
            _put(before)


def _now() -> _Chance:
    return _Chance(random.getstate(), np.random.get_state())


def _put(chance: _Chance) -> None:
    random.setstate(chance.python)
    np.random.set_state(chance.numpy)


@contextmanager
def _offline(arena: Any, judge: Callable[[str], str] | None) -> Generator[None]:
    """Within the block nothing is downloaded, and ``judge`` answers for every hosted model."""
    words = arena.envs.utils.word_lists.nltk
    hosted, download = arena.agents.OpenRouterAgent, words.download

    class Judge(arena.Agent):
        def __init__(self, *_: Any, **__: Any) -> None:
            if judge is None:
                raise GameError("it asks a hosted model: env.judge names a callable that answers in its place")

        def __call__(self, observation: str) -> str:
            assert judge is not None
            return judge(observation)

        def __deepcopy__(self, memo: dict[int, Any]) -> Judge:
            return self

    arena.agents.OpenRouterAgent, words.download = Judge, _no_download
    try:
        yield
    finally:
        arena.agents.OpenRouterAgent, words.download = hosted, download


def _no_download(*_: Any, **__: Any) -> bool:
    return False


def _sentence(error: BaseException) -> str:
    text = str(error)
    resource = next((line for line in text.splitlines() if "nltk.download(" in line), None)
    if resource is not None:
        name = resource.split("nltk.download(")[1].strip("'\") ")
        return f"it wants nltk's {name!r}, which is not on this machine: python -m nltk.downloader {name}"
    return " ".join(text.split()) or type(error).__name__
