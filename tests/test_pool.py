"""Opponents from a pool: who is in it, who plays, how they are rated, and that a resumed run meets the same ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.llm import LLM
from agents.pool import Pool, Snapshot
from envs.game import LanguageGame
from models.engine import Engine
from models.lora import Lora, add_lora
from selfplay.rollout import rollout
from selfplay.testing import check_agent
from selfplay.types import VERIFIER, Action, Episode, Stateful
from tests.helpers import chat, make_engine

CHATS = [chat(f"Say {n}.") for n in range(3)]
SEEDS = [1, 2, 3]


def learn(engine: Engine, step: int) -> None:
    """Other weights, as after an update."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    engine.touched()


def words(agent: Any) -> list[str]:
    return [action.move for action in agent.act(CHATS, SEEDS)]


def ended(**returns: float) -> Episode:
    return Episode((), returns, {}, {}, game="duel_v0")


def small(engine: Engine, **settings: Any) -> Pool:
    return Pool(engine, max_tokens=8, **settings)


def test_the_contract() -> None:
    pool = small(make_engine())
    check_agent(pool, CHATS)
    assert isinstance(pool, Stateful)
    assert all(action.completion is None for action in pool.act(CHATS, SEEDS)), "nobody trains its turns"


def test_it_plays_by_the_past() -> None:
    """Before the first snapshot is due: the model as it was found; the learner has gone on."""
    engine = make_engine()
    before, pool = words(LLM(engine, max_tokens=8)), small(engine, every=2, choose="latest")
    learn(engine, 1)
    assert pool.remember([]) == {"pool/opponent": 0.0, "pool/size": 1.0}
    assert words(pool) == before != words(LLM(engine, max_tokens=8))
    learn(engine, 2)
    second = words(LLM(engine, max_tokens=8))
    pool.remember([])
    learn(engine, 3)
    assert words(pool) == second and pool.opponent.taken == 2


def test_the_oldest_leaves_when_there_is_no_room() -> None:
    pool = small(make_engine(), every=2, size=3)
    taken = []
    for _ in range(9):
        pool.remember([])
        taken.append([snapshot.taken for snapshot in pool.snapshots])
    assert taken[:4] == [[0], [0, 2], [0, 2], [0, 2, 4]] and taken[-1] == [4, 6, 8]


# -- who plays ---------------------------------------------------------------------------------------------------------


def drawn(choose: str, ratings: Sequence[float] = (1500.0, 1500.0, 1500.0), seed: int = 0) -> list[int]:
    """The steps of those who are drawn by 2,000 steps from three snapshots, 0, 1 and 2."""
    pool = small(make_engine(), every=10**6, choose=choose, role="solver", seed=seed)
    pool.snapshots = [Snapshot(pool.engine, taken, rating) for taken, rating in enumerate(ratings)]
    found = []
    for _ in range(2_000):
        pool.remember([])
        found.append(pool.opponent.taken)
    return found


@pytest.mark.parametrize(
    ("choose", "shares"),
    [("latest", (0, 0, 1)), ("uniform", (1 / 3, 1 / 3, 1 / 3)), ("recency", (1 / 7, 2 / 7, 4 / 7))],
)
def test_how_often_each_one_plays(choose: str, shares: Sequence[float]) -> None:
    """Three standard errors of 2,000 draws: 3 * sqrt(1/4 / 2000) = 0.034."""
    counts = Counter(drawn(choose))
    assert [counts[taken] / 2_000 for taken in range(3)] == pytest.approx(shares, abs=0.034)


def test_by_rating_the_even_match_plays_most() -> None:
    """The learner has 1500. Against 1500: x = 1/2, x (1 - x) = 1/4. 400 above or below: 1/11 * 10/11 = 10/121. Shares:
    .25 / (.25 + 20/121) = .602, and .199 each."""
    counts = Counter(drawn("rating", (1100.0, 1500.0, 1900.0)))
    assert [counts[taken] / 2_000 for taken in range(3)] == pytest.approx((0.199, 0.602, 0.199), abs=0.034)


