"""The pipeline: who speaks beside whom, by which weights, and that a resumed run cannot tell the difference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.dataset import Dataset
from agents.scripted import RandomText, Scripted
from envs import lsp
from envs.game import LanguageGame
from selfplay.checkpoint import save, verify
from selfplay.pipeline import Pipeline
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action, Completion, Episode, Stateful
from tests.test_rollout import WIDE, Counting, Judge, story


@dataclass
class Trained:
    """Says its weights' version and a number drawn from its seeds, with a completion; notes every call's rows."""

    weights: int = 1
    calls: list[int] = field(default_factory=list, compare=False)

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        self.calls.append(len(observations))
        return [self._say(observation, seed) for observation, seed in zip(observations, seeds, strict=True)]

    def _say(self, observation: Any, seed: int) -> Action:
        rng = random.Random(seed)
        text = f"w{self.weights} {rng.randrange(10**6)} \ud83d é"
        prompt = tuple(map(ord, observation["user"][:8]))
        ids = tuple(rng.randrange(50_000) for _ in range(rng.randint(1, 4)))
        logprobs = tuple(float(np.float32(-rng.random())) for _ in ids)
        return Action(text, Completion(text, prompt, ids, logprobs, rng.choice(("stop", "length"))))


def personas(turns: int) -> LanguageGame:
    """``turns`` guests in a row, each told what the one before said."""
    script = [{"role": f"guest{n}", "says": f"s{n}", "told": f"{{s{n - 1}}}" if n else "go"} for n in range(turns - 1)]
    script.append({"role": "last", "says": "answer", "told": f"{{s{turns - 2}}}" if turns > 1 else "go"})
    return LanguageGame(script, {"last": {"score": 1}})


def whole(episode: Episode) -> object:
    """Everything that an episode says, its groups too."""
    return story(episode), [turn.group for turn in episode.turns]


def play(
    envs: Sequence[Any],
    players: dict[str, Any],
    steps: int,
    branch: dict[str, int] | None = None,
    *,
    cohorts: int = 1,
    pipeline: Pipeline | None = None,
    folder: Path | None = None,
    first: int = 1,
    after_step: Any = None,
) -> list[list[object]]:
    """The episodes of steps ``first`` to ``steps``; with a ``folder`` the pipeline is stored and read back."""
    told: list[list[object]] = []
    for step in range(first, steps + 1):
        after = step + 1 if step < steps else None
        how: dict[str, Any] = {"cohorts": cohorts, "pipeline": pipeline, "next_seed": after}
        told.append([whole(episode) for episode in rollout(envs, players, branch, seed=step, **how)])
        if after_step is not None:
            after_step()
        if folder is not None and pipeline is not None:
            place = folder / str(random.random())
            place.mkdir()
            pipeline.save(place)
            pipeline = Pipeline()
            pipeline.load(place)
    return told


# -- who speaks beside whom ----------------------------------------------------------------------------------------


def test_the_next_challengers_speak_beside_the_solvers() -> None:
    """Unpipelined: 32 challengers, then 256 solvers, step by step. Pipelined, the small call is there once."""
    player = Counting("m")
    players = {"challenger": player, "solver": player, VERIFIER: Judge()}
    plain = play([lsp.raw_env()], players, 4, WIDE)
    assert player.calls == [32, 256] * 4
    player.calls.clear()
    assert play([lsp.raw_env()], players, 4, WIDE, pipeline=Pipeline()) == plain
    assert player.calls == [32, 288, 288, 288, 256]


def test_others_are_asked_at_the_same_time_in_a_call_of_their_own() -> None:
    asker, solver = Counting("a"), Counting("s")
    players = {"challenger": asker, "solver": solver, VERIFIER: Judge()}
    play([lsp.raw_env()], players, 3, {"challenger": 3, "solver": 2}, pipeline=Pipeline())
    assert asker.calls == [3, 3, 3] and solver.calls == [6, 6, 6]


def test_in_a_long_game_it_is_the_second_turn() -> None:
    players = {role: Trained() for role in ("guest0", "guest1", "guest2", "last")} | {VERIFIER: Judge()}
    one = players["guest0"] = players["guest1"] = players["guest2"] = players["last"]
    play([personas(4)], players, 2, {"guest0": 3}, pipeline=Pipeline())
    assert one.calls == [3, 3 + 3, 3, 3, 3, 3, 3], "turns 1, 2 with the next 1, 3, 4; then 2, 3, 4"


def test_nothing_is_played_ahead_where_there_is_no_second_turn() -> None:
    pipeline, player = Pipeline(), Counting("m")
    play([personas(1)], {"last": player, VERIFIER: Judge()}, 2, {"last": 4}, pipeline=pipeline)
    rollout([personas(1)], {"last": player, VERIFIER: Judge()}, {"last": 4}, pipeline=pipeline, next_seed=1)
    assert player.calls == [4, 4, 4] and pipeline.take(1) is None

    mute = {"challenger": Scripted([" "]), "solver": player, VERIFIER: Judge()}
    rollout([lsp.raw_env()], mute, WIDE, pipeline=pipeline, next_seed=1)
    assert player.calls == [4, 4, 4] and pipeline.take(1) is None, "everybody forfeited: the next step begins by itself"


def test_the_last_step_plays_nothing_ahead() -> None:
    pipeline, asker = Pipeline(), Counting("a")
    play([lsp.raw_env()], {"challenger": asker, "solver": Counting("s"), VERIFIER: Judge()}, 3, pipeline=pipeline)
    assert asker.calls == [1, 1, 1] and pipeline.take(4) is None


def test_first_turns_are_one_step_old_and_no_others() -> None:
    """Weights move on after each step: the first step is all its own, later ones ask with the weights before."""
    player = Trained()
    players = {"challenger": player, "solver": player, VERIFIER: Judge()}

    def learn() -> None:
        player.weights += 1

    played = play([lsp.raw_env()], players, 3, {"challenger": 2, "solver": 2}, pipeline=Pipeline(), after_step=learn)
    steps: Any = [[turns for (turns, *_), _ in step] for step in played]  # type: ignore[misc]
    said = [[[action.move[:2] for _, _, action in turns[:2]] for turns in step] for step in steps]
    assert said == [[["w1", "w1"]] * 4, [["w1", "w2"]] * 4, [["w2", "w3"]] * 4]


def test_a_stop_that_is_not_the_last_step_loses_nothing() -> None:
    """A run of three steps that goes on to five: its fourth first turn is asked for by then, with the same seeds."""
    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}
    through = play([lsp.raw_env()], players, 5, WIDE, pipeline=Pipeline())
    pipeline = Pipeline()
    parts = play([lsp.raw_env()], players, 3, WIDE, pipeline=pipeline)
    assert parts + play([lsp.raw_env()], players, 5, WIDE, pipeline=pipeline, first=4) == through


# -- nobody can tell -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    turns=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    ways=st.dictionaries(st.sampled_from(["guest0", "guest1", "last"]), st.integers(1, 3)),
    cohorts=st.integers(1, 4),
    blank=st.sampled_from([0.0, 0.3, 0.9]),
    stored=st.booleans(),
)
def test_frozen_players_say_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    turns: list[int],
    ways: dict[str, int],
    cohorts: int,
    blank: float,
    stored: bool,
) -> None:
    """Games of different lengths side by side, branches, forfeits, cohorts, checkpoints: all episodes are the same."""
    games = [personas(number) for number in turns]
    roles = {role for game in games for role in game.roles}
    players: dict[str, Any] = {role: Counting("m", blank) for role in roles} | {VERIFIER: Judge()}
    folder = tmp_path_factory.mktemp("stored") if stored else None
    plain = play(games, players, 3, ways)
    assert play(games, players, 3, ways, cohorts=cohorts, pipeline=Pipeline(), folder=folder) == plain


@pytest.mark.parametrize("cohorts", [1, 2, 5])
def test_noise_tokens_and_all_come_back_from_a_checkpoint(tmp_path: Path, cohorts: int) -> None:
    """Token ids, log-probabilities, half surrogates: what is said, and by which weights, is the same when stored."""
    ways = {"challenger": 5, "solver": 2}

    def run(folder: Path | None) -> list[list[object]]:
        player = Trained()

        def learn() -> None:
            player.weights += 1

        players = {"challenger": player, "solver": player, VERIFIER: Judge()}
        how: dict[str, Any] = {"cohorts": cohorts, "pipeline": Pipeline(), "folder": folder, "after_step": learn}
        return play([lsp.raw_env(), lsp.raw_env()], players, 4, ways, **how)

    assert run(tmp_path) == run(None)
    players = {"challenger": RandomText(60), "solver": Counting("s", 0.2), VERIFIER: Judge()}
    plain = play([lsp.raw_env()], players, 3, ways, cohorts=cohorts)
    assert play([lsp.raw_env()], players, 3, ways, cohorts=cohorts, pipeline=Pipeline(), folder=tmp_path) == plain


def test_a_data_set_asks_the_same_rows(tmp_path: Path) -> None:
    """Its cursor runs one step ahead, and so does the checkpoint's: broken off anywhere, every row is asked once."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"prompt": "row {n}"}}\n' for n in range(7)), encoding="utf-8")
    ways = {"challenger": 3, "solver": 2}

    def players() -> dict[str, Any]:
        return {"challenger": Dataset(data, seed=4), "solver": Counting("s"), VERIFIER: Judge()}

    plain = play([lsp.raw_env()], players(), 5, ways)
    assert play([lsp.raw_env()], players(), 5, ways, pipeline=Pipeline()) == plain

    seated, pipeline, told = players(), Pipeline(), []
    for step in range(1, 6):
        after = step + 1 if step < 5 else None
        episodes = rollout([lsp.raw_env()], seated, ways, seed=step, pipeline=pipeline, next_seed=after)
        told.append([whole(episode) for episode in episodes])
        parts: dict[str, Stateful] = {"agent.challenger": seated["challenger"], "pipeline": pipeline}
        kept = save(tmp_path / "checkpoints", step, parts)
        seated, pipeline = players(), Pipeline()
        seated["challenger"].load(kept / "state" / "agent.challenger")
        pipeline.load(kept / "state" / "pipeline")
        verify(kept)
    assert told == plain


