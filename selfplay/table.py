"""Everybody who takes part in a run, seated, and the exam that the run is held to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from selfplay.compose import ConfigError, did_you_mean
from selfplay.evaluate import Exam, auc
from selfplay.gate import Gate
from selfplay.standings import Standings
from selfplay.trained import trained
from selfplay.types import VERIFIER, Agent, Episode, Learner, Stateful, Verifier
from selfplay.warnings import Warnings


@dataclass(frozen=True)
class Examination:
    """The held-out exam with who sits it, once by samples and once by the best guess, and who marks it."""

    exam: Exam
    examiner: Verifier
    sampler: Agent
    guesser: Agent
    samples: int
    final_samples: int
    every: int

    def due(self, step: int, last: bool) -> bool:
        return step % self.every == 0 or last

    def sit(self, seed: int, *, thorough: bool) -> dict[str, float]:
        """Held-out accuracy of sampled answers with its 95 % interval, and of the best guess."""
        samples = self.final_samples if thorough else self.samples
        sampled = self.exam.sit(self.sampler, self.examiner, seed=seed, samples=samples)
        guessed = self.exam.sit(self.guesser, self.examiner, seed=seed)
        return {
            "eval/heldout_accuracy": sampled.mean,
            "eval/heldout_accuracy_low": sampled.low,
            "eval/heldout_accuracy_high": sampled.high,
            "eval/heldout_accuracy_greedy": guessed.mean,
        }

    def separation(self, verifier: Verifier, seed: int) -> float:
        """AUC of ``verifier`` on the sampler's own answers, shown without the reference: 1 tells right from wrong
        every time, 0.5 is chance."""
        cases = self.exam.answers(self.sampler, seed=seed, samples=self.samples)
        right = [score == 1.0 for score in self.examiner(cases)]
        return auc(list(verifier([{**case, "reference": ""} for case in cases])), right)

    def told(self, verifiers: Mapping[str, Verifier], seed: int) -> dict[str, float | None]:
        """All that one thorough exam tells, and of each verifier by name how well it separates; None for nan, which
        JSON does not know."""
        scores = self.sit(seed, thorough=True)
        scores |= {f"eval/auc/{name}": self.separation(verifier, seed) for name, verifier in verifiers.items()}
        return {name: None if score != score else score for name, score in scores.items()}


def open_examination(
    settings: Mapping[str, Any], sampler: Callable[[], Any], examiner: Callable[[], Verifier]
) -> Examination | None:
    """The exam of a configuration's ``exam`` with who sits and marks it, made only where there is one."""
    if not settings["path"]:
        return None
    exam, sits = Exam(settings["path"], settings["limit"], settings["told"]), sampler()
    plan = (settings["samples"], settings["final_samples"], settings["every"])
    return Examination(exam, examiner(), sits, replace(sits, temperature=0.0), *plan)


def copies(game: Any, number: int) -> list[Any]:
    """The game, ``number`` times, each to be played from a seed of its own. Raises ``ConfigError``."""
    if type(number) is not int or number < 1:
        raise ConfigError(f"games={number}: a step plays a whole number of games, at least one")
    return [game, *(copy.deepcopy(game) for _ in range(number - 1))]


def check_gate(game: Any, gate: Gate | None) -> None:
    """Raise ``ConfigError`` where a gate would refuse everything, for it goes by verdicts and there are none."""
    if gate is not None and not game.parts:
        raise ConfigError("gate: nobody judges this game, so a data gate would admit nothing: set gate=null")


def check_fit(game: Any, panel: Any, branch: Iterable[str]) -> None:
    """Raise ``ConfigError`` where a role that branches does not play, or a verdict is not what the game pays."""
    for role in branch:
        if role not in game.roles:
            meant = did_you_mean(str(role), game.roles) or f", where {', '.join(game.roles)} play"
            raise ConfigError(f"branch.{role}: no such role in this game{meant}")
    if not game.parts and panel.parts:
        raise ConfigError(
            f"this game pays by its own rules, and the verifier would pay nobody: set verifier=none, or say in "
            f"env.payoff.<role> what its {', '.join(panel.parts)} is worth where the game has a payoff"
        )
    if set(panel.parts) != set(game.parts):
        raise ConfigError(
            f"the verdict has the parts {', '.join(panel.parts) or 'none'}, but the payoff pays "
            f"{', '.join(game.parts)}: name the same in env.payoff.<role>, or seat them by verifier=panel (an "
            "experiment of the game has both)"
        )


