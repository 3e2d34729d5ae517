"""The values that flow through a self-play iteration, and the protocols of those who play (standard library only).

Vocabulary: a *seat* ``solver_0`` is a PettingZoo agent id, its *role* is ``solver``; a *case* is the record that a
verifier judges; a *verdict* is the named scores of one case; a *turn* is one transition; an *episode* is one leaf of
the tree of turns; a *group* holds the siblings that answer from the same fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

Chat = Mapping[str, str]
"""What a seat is told: ``{"system": ..., "user": ...}``; ``""`` means absent."""

Case = Mapping[str, str]
"""What a verifier judges: slot -> text. ``query``, ``answer`` and ``reference`` are always there, ``""`` if unused."""

VERIFIER = "verifier"
"""The role of the last seat at the table, whose move is the verdict."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated text with everything a learner needs: nothing is ever tokenised again.

    ``logprobs[t]`` is log pi_old(token_t | prompt, token_<t) of the *model at temperature 1*, whatever the sampler's
    temperature and top-p were. ``token_ids`` includes the end-of-sequence token when it was sampled.

    ``allowed`` is empty where every token was drawn from the whole vocabulary. Where a move was chosen among a few,
    ``allowed[t]`` holds the ids that token t was drawn from, itself among them; ``logprobs[t]`` is then renormalised
    over them. The tokens of such a move end with the last that was drawn, for the rest of it is given by then;
    ``text`` is the whole move.
    """

    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]
    allowed: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent does: ``move`` goes to ``env.step``: words, a verdict, or whatever a stock environment takes.

    ``completion`` is there when an on-policy learner may train on the turn, so "trainable" is no flag.
    """

    move: Any
    completion: Completion | None = None


@dataclass(eq=False, slots=True)
class Turn:
    """One transition. Identity is meaning: episodes that forked after this turn share this very object.

    ``group`` names the fork that the turn answers from; turns with the same ``group`` are siblings.
    """

    role: str
    seat: str
    observation: Any
    action: Action
    group: int


@dataclass(eq=False, slots=True)
class Episode:
    """One leaf of the tree: its turns from the start to the verdict, and what every role earned.

    ``returns`` maps role -> summed reward (the mean over the role's seats); ``case`` and ``verdict`` are empty where no
    verifier spoke; ``forfeit`` names the role that broke the rules, ``""`` if none did; ``game`` is the environment's
    name. ``seats`` maps seat -> summed reward, ``personas`` seat -> the name of who sat there, where somebody did,
    ``roles`` seat -> the role that it had, dealt or by its name. ``paid[i]`` is what was paid after turn i: seat ->
    reward, those of 0 left out. ``truncated``: the game was cut at a limit before it had ended.
    """

    turns: tuple[Turn, ...]
    returns: Mapping[str, float]
    case: Case
    verdict: Mapping[str, float]
    forfeit: str = ""
    game: str = ""
    seats: Mapping[str, float] = field(default_factory=dict[str, float])
    personas: Mapping[str, str] = field(default_factory=dict[str, str])
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    paid: tuple[Mapping[str, float], ...] = ()
    truncated: bool = False

    def earned(self, turn: Turn) -> float:
        """What the seat of one of the turns earned; that of its role, where nobody counted by the seat."""
        return self.seats[turn.seat] if turn.seat in self.seats else self.returns[turn.role]

    @property
    def void(self) -> bool:
        """Whether some return is nan: a verifier could not tell, so nobody learns from this episode."""
        return any(value != value for value in self.returns.values())


class Agent(Protocol):
    """A policy in a seat. Equal agents (``==``) share one call, so compare by what they do, not by identity."""

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> Sequence[Action]:
        """Answer each observation. Row i may draw random numbers only from ``seeds[i]`` (64 bits), never elsewhere:
        then its answer is the same in every batch, and a replay is the same to the byte."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """An agent that reads more than the chat: ``infos[i]`` is what the game tells that seat alone (``legal_actions``,
    ``role``, ``persona``, ``state``), to be read and not changed. It is asked by ``choose`` in place of ``act``."""

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> Sequence[Action]: ...


class Verifier(Protocol):
    """A plain callable over a batch of cases: one score per case.

    The answer's fault scores low; "I cannot tell" or our own fault is nan. An exception or a wrong number of scores
    is never a score: ``Panel`` turns the whole call into nan and counts it under the verifier's name.
    """

    def __call__(self, cases: Sequence[Case]) -> Sequence[float]: ...


class Learner(Protocol):
    """Turns episodes into a weight update and returns metrics."""

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]: ...


@runtime_checkable
class Stateful(Protocol):
    """Whatever a resumed run must find again: it writes files into an empty folder and reads them back."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...