@pytest.mark.parametrize("cycles", [1, 2, 12])
def test_stock_environments_are_pipelined_too(tmp_path: Path, cycles: int) -> None:
    from pettingzoo.test.example_envs import generated_agents_env_action_mask_info_v0, generated_agents_env_v0

    for stock in (generated_agents_env_v0, generated_agents_env_action_mask_info_v0):
        env: Any = stock.raw_env(max_cycles=cycles)
        plain = [moves(env, step, None) for step in range(1, 5)]
        pipeline, piped = Pipeline(), list[object]()
        for step in range(1, 5):
            piped.append(moves(env, step, pipeline))
            place = tmp_path / f"{stock.__name__} {step}"
            place.mkdir()
            pipeline.save(place)
            assert f'"seed": {step + 1}' in (place / "openings.json").read_text(encoding="ascii")
            pipeline.load(place)
        assert piped == plain


def moves(env: Any, step: int, pipeline: Pipeline | None) -> object:
    """A game whose observations are noise: who moved how, and what it paid."""
    (one,) = rollout([env], _Anybody(), seed=step, pipeline=pipeline, next_seed=step + 1)
    return [(turn.seat, turn.action.move, turn.group) for turn in one.turns], dict(one.returns)


class _Anybody(dict[str, Any]):
    """Whoever takes a seat plays one of the first three moves, which are always there."""

    def __contains__(self, seat: object) -> bool:
        return True

    def __getitem__(self, seat: str) -> Any:
        return _Three()


@dataclass(frozen=True)
class _Three:
    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return [Action(seed % 3) for seed in seeds]
