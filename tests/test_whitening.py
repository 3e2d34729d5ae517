"""Whitening over tokens, by hand: REINFORCE++ with and without a group baseline, and TRR++ by task and role."""

from __future__ import annotations

import pytest

from selfplay.estimators import ReinforcePP, ReinforcePPBaseline, make_estimator
from selfplay.types import Action, Episode, Turn
from tests.credit_trees import answers, challenger, solver, words
from tests.helpers import tree

# -- whitening over tokens ---------------------------------------------------------------------------------------------


def test_reinforce_pp_counts_tokens() -> None:
    """Lengths 1 and 3, rewards 1 and 0: token values [1, 0, 0, 0], mean 0.25, Bessel's std 0.5: 1.5 and -0.5 (three
    times). Over sequences it would be +-0.5 / 0.70711 = +-0.70711."""
    assert solver(ReinforcePP()(answers([1, 0], tokens=[1, 3]))) == pytest.approx([1.5, -0.5], abs=1e-6)
    assert solver(ReinforcePP()(answers([1, 0]))) == pytest.approx([0.70711, -0.70711], abs=1e-5)


def test_reinforce_pp_with_and_without_a_group_baseline() -> None:
    """Groups [0, 0, 0, 1] and [0, 1, 1, 1], a token each. Plain: mean 0.5, std sqrt(8 * 0.25 / 7) = 0.53452, so
    +-0.93541. Baseline: centred [-0.25 x3, 0.75] and [-0.75, 0.25 x3], sum of squares 1.5, std sqrt(1.5 / 7) = 0.46291,
    so [-0.54006 x3, 1.62019] and [-1.62019, 0.54006 x3]."""
    episodes = answers([0, 0, 0, 1], [0, 1, 1, 1])
    low, high = -0.93541, 0.93541
    assert solver(ReinforcePP()(episodes)) == pytest.approx([low] * 3 + [high, low] + [high] * 3, abs=1e-5)
    small, large = 0.54006, 1.62019
    expected = [-small] * 3 + [large, -large] + [small] * 3
    assert solver(ReinforcePPBaseline()(episodes)) == pytest.approx(expected, abs=1e-5)


def test_turns_without_tokens_have_no_part() -> None:
    """A data set asks: its turns have no completion, so no advantage, and they move nobody's mean."""
    episodes = answers([1, 0], tokens=[1, 3])
    for name in ("reinforce_pp", "reinforce_pp_baseline", "trr_pp"):
        credit = make_estimator(name)(episodes)
        assert {turn.role for turn in credit} == {"solver"}
        assert make_estimator(name)([]) == {}


def test_the_order_of_fork_and_bonus_in_whitening() -> None:
    """Rewards [1, 1] with a bonus of [-1, 0]: values [0, 1], so -+0.70711; with the bonus left out both are 0."""
    episodes = answers([1, 1])
    bonus = {episodes[0].turns[1]: -1.0}
    for estimator in (ReinforcePP(), ReinforcePPBaseline(), make_estimator("trr_pp")):
        assert solver(estimator(episodes, bonus)) == pytest.approx([-0.70711, 0.70711], abs=1e-5)
        assert solver(estimator(episodes)) == [0, 0]


# -- task x role (TRR++) -----------------------------------------------------------------------------------------------


def asked(task: str, *rewards: float, group: int = 0) -> list[Episode]:
    """Answers to one question of a task, of a token each; an empty task leaves the slot out."""
    case = {"query": "q", "answer": "a", "reference": ""} | ({"task": task} if task else {})
    turns = [Turn("solver", "solver_0", {}, Action("a", words(1)), group) for _ in rewards]
    return [
        Episode((turn,), {"solver": float(r)}, case, {"score": r}, game="triplets_v0")
        for turn, r in zip(turns, rewards, strict=True)
    ]


