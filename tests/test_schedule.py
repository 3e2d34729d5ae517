"""Who learns when: phases, ratios, and a learner for each role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.frozen import Frozen
from learners.policy_gradient import PolicyGradient
from learners.schedule import Phases
from learners.team import Team
from models.engine import Engine
from selfplay.pipeline import PipelineError, open_pipeline
from selfplay.testing import check_learner
from selfplay.trained import trained
from selfplay.types import Episode, Stateful
from tests.helpers import chat, make_engine, tree

R_ZERO = [{"roles": ["challenger"], "steps": 5}, {"roles": ["solver"], "steps": 15}]
SQLM = [{"roles": ["solver"], "steps": 4}, {"roles": ["challenger", "solver"], "steps": 1}]


class Listener:
    """A learner that notes whose completions it was shown."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        turns = [turn for episode in episodes for turn in episode.turns]
        self.seen.append(sorted({turn.role for turn in turns if turn.action.completion is not None}))
        return {"loss": 1.0, "kl/solver": 2.0}


def told(engine: Engine) -> list[Episode]:
    """Two queries with two answers each, in the engine's own tokens, of which every second answer is right."""
    words = engine.generate(
        [chat(f"Say {n}.") for n in range(6)], temperature=1.0, top_p=1.0, max_tokens=4, seeds=list(range(6))
    )
    return tree([[0.0, 1.0], [1.0, 1.5]], completions=[words[:2], words[2:4]], proposals=words[4:])


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def gradient(engine: Engine, **settings: Any) -> PolicyGradient:
    return PolicyGradient(engine, lr=1e-2, compile=False, batch_tokens=512, **settings)


# -- phases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "learns"),
    [
        (R_ZERO, [["challenger"]] * 5 + [["solver"]] * 15),
        (SQLM, [["solver"]] * 4 + [["challenger", "solver"]]),
    ],
    ids=["R-Zero", "SQLM"],
)
def test_the_papers_ratios(plan: list[dict[str, Any]], learns: list[list[str]]) -> None:
    """Twice around, and who is told to learn is who is shown."""
    listener, episodes = Listener(), told(make_engine())
    phases = Phases(listener, plan)
    metrics = [phases.update(episodes) for _ in range(2 * len(learns))]
    assert listener.seen == 2 * learns
    for told_of, roles in zip(metrics, 2 * learns, strict=True):
        assert [role for role in ("challenger", "solver") if told_of[f"learns/{role}"]] == roles
    assert metrics[0]["loss"] == 1.0 and metrics[0]["phase"] == 0.0 and metrics[-1]["phase"] == 1.0


def test_an_update_of_one_role_is_the_update_of_its_turns_alone() -> None:
    """The Solver's phase moves the weights as if the Challenger were somebody else's."""
    one, other = make_engine(), make_engine()
    alone = told(other)
    for episode in alone:
        episode.turns[0].action = type(episode.turns[0].action)(episode.turns[0].action.move)
    Phases(gradient(one), [{"roles": ["solver"], "steps": 1}]).update(told(one))
    gradient(other).update(alone)
    assert same(weights(one), weights(other)) and not same(weights(one), weights(make_engine()))


def test_a_resumed_schedule_goes_on_where_it_was(tmp_path: Path) -> None:
    """Three updates within a plan of 2 and 2, then two more: bytes of the weights and of the learner's state."""
    plan = [{"roles": ["challenger"], "steps": 2}, {"roles": ["solver"], "steps": 2}]
    engine = make_engine()
    whole = Phases(gradient(engine), plan)
    assert isinstance(whole, Stateful)
    for name in ("weights", "learner", "ends", "again"):
        (tmp_path / name).mkdir()
    for _ in range(3):
        whole.update(told(engine))
    engine.save(tmp_path / "weights")
    whole.save(tmp_path / "learner")
    metrics = [whole.update(told(engine)) for _ in range(2)]
    whole.save(tmp_path / "ends")

    other = make_engine()
    resumed = Phases(gradient(other), plan)
    other.load(tmp_path / "weights")
    resumed.load(tmp_path / "learner")
    assert resumed.roles == ("solver",)
    assert [resumed.update(told(other)) for _ in range(2)] == metrics
    assert same(weights(engine), weights(other))
    resumed.save(tmp_path / "again")
    for file in (file for file in (tmp_path / "ends").rglob("*") if file.is_file()):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "ends")).read_bytes()


def test_a_learner_without_state_can_be_scheduled(tmp_path: Path) -> None:
    phases = Phases(Frozen(), R_ZERO)
    phases.update([])
    phases.save(tmp_path)
    again = Phases(Frozen(), R_ZERO)
    again.load(tmp_path)
    assert again.roles == ("challenger",)


