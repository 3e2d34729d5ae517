"""What the data gate leaves to learn from: who keeps a turn, what a refused proposal is worth, and what is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from omegaconf import OmegaConf

from selfplay.archive import Archive
from selfplay.candidates import GateError
from selfplay.compose import ConfigError
from selfplay.credit import advantages, values
from selfplay.gate import Gate, open_gate
from selfplay.lessons import Settled, Silenced, only_roles
from selfplay.shapes import make_shapes
from selfplay.types import Action, Episode, Turn
from tests.test_gate import NAN, asked, forfeited, learning


def two() -> list[Episode]:
    """A proposal that every band admits, and one that is too easy; siblings."""
    return asked("good", [1, 0]) + asked("easy", [1, 1])


def test_what_is_admitted_is_the_very_same() -> None:
    episodes = asked("a", [1, 0]) + asked("b", [0, 1])
    lessons, metrics = Gate(band="(0, 1)")(episodes)
    assert all(one is other for one, other in zip(lessons, episodes, strict=True))
    assert metrics["gate/admitted"] == 1.0 and metrics["gate/effective_proposals"] == 2.0


def test_a_refused_proposer_keeps_what_it_earned() -> None:
    """V(good) = -1/2, V(easy) = -1: the Challenger's advantages are .25 and -.25 as before; nobody learns to answer
    the easy one."""
    episodes = two()
    lessons, _ = Gate(band="(0, 1)")(episodes)
    assert learning(lessons) == ["good", "a0", "a1", "easy"]
    before, after = advantages(episodes), advantages(lessons)
    proposals = [episodes[0].turns[0], episodes[2].turns[0]]
    assert [before[turn] for turn in proposals] == [after[turn] for turn in proposals] == [0.25, -0.25]
    easy = lessons[2:]
    assert [episode.turns[0] for episode in easy] == [proposals[1]] * 2 and easy[0].case == episodes[2].case
    assert [turn.group for turn in easy[0].turns] == [turn.group for turn in episodes[2].turns]


def test_a_refused_proposal_is_worth_what_one_says() -> None:
    """V(good) = -1/2 and V(easy) = 0, not -1: advantages -.25 and .25."""
    episodes = two()
    lessons, _ = Gate(band="(0, 1)", refused_value=0.0)(episodes)
    assert learning(lessons) == ["good", "a0", "a1", "easy"] and len(lessons) == 3
    assert isinstance(lessons[2], Settled) and lessons[2].case == episodes[2].case
    credit = advantages(lessons)
    assert [credit[episodes[i].turns[0]] for i in (0, 2)] == [-0.25, 0.25]


def test_no_shape_looks_at_what_was_decided() -> None:
    """By 4 p (1 - p) the good one is worth 1; the easy one what the gate says, where the shape would find 0."""
    episodes = two()
    lessons, _ = Gate(band="(0, 1)", refused_value=-0.1)(episodes)
    worth = values(lessons, make_shapes({"challenger": "learnability"}))
    assert [worth[episodes[i].turns[0]] for i in (0, 2)] == [1.0, -0.1]
    kept, _ = Gate(band="(0, 1)")(episodes)
    worth = values(kept, make_shapes({"challenger": "learnability"}))
    assert [worth[episodes[i].turns[0]] for i in (0, 2)] == [1.0, 0.0], "None leaves it to the shape"


def test_a_value_for_each_reason() -> None:
    """0 for words that are no question (a penalty starts a death spiral there, arXiv 2510.18821); what was too easy
    keeps its -1, and so does the text that is too long."""
    gate = Gate(band="(0, 1)", length=[0, 20], refused_value={"forfeit": 0, "long": -0.1, "easy": None})
    episodes = two() + forfeited() + asked("x" * 21, [1, 0])
    lessons, _ = gate(episodes)
    worth = values(lessons)
    assert [worth[episodes[i].turns[0]] for i in (0, 2, 4, 5)] == [-0.5, -1.0, 0.0, -0.1]
    assert "" in learning(lessons)


def test_a_refused_proposal_leaves() -> None:
    episodes = two() + forfeited()
    lessons, metrics = Gate(band="(0, 1)", proposer="drop")(episodes)
    assert lessons == episodes[:2]
    assert metrics["gate/admitted"] == pytest.approx(1 / 3) and metrics["gate/easy"] == pytest.approx(1 / 3)


def test_a_fault_of_ours_is_worth_nothing_at_all() -> None:
    lessons, _ = Gate(refused_value=0.0)(asked("q", [NAN, NAN]) + asked("p", [1, 0]))
    assert learning(lessons) == ["p", "a0", "a1"]


def test_a_data_set_in_the_proposers_seat_leaves_with_its_row() -> None:
    episodes = two()
    for i in (0, 2):
        silent = Turn("challenger", "challenger_0", {}, Action(episodes[i].turns[0].action.move), 0)
        for episode in episodes[i : i + 2]:
            episode.turns = (silent, *episode.turns[1:])
    assert Gate(band="(0, 1)", refused_value=0.0)(episodes)[0] == episodes[:2]


def test_a_proposal_in_the_middle_of_a_game() -> None:
    """A document speaks first; one document leads to two questions, of which one is refused."""
    document = Turn("library", "library_0", {}, Action("Once upon a time."), 9)
    episodes = two()
    for episode in episodes:
        episode.turns = (document, *episode.turns)
    lessons, metrics = Gate(role="challenger", band="(0, 1)")(episodes)
    assert metrics["gate/easy"] == 0.5 and learning(lessons) == ["good", "a0", "a1", "easy"]
    assert all(episode.turns[0] is document for episode in lessons[:2]), "what was admitted is the very same"
    assert all(isinstance(episode.turns[0], Silenced) for episode in lessons[2:]), "nobody learns to copy the other"
    early = [Episode((document,), {"challenger": 0.0, "solver": 0.0}, {}, {}, "library")]
    assert Gate(role="challenger")(early)[0] == early, "nobody came to propose"
    with pytest.raises(ValueError, match=r"gate\.role='challengers' never speaks \(did you mean challenger\?\)"):
        Gate(role="challengers")(episodes)


def test_a_step_without_episodes() -> None:
    lessons, metrics = Gate(band="(0, 1)", archive=Archive())([])
    assert lessons == [] and metrics["gate/admitted"] == 0.0 and metrics["gate/archive"] == 0.0
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_metrics_have_the_same_names_in_every_step() -> None:
    gate = Gate(band="(0, 1)", archive=Archive(), length=[1, 9])
    assert gate([])[1].keys() == gate(two() + forfeited())[1].keys()


def test_decisions_as_lines_of_a_log() -> None:
    gate = Gate(band="(0, 1)", archive=Archive())
    gate(two())
    assert [decision.row() for decision in gate.decisions] == [
        {"query": "good", "admitted": True, "reason": "", "answers": 2, "solve_rate": 0.5, "similarity": 0.0},
        {"query": "easy", "admitted": False, "reason": "easy", "answers": 2, "solve_rate": 1.0, "similarity": None},
    ]


def test_roles_that_do_not_learn_lose_nothing_but_their_completions() -> None:
    episodes = two()
    lessons = only_roles(episodes, ["solver"])
    assert learning(lessons) == ["a0", "a1", "a0", "a1"]
    assert lessons[0].turns[0] is lessons[1].turns[0] is not episodes[0].turns[0], "a shared turn stays shared"
    assert lessons[0].turns[1] is episodes[0].turns[1] and lessons[0].returns == episodes[0].returns
    assert advantages(lessons)[lessons[0].turns[0]] == advantages(episodes)[episodes[0].turns[0]]
    assert only_roles(episodes, ["solver", "challenger"]) == episodes


# -- from a configuration ----------------------------------------------------------------------------------------------


def test_a_gate_from_a_configuration() -> None:
    """The verifier that is asked again comes as a panel, in its own seat; a band is a string or a list there."""
    node = {"_target_": "selfplay.gate.Gate", "band": "(0, 1)", "again": {"_target_": "any.Verifier"}}
    seated: list[object] = []

    class Panel:
        parts = ("score",)

        def act(self, cases: Sequence[object], seeds: Sequence[int]) -> list[Action]:
            return [Action({"score": 1.0}) for _ in cases]

    def seat(told: object) -> Panel:
        seated.append(told)
        return Panel()

    gate = open_gate(OmegaConf.create({"gate": node, "allow": []}), seat)
    assert gate is not None and seated == [{"_target_": "any.Verifier"}]
    _, metrics = gate(asked("q", [1, 1]) + asked("p", [1, 0]))
    assert (metrics["gate/easy"], metrics["gate/unstable"]) == (0.5, 0.5)
    assert open_gate(OmegaConf.create({"gate": None, "allow": []}), seat) is None
    with pytest.raises(ConfigError, match="bnad"):
        open_gate(OmegaConf.create({"gate": {"_target_": "selfplay.gate.Gate", "bnad": [0, 1]}, "allow": []}), seat)
    for wrong in ("band", 3, {"band": [0, 1]}):
        with pytest.raises(ConfigError, match="is no gate: write"):
            open_gate(OmegaConf.create({"gate": wrong, "allow": []}), seat)
    Panel.parts = ("score", "quality")
    gate = open_gate(OmegaConf.create({"gate": node, "allow": []}), seat)
    assert gate is not None
    with pytest.raises(GateError, match=r"gate\.again gives score, quality: it must be one verifier"):
        gate(asked("q", [1, 0]))
