"""The numbers of a step, worked by hand: per role, shared turns once, voids and forfeits apart."""

from __future__ import annotations

import math

import pytest

from agents.scripted import Scripted
from envs import lsp
from selfplay.metrics import count_tokens, describe, timings
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action, Completion, Episode, Turn
from tests.helpers import tree
from verifiers.panel import Panel


def said(tokens: int, logprob: float, finish: str = "stop") -> Completion:
    return Completion("x", (1,), tuple(range(tokens)), (logprob,) * tokens, finish)  # type: ignore[arg-type]


def test_rewards_per_role() -> None:
    """R = [[1, 3], [5, 7]]: the Solver's mean is 4 and its deviation sqrt(5); the Challenger's mean is -4."""
    metrics = describe(tree([[1, 3], [5, 7]]))
    assert metrics["episodes"] == 4 and metrics["episodes/void_share"] == 0
    assert metrics["reward/solver"] == 4 and metrics["reward/challenger"] == -4
    assert metrics["reward_std/solver"] == pytest.approx(math.sqrt(5))
    assert "reward" not in metrics and "reward/verifier" not in metrics, "never one mean over roles"
    assert metrics["proposals/valid_share"] == 1


def test_lengths_and_entropy_count_shared_turns_once() -> None:
    """One query of 2 tokens at log-probability -1, answers of 1, 3 and 4 tokens at -0.5: 2, and 8/3 tokens on
    average; entropy 1 and 0.5; one answer of three was cut; 2 + 8 tokens in all."""
    answers = [[said(1, -0.5), said(3, -0.5), said(4, -0.5, "length")]]
    episodes = tree([[0, 1, 2]], completions=answers, proposals=[said(2, -1.0)])
    metrics = describe(episodes)
    assert metrics["completions/mean_length/challenger"] == 2 and metrics["entropy/challenger"] == 1
    assert metrics["completions/mean_length/solver"] == pytest.approx(8 / 3)
    assert metrics["entropy/solver"] == 0.5
    assert metrics["completions/clipped_ratio/solver"] == pytest.approx(1 / 3)
    assert count_tokens(episodes) == 10


def test_voids_pay_nobody() -> None:
    metrics = describe(tree([[1, math.nan], [math.nan, math.nan]]))
    assert metrics["episodes/void_share"] == 0.75 and metrics["reward/solver"] == 1
    assert metrics["proposals/valid_share"] == 0.5, "no verifier could tell what to make of the second query"
    alone = describe(tree([[math.nan]]))
    assert "reward/solver" not in alone and alone["proposals/valid_share"] == 0


def test_an_episode_in_which_nobody_spoke_is_no_proposal() -> None:
    silent = Episode((), {"challenger": 0.0, "solver": 0.0}, {}, {})
    assert describe([silent])["proposals/valid_share"] == 0
    assert describe([silent, *tree([[1, 2]])])["proposals/valid_share"] == 1, "one proposal, and it was judged"
    assert describe([silent, *tree([[1], [math.nan]])])["proposals/valid_share"] == 0.5


def test_no_episodes() -> None:
    assert describe([]) == {"episodes": 0.0}
    assert count_tokens([]) == 0


def test_a_turn_without_tokens_has_no_length() -> None:
    assert not [name for name in describe(tree([[1, 2]])) if name.startswith(("completions", "entropy"))]


def test_forfeits_are_counted_per_turn() -> None:
    """Four queries, of which one is blank and ends at once; the three others are answered four times. A quarter of
    the Challenger's turns broke the rules, though only 1 of 13 episodes did."""
    episodes: list[Episode] = []
    blank = Turn("challenger", "challenger_0", {}, Action(""), 0)
    episodes.append(Episode((blank,), {"challenger": -1.0, "solver": 0.0}, {}, {}, "challenger", "lsp_v0"))
    episodes += tree([[1, 0, 1, 0]] * 3)
    metrics = describe(episodes)
    assert metrics["forfeits/challenger"] == 0.25 and metrics["forfeits/solver"] == 0
    assert metrics["proposals/valid_share"] == 0.75


def test_a_step_of_forfeits_only() -> None:
    """The Solver's silence is not the proposal's fault."""
    panel = Panel(score=lambda cases: [1.0] * len(cases))
    players = {"challenger": Scripted(["q"]), "solver": Scripted([" "]), VERIFIER: panel}
    metrics = describe(rollout([lsp.raw_env()], players, {"challenger": 3, "solver": 2}))
    assert (metrics["forfeits/solver"], metrics["forfeits/challenger"]) == (1, 0)
    assert metrics["reward/solver"] == -1 and metrics["reward/challenger"] == 0
    assert metrics["proposals/valid_share"] == 1
    players["challenger"] = Scripted([""])
    metrics = describe(rollout([lsp.raw_env()], players, {"challenger": 3, "solver": 2}))
    assert metrics["forfeits/challenger"] == 1 and metrics["proposals/valid_share"] == 0
    assert metrics["forfeits/solver"] == 0, "the Solver never spoke"


def test_rates_add_up() -> None:
    """120 tokens in 4 s, of which 2 s to generate and 1 s to update: 30, 60 and 120 tokens a second; what is passed
    on stays as it is."""
    lap = {"generate": 2.0, "update": 1.0, "judge": 0.5, "other": 0.5, "total": 4.0, "roofline/generate": 0.4}
    rates = {"tokens_per_second": 30, "generate_tokens_per_second": 60, "update_tokens_per_second": 120}
    assert timings(lap, 120) == {**lap, **rates}


def test_the_exam_before_the_first_step_has_the_same_columns() -> None:
    row = timings({"other": 1.0, "evaluate": 3.0, "total": 4.0}, 0)
    phases = {"generate": 0.0, "judge": 0.0, "update": 0.0, "other": 1.0, "evaluate": 3.0}
    assert row == {**phases, "total": 4.0, "tokens_per_second": 0.0}