def test_draws_come_from_the_seed_alone() -> None:
    before = random.getstate()
    first = drawn("uniform", seed=1)
    assert random.getstate() == before
    random.seed(5)
    assert drawn("uniform", seed=1) == first != drawn("uniform", seed=2)


def test_equal_players_share_a_batch() -> None:
    """Two seats of the pool and a model that plays by the same snapshot are asked in one call; the live model in its
    own."""
    engine = make_engine()
    pool, calls = small(engine, choose="latest"), list[int]()
    generate = pool.opponent.engine.generate

    def counted(chats: Sequence[Any], **how: Any) -> Any:
        calls.append(len(chats))
        return generate(chats, **how)

    pool.opponent.engine.generate = counted
    game = LanguageGame(
        [{"role": "a", "says": "query", "told": "Say one."}, {"role": "b", "says": "answer", "told": "Say two."}],
        {"a": {"score": 1.0}},
        name="pairs_v0",
    )

    class Judge:
        def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
            return [Action({"score": 0.0}) for _ in observations]

    other = LLM(pool.opponent.engine, max_tokens=8, trained=False)
    assert pool == other == pool and pool != LLM(engine, max_tokens=8) and pool != small(engine)
    rollout([game], {"a": pool, "b": other, VERIFIER: Judge()}, {"a": 3, "b": 2})
    assert calls == [3, 6]
    calls.clear()
    games = [game, LanguageGame([{"role": "b", "says": "query", "told": "Say."}], {"b": {"score": 1.0}}, name="x_v0")]
    rollout(games, {"a": pool, "b": other, VERIFIER: Judge()})
    assert calls == [2, 1], "a pool and a player of its snapshot, in one call"


# -- ratings -----------------------------------------------------------------------------------------------------------


def test_a_step_is_one_match() -> None:
    """Four episodes, of which one is void: a win, a draw, a loss, so 1/2 of three against an equal: nothing moves.
    Then two wins: 32 * 1/2 = 16 points. A copy that is taken now begins with the learner's 1484."""
    pool = small(make_engine(), every=2, choose="latest", role="solver")
    told = pool.remember(
        [
            ended(solver=1.0, challenger=-1.0),
            ended(solver=0.0, challenger=0.0),
            ended(solver=-1.0, challenger=1.0),
            ended(solver=float("nan"), challenger=1.0),
        ]
    )
    assert told["pool/result/solver"] == 0.5 and told["pool/rating/solver"] == 1500.0
    told = pool.remember([ended(solver=1.0, challenger=0.5)] * 2)
    assert told == {
        "pool/opponent/solver": 0.0,
        "pool/result/solver": 1.0,
        "pool/rating/solver": 1516.0,
        "pool/learner_rating/solver": 1484.0,
        "pool/size/solver": 2.0,
    }
    assert [snapshot.rating for snapshot in pool.snapshots] == [1516.0, 1484.0]


def test_the_best_of_the_others_is_who_has_to_be_beaten() -> None:
    pool = small(make_engine(), role="a")
    assert pool.remember([ended(a=1.0, b=0.0, c=2.0)])["pool/result/a"] == 0.0
    assert pool.remember([ended(a=1.0, b=0.0, c=1.0)])["pool/result/a"] == 0.5
    with pytest.raises(ValueError, match=r"agent\.role='solvr' does not play \(did you mean solver\?\)"):
        small(make_engine(), role="solvr").remember([ended(solver=1.0, challenger=0.0)])