def test_the_contract_of_a_learner() -> None:
    engine = make_engine()
    check_learner(Phases(gradient(engine), SQLM), told(engine))
    check_learner(Team({"solver": gradient(engine), "challenger": gradient(engine)}), told(engine))


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ([], r"learner\.plan is empty"),
        ([{"role": ["solver"], "steps": 1}], r"learner\.plan\[0\] has no key 'role' \(did you mean roles\?\)"),
        ([{"roles": "solver", "steps": 1}], r"learner\.plan\[0\]\.roles='solver' must be a list"),
        ([{"roles": ["solver"], "steps": 1}, {"roles": ["solver"]}], r"learner\.plan\[1\]\.steps=None"),
        ([{"roles": ["solver"], "steps": 0}], r"steps=0 must be a number of updates"),
    ],
)
def test_plans_that_cannot_be_followed(plan: list[dict[str, Any]], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Phases(Frozen(), plan)


def test_a_role_that_nobody_plays() -> None:
    phases = Phases(Frozen(), [{"roles": ["solvr"], "steps": 1}])
    phases.update([])
    with pytest.raises(ValueError, match=r"learner\.plan names 'solvr', who earns nothing \(did you mean solver\?\)"):
        phases.update(tree([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"learner\.learners\.solvr: no such role \(did you mean solver\?\)"):
        Team({"solvr": Frozen()}).update(tree([[0.0, 1.0]]))


# -- a learner for each role -------------------------------------------------------------------------------------------


def test_each_learner_sees_its_own_role() -> None:
    asks, answers = Listener(), Listener()
    metrics = Team({"challenger": asks, "solver": answers}).update(told(make_engine()))
    assert asks.seen == [["challenger"]] and answers.seen == [["solver"]]
    assert metrics == {
        "loss/challenger": 1.0,
        "kl/solver/challenger": 2.0,
        "loss/solver": 1.0,
        "kl/solver": 2.0,
    }


def test_two_models_learn_apart() -> None:
    """Each moves as it would alone, and the other one is not touched by it."""
    asks, answers, alone = make_engine(seed=0), make_engine(seed=1), make_engine(seed=1)
    before = weights(asks)
    team = Team({"solver": gradient(answers)})
    assert team.engines == {"solver": answers}
    team.update(told(answers))
    assert same(weights(asks), before)
    Phases(gradient(alone), [{"roles": ["solver"], "steps": 1}]).update(told(alone))
    assert same(weights(answers), weights(alone)) and not same(weights(answers), weights(make_engine(seed=1)))


def test_two_copies_in_turns_as_r_zero(tmp_path: Path) -> None:
    """Phases over a team: the Challenger's weights move first, then the Solver's; a resumed one ends the same."""
    plan = [{"roles": ["challenger"], "steps": 1}, {"roles": ["solver"], "steps": 1}]

    def make() -> tuple[Engine, Engine, Phases]:
        asks, answers = make_engine(seed=0), make_engine(seed=1)
        return asks, answers, Phases(Team({"challenger": gradient(asks), "solver": gradient(answers)}), plan)

    def step(asks: Engine, answers: Engine, learner: Phases) -> dict[str, float]:
        said, found = told(asks), told(answers)
        for asked, answered in zip(said, found, strict=True):
            asked.turns = (asked.turns[0], *answered.turns[1:])
        return learner.update(said)

    asks, answers, learner = make()
    start = weights(answers)
    assert step(asks, answers, learner)["learns/challenger"] == 1.0
    assert same(weights(answers), start) and not same(weights(asks), weights(make_engine(seed=0)))
    moved = weights(asks)
    for name in ("asks", "answers", "learner"):
        (tmp_path / name).mkdir()
    asks.save(tmp_path / "asks"), answers.save(tmp_path / "answers"), learner.save(tmp_path / "learner")
    metrics = step(asks, answers, learner)
    assert same(weights(asks), moved) and not same(weights(answers), start)

    others = make()
    others[0].load(tmp_path / "asks"), others[1].load(tmp_path / "answers"), others[2].load(tmp_path / "learner")
    assert step(*others) == metrics
    assert same(weights(others[0]), weights(asks)) and same(weights(others[1]), weights(answers))


def test_the_models_that_are_trained_are_known_however_their_learners_nest() -> None:
    """What is not known is not in the checkpoint."""
    plan = [{"roles": ["solver"], "steps": 1}]
    one, other = make_engine(seed=0), make_engine(seed=1)
    assert trained(gradient(one)) == {"learner": one} == Phases(gradient(one), plan).engines
    assert trained(Frozen()) == {} == Phases(Frozen(), plan).engines == Team({"solver": Frozen()}).engines
    phased = Team({"solver": Phases(gradient(other), plan), "challenger": gradient(one)})
    assert phased.engines == {"solver": other, "challenger": one} == Phases(phased, plan).engines
    assert Team({"solver": phased}).engines == {"solver.solver": other, "solver.challenger": one}


def test_an_empty_team() -> None:
    with pytest.raises(ValueError, match=r"learner\.learners is empty"):
        Team({})


def test_what_the_pipeline_asks_of_a_learner_is_passed_on() -> None:
    engine = make_engine()
    exact, capped = gradient(engine, importance_cap=None), gradient(engine, importance_cap=2.0)
    for wrapped in (Phases(exact, SQLM), Team({"challenger": capped, "solver": exact})):
        with pytest.raises(PipelineError, match="importance_cap"):
            open_pipeline(True, wrapped)
    assert open_pipeline(True, Phases(capped, SQLM)) and open_pipeline(True, Team({"solver": capped}))
    assert open_pipeline(True, Phases(Frozen(), SQLM)) and open_pipeline(True, Team({"solver": Frozen()}))