@dataclass(frozen=True)
class Table:
    """The copies of the game that a step plays, the players (the verifiers' panel among them), the learner, the model,
    and perhaps an exam, a data gate, and standings of the personas. ``players`` are by role, and some by seat or
    persona."""

    games: Sequence[Any]
    players: dict[str, Agent]
    panel: Any
    learner: Learner
    engine: Any
    examination: Examination | None = None
    gate: Gate | None = None
    standings: Standings | None = None
    warnings: Warnings = field(default_factory=lambda: Warnings(None, 0))

    @property
    def game(self) -> Any:
        """The game, for who asks about its rules."""
        return self.games[0]

    @property
    def agents(self) -> dict[str, Agent]:
        """Who sits where, for ``rollout``."""
        return {**self.players, VERIFIER: self.panel}

    @property
    def state(self) -> dict[str, Stateful]:
        """Whatever a resumed run must find again, by name."""
        members: dict[str, Any] = {**self.engines, "learner": self.learner}
        members |= {"gate": self.gate} if self.gate else {}
        members |= {"standings": self.standings} if self.standings else {}
        members |= {f"agent.{role}": agent for role, agent in self.players.items()}
        members |= {f"verifier.{part}": verifier for part, verifier in self.panel.verifiers.items()}
        return {name: member for name, member in members.items() if isinstance(member, Stateful)}

    @property
    def engines(self) -> dict[str, Any]:
        """The model, and those beside it that the learner, or a role's own one, trains."""
        found: dict[str, Any] = {"model": self.engine}
        for name, engine in trained(self.learner).items():
            if all(engine is not other for other in found.values()):
                found[f"model.{name}"] = engine
        return found

    def begin_step(self) -> None:
        """Let every model forget what it kept of earlier prompts."""
        for engine in self.engines.values():
            engine.begin_step()

    def learn(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The update, by what neither touches the exam nor is refused by the gate; then the players look back: at all
        games (``remember``), or at those that could be learnt from (``collect``)."""
        clean, share = self.keep_out(episodes)
        metrics, lessons = {"proposals/heldout_share": share}, clean
        if self.gate:
            lessons, told = self.gate(clean)
            metrics |= told
            clean = self.gate.admitted(clean)
        metrics |= self.learner.update(lessons) | self.results(episodes)
        for player in self.players.values():
            for look_back, seen in (("remember", episodes), ("collect", clean)):
                if hasattr(player, look_back):
                    metrics |= getattr(player, look_back)(seen)
        return metrics

    def results(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """What became of the games of a step: the personas' standings and, where some were cut at a limit or no
        verifier judges, the share of those."""
        metrics = self.standings.note(episodes) if self.standings else {}
        cut = [episode.truncated for episode in episodes]
        if any(cut) or (cut and not self.game.parts):
            metrics["episodes/truncated_share"] = fmean(cut)
        return metrics

    def last_words(self, folder: Path) -> list[str]:
        """What to say at the end of a run: the verifiers' warnings, and where the standings of the personas are, which
        are written into ``folder``."""
        picture = self.standings.write(folder) if self.standings else None
        return [*self.panel.warnings(), *([f"who beats whom: {picture}"] if picture else [])]

    @property
    def gated(self) -> bool:
        return self.gate is not None

    def decisions(self) -> list[dict[str, object]]:
        """What the gate decided of the last step, a row for each proposal."""
        return [decision.row() for decision in self.gate.decisions] if self.gate else []

    def metrics(self) -> dict[str, float]:
        """What the verifiers and the sampler have to tell of the last step."""
        return self.panel.metrics() | {f"sampler/{name}": value for name, value in self.engine.metrics().items()}

    def least_seconds(self) -> float:
        """The least time that this machine could need for what the models at the table did since the last call.

        Frozen copies share the counter of their original; a player whose model is elsewhere has none.
        """
        engines = [self.engine, *(getattr(player, "engine", None) for player in self.players.values())]
        counters = {id(work): work for engine in engines if (work := getattr(engine, "work", None)) is not None}
        return sum(work.take().seconds for work in counters.values())

    def keep_out(self, episodes: Sequence[Episode]) -> tuple[list[Episode], float]:
        """The episodes that do not touch the exam, and the share that does."""
        return self.examination.exam.keep_out(episodes) if self.examination else (list(episodes), 0.0)