def test_who_only_asks_is_nobodys_rival() -> None:
    """A duel: the Challenger asks, and no verdict pays it. The Candidate breaks the rules: the pool has won. The
    Challenger breaks them: nobody has."""
    pool = small(make_engine(), role="baseline")

    def duel(baseline: float, candidate: float, challenger: float = 0.0, forfeit: str = "") -> Episode:
        returns = {"challenger": challenger, "baseline": baseline, "candidate": candidate}
        return Episode((), returns, {}, {} if forfeit else {"score": candidate}, forfeit, "duel_v0")

    win, draw = duel(1.0, -1.0), duel(0.0, 0.0)
    assert pool.remember([win, draw, duel(-0.25, -0.5)])["pool/result/baseline"] == pytest.approx(2.5 / 3)
    assert pool.remember([draw, win, duel(0.0, -1.0, forfeit="candidate")])["pool/result/baseline"] == 2.5 / 3
    assert pool.remember([win, duel(0.0, 0.0, -1.0, "challenger")])["pool/result/baseline"] == 1.0
    assert pool.remember([win, duel(-1.0, 0.0, forfeit="baseline")])["pool/result/baseline"] == 0.5


# -- resuming ----------------------------------------------------------------------------------------------------------


def play(engine: Engine, pool: Pool, steps: range) -> list[object]:
    told: list[object] = []
    for step in steps:
        won = float(step % 3)
        told += [words(pool), pool.opponent.taken]
        learn(engine, step)
        told.append(pool.remember([ended(solver=won, challenger=1.0)]))
    return told


@pytest.mark.parametrize("choose", ["latest", "recency", "uniform", "rating"])
def test_a_resumed_run_meets_the_same_opponents(choose: str, tmp_path: Path) -> None:
    settings = {"every": 2, "size": 3, "choose": choose, "role": "solver", "seed": 7}
    engine = make_engine()
    pool = small(engine, **settings)
    play(engine, pool, range(7))
    for name in ("weights", "pool", "again"):
        (tmp_path / name).mkdir()
    engine.save(tmp_path / "weights")
    pool.save(tmp_path / "pool")
    told = play(engine, pool, range(7, 13))

    other = make_engine()
    resumed = small(other, **settings)
    other.load(tmp_path / "weights")
    resumed.load(tmp_path / "pool")
    resumed.save(tmp_path / "again")
    files = sorted(file.relative_to(tmp_path / "pool") for file in (tmp_path / "pool").rglob("*") if file.is_file())
    assert {file.parts[0] for file in files} == {"pool.json", "2", "4", "6"}
    for file in files:
        assert (tmp_path / "pool" / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    assert play(other, resumed, range(7, 13)) == told


def test_snapshots_of_adapters_come_back_and_leave_the_original_alone(tmp_path: Path) -> None:
    """A fresh adapter's copy holds the very tensors of the model: what is loaded must not be written into them."""
    pytest.importorskip("peft", reason="model.lora wants peft, an extra")
    engine = make_engine()
    add_lora(engine.model, Lora())
    pool = small(engine, every=1, choose="latest")
    with torch.no_grad():
        for name, parameter in engine.model.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.1)
    engine.touched()
    pool.remember([])
    said = words(pool)
    pool.save(tmp_path)

    fresh = make_engine()
    add_lora(fresh.model, Lora())
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    resumed = small(fresh, every=1, choose="latest")
    resumed.load(tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in fresh.model.state_dict().items())
    assert words(resumed) == said != words(LLM(fresh, max_tokens=8))


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"every": 0}, "agent.every=0 and agent.size=4 must be at least 1"),
        ({"size": 0}, "agent.size=0 must be at least 1"),
        ({"elo_step": 0.0}, "agent.elo_step=0.0 above 0"),
        ({"choose": "recent"}, r"agent\.choose='recent' is unknown \(did you mean recency\?\)"),
        ({"choose": "rating"}, "agent.choose=rating needs agent.role"),
        ({"temperature": -1.0}, "temperature=-1.0 must be >= 0"),
    ],
)
def test_settings_that_cannot_be_followed(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Pool(make_engine(), **wrong)


def test_a_model_behind_a_server_has_no_copies() -> None:
    class Elsewhere:
        name = "the model at example.org"

    with pytest.raises(ValueError, match=r"the model at example\.org has no weights here to keep a copy of"):
        Pool(Elsewhere())
