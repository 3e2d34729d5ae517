"""Opponents from a pool in games whose rules pay, and in roles of several seats: who won, and what is learned there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agents.llm import LLM
from envs.kuhn_poker import KuhnPoker
from learners.policy_gradient import PolicyGradient
from selfplay.rae import RaeEma
from selfplay.rollout import rollout
from tests.helpers import make_engine
from tests.seats import paying
from tests.test_pool import small


def kuhn(cards: Sequence[str]) -> KuhnPoker:
    moves = ["c", "b", "f", "k"]
    line = {"says": "move", "moves": moves, "told": "{card}{history}"}
    return KuhnPoker([{**line, "role": "first"}, {**line, "role": "second"}], cards=cards)


def test_where_the_rules_pay_there_is_no_verdict() -> None:
    """Kuhn poker: a win, a loss, a game cut short that paid nobody, and one that the other seat forfeited: 2.5 of 4. A
    dealer who earns nothing is nobody's rival, though it is never behind."""
    pool = small(make_engine(), role="second")
    games = [
        paying(("dealer_0", {}), ("first_0", {}), ("second_0", paid))
        for paid in ({"first_0": -1.0, "second_0": 1.0}, {"first_0": 2.0, "second_0": -2.0}, {})
    ]
    forfeited = paying(("dealer_0", {}), ("first_0", {"first_0": -2.0}), silent=["second_0"])
    forfeited.forfeit = "first"
    assert pool.remember([*games, forfeited])["pool/result/second"] == pytest.approx(2.5 / 4)
    folded = paying(("dealer_0", {}), ("first_0", {}), ("second_0", {"first_0": -2.0, "second_0": -1.0}))
    assert pool.remember([folded])["pool/result/second"] == 1.0, "though the dealer lost less"


def test_a_role_of_several_seats_is_rated_by_its_seats() -> None:
    """Wolves 1 and -3 against villagers 0 and -2: one of two is ahead of the best villager. A seat counts alone."""
    paid = {"wolf_0": 1.0, "wolf_1": -3.0, "villager_0": 0.0, "villager_1": -2.0}
    game = paying(*[(seat, paid if seat == "villager_1" else {}) for seat in paid])
    assert small(make_engine(), role="wolf").remember([game])["pool/result/wolf"] == 0.5
    assert small(make_engine(), role="wolf_0").remember([game])["pool/result/wolf_0"] == 1.0
    with pytest.raises(ValueError, match=r"agent\.role='wolff' does not play \(did you mean wolf\?\)"):
        small(make_engine(), role="wolff").remember([game])


def test_the_learner_meets_its_earlier_selves() -> None:
    """Four steps of Kuhn poker: the first seat learns by its moves, the pool in the second one has none to learn from,
    plays by older and older weights until a copy is due, and is rated by who won."""
    engine = make_engine()
    pool = small(engine, every=2, choose="latest", role="second", moves="choose")
    learner = PolicyGradient(engine, credit="rae_ema", kl="none", lr=1e-3)
    seen: list[float] = []
    for step in range(4):
        games = [kuhn(cards=["1", "5", "9"]) for _ in range(8)]
        played = rollout(games, {"first": LLM(engine, max_tokens=8, moves="choose"), "second": pool}, seed=step)
        tokens = {turn.role: turn.action.completion is not None for end in played for turn in end.turns}
        assert tokens == {"first": True, "second": False} and not any(end.forfeit or end.verdict for end in played)
        assert learner.update(played)["grad_norm"] > 0
        told = pool.remember(played)
        wins = [end.seats["second_0"] > 0 for end in played]
        assert told["pool/result/second"] == sum(wins) / len(wins)
        seen.append(told["pool/opponent/second"])
    assert seen == [0, 0, 2, 2] and isinstance(learner.credit, RaeEma)
    assert {name for _, name in learner.credit.baselines} == {"first", "second"}