def forfeited(episode: Episode, group: int | None = None) -> Episode:
    """The same turns, ended by the Solver's forfeit: no case, no verdict, -1."""
    last = episode.turns[-1]
    turn = Turn("solver", "solver_0", {}, Action("", words(1)), last.group if group is None else group)
    return Episode((*episode.turns[:-1], turn), {"solver": -1.0}, {}, {}, forfeit="solver", game=episode.game)


def test_trr_pp_whitens_each_task_by_itself() -> None:
    """Deduction [1, 0], abduction [0, 0], a token each: +-0.5 / 0.70711 = +-0.70711, and 0 where there is no spread.
    One cell of all four would give 0.75 / 0.5 = 1.5 and -0.5."""
    episodes = asked("deduction", 1, 0) + asked("abduction", 0, 0, group=1)
    assert solver(make_estimator("trr_pp")(episodes)) == pytest.approx([0.70711, -0.70711, 0, 0], abs=1e-5)
    assert solver(ReinforcePP()(episodes)) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


def test_trr_pp_whitens_each_role_by_itself() -> None:
    """LSP-Zero, two queries with two answers: the Solver's cell is [0, 2, 4, 6], the Challenger's [-1, -5], all of one
    token. Challenger: +-2 / 2.82843 = +-0.70711. Solver: mean 3, std sqrt(20 / 3) = 2.58199: -+1.16190, -+0.38730."""
    scores = [[0.0, 2.0], [4.0, 6.0]]
    episodes = tree(scores, completions=[[words(1)] * 2] * 2, proposals=[words(1)] * 2)
    credit = make_estimator("trr_pp")(episodes)
    assert solver(credit) == pytest.approx([-1.16190, -0.38730, 0.38730, 1.16190], abs=1e-5)
    assert challenger(credit) == pytest.approx([0.70711, -0.70711], abs=1e-5)


def test_without_a_task_the_cell_is_the_game() -> None:
    together = asked("", 1, 0) + asked("", 0, 0, group=1)
    assert solver(make_estimator("trr_pp")(together)) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


def test_a_forfeit_counts_under_its_siblings_task() -> None:
    """A forfeited game has no case, so no task. With its siblings [1, 0] it is the cell [1, 0, -1]: mean 0, std 1. In a
    cell of its own it would be 0: nobody would ever unlearn to forfeit."""
    episodes = asked("deduction", 1, 0) + asked("abduction", 1, 1, group=1)
    episodes.append(forfeited(episodes[0]))
    assert solver(make_estimator("trr_pp")(episodes)) == pytest.approx([1, 0, 0, 0, -1], abs=1e-6)


def test_a_forfeit_without_siblings_counts_under_the_task_before_it() -> None:
    """The library has named the task before the fork: a Solver whose whole group forfeits still is in its cell."""
    library = Turn("library", "library_0", {}, Action("t"), 9)
    episodes = asked("deduction", 1, 0)
    for episode in episodes:
        episode.turns = (library, *episode.turns)
        episode.returns = {**episode.returns, "library": 0.0}
    episodes.append(forfeited(episodes[0], group=5))
    assert solver(make_estimator("trr_pp")(episodes)) == pytest.approx([1, 0, -1], abs=1e-6)


def test_a_turn_before_the_choice_of_the_task_counts_under_the_game() -> None:
    """One opening turn with leaves of two tasks, worth (1 + 0) / 2, beside an opening of the same game worth 1.5: the
    cell of the game is [0.5, 1.5]."""
    opening = Turn("planner", "planner_0", {}, Action("p", words(1)), 9)
    other = Turn("planner", "planner_0", {}, Action("p", words(1)), 8)
    episodes = asked("deduction", 1) + asked("abduction", 0, group=1) + asked("", 1.5, group=2)
    for episode, first in zip(episodes, (opening, opening, other), strict=True):
        episode.turns, episode.returns = (first, *episode.turns), {"planner": episode.returns["solver"]}
    credit = make_estimator("trr_pp")(episodes)
    assert [credit[opening], credit[other]] == pytest.approx([-0.70711, 0.70711], abs=1e-5)
