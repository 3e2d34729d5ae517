"""Duel: neither hears the other, a pairwise judge decides in both orders, and the payoff is +1, 0 or -1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pettingzoo.test import parallel_api_test

from agents.scripted import Scripted
from envs import duel, shipped
from envs.game import LanguageGame
from selfplay.rollout import rollout
from selfplay.testing import check_game
from selfplay.types import Chat, Completion
from verifiers.pairwise import Pairwise
from verifiers.panel import Panel


class Judge:
    """A frozen engine whose verdict is the longer response, or always the first one: what a judge does wrong."""

    def __init__(self, biased: bool = False) -> None:
        self.biased, self.asked = biased, 0

    def fits(self, chats: Sequence[Chat], max_tokens: int) -> list[bool]:
        return [True] * len(chats)

    def generate(self, chats: Sequence[Chat], **_: Any) -> list[Completion]:
        self.asked += len(chats)
        return [Completion(f"<winner>{self._winner(chat['user'])}</winner>", (), (), (), "stop") for chat in chats]

    def _winner(self, text: str) -> str:
        if self.biased:
            return "first"
        first, second = text.index("GOOD") if "GOOD" in text else -1, text.index("BAD") if "BAD" in text else -1
        if first < 0 or second < 0:
            return "tie"
        return "first" if first < second else "second"


def play(candidate: str, baseline: str, biased: bool = False) -> dict[str, float]:
    seats: dict[str, Any] = {
        "challenger": Scripted(["Say something."]),
        "candidate": Scripted([candidate]),
        "baseline": Scripted([baseline]),
        "verifier": Panel(score=Pairwise(Judge(biased), "baseline")),
    }
    (episode,) = rollout([shipped.raw("duel")], seats)
    assert [turn.observation["user"] for turn in episode.turns[1:3]] == ["Say something."] * 2
    assert episode.case["answer"] == candidate and episode.case["baseline"] == baseline
    return dict(episode.returns)


@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: shipped.raw("duel", wording=wording), games=10)
    parallel_api_test(duel.parallel_env(wording=wording), num_cycles=10)


@pytest.mark.parametrize(
    ("candidate", "baseline", "biased", "margin"),
    [
        ("a GOOD answer", "a BAD answer", False, 1.0),
        ("a BAD answer", "a GOOD answer", False, -1.0),
        ("one answer", "another answer", False, 0.0),
        ("the same", "the same", False, 0.0),
        ("a GOOD answer", "a BAD answer", True, 0.0),  # whoever comes first wins: the other order takes it back
    ],
)
def test_the_payoff_is_the_margin(candidate: str, baseline: str, biased: bool, margin: float) -> None:
    assert play(candidate, baseline, biased) == {"challenger": 0.0, "candidate": margin, "baseline": -margin}


def test_swapped_players_swap_their_payoffs() -> None:
    one, other = play("a GOOD answer", "a BAD answer"), play("a BAD answer", "a GOOD answer")
    assert one["candidate"] == other["baseline"] == 1.0 and one["baseline"] == other["candidate"] == -1.0


def test_both_orders_are_asked() -> None:
    judge = Judge()
    case = {"query": "Say.", "answer": "a GOOD one", "reference": "", "baseline": "a BAD one"}
    assert Pairwise(judge, "baseline")([case]) == [1.0] and judge.asked == 2


def test_the_verdict_is_kept_as_it_was_and_nan_stays_nan() -> None:
    game = shipped.raw("duel")
    game.reset(seed=0)
    for move in ("q", "b", "a"):
        game.step(move)
    game.step({"score": float("nan")})
    assert game.rewards["candidate_0"] != game.rewards["candidate_0"]
    seats: dict[str, Any] = dict.fromkeys(("challenger", "candidate", "baseline"), Scripted(["x"]))
    seats["verifier"] = Panel(score=lambda cases: [0.75] * len(cases))
    (episode,) = rollout([shipped.raw("duel")], seats)
    assert episode.verdict == {"score": 0.75} and episode.returns["candidate"] == 0.5


def test_it_is_the_language_game_else() -> None:
    game = shipped.raw("duel")
    assert isinstance(game, duel.Duel) and isinstance(game, LanguageGame)
    game.reset(seed=0)
    game.step(" ")
    assert game.rewards["challenger_0"] == -1.0
