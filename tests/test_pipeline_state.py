"""What the pipeline keeps in a checkpoint comes back to the last bit, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.scripted import Sampled
from envs import lsp
from envs.game import LanguageGame
from learners.frozen import Frozen
from learners.policy_gradient import PolicyGradient
from selfplay.pipeline import Opening, Pipeline, PipelineError, fingerprint, open_pipeline
from selfplay.rollout import RolloutError, rollout
from selfplay.types import VERIFIER, Action, Completion, Stateful
from tests.helpers import make_engine
from tests.test_rollout import Counting, Judge
from verifiers.panel import Panel

SPACES: list[Any] = [
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([3, 4]),
    spaces.MultiBinary([2, 3]),
    spaces.Box(-1, 1, (2, 2)),
    spaces.Box(0, 255, (3,), np.uint8),
    spaces.Box(-np.inf, np.inf, ()),
    spaces.Text(5),
    spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (2,))]),
    spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple([spaces.Text(3)])}),
]


def stored(move: Any, folder: Path) -> Any:
    pipeline, again = Pipeline(), Pipeline()
    pipeline.keep(3, [Opening("s_0", 0, Action(move))])
    pipeline.save(folder)
    again.load(folder)
    openings = again.take(3)
    assert openings is not None and len(openings) == 1
    return openings[0].action.move


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_moves_of_every_kind(space: Any, tmp_path: Path) -> None:
    (action,) = Sampled(space).act([{}], [5])
    back = stored(action.move, tmp_path)
    assert type(back) is type(action.move)
    np.testing.assert_equal(back, action.move)
    assert getattr(back, "dtype", None) == getattr(action.move, "dtype", None)


@pytest.mark.parametrize("move", [None, True, 2, -1.5e-45, "\ud83d", [1, (2, "x")], {(1, 2): [None]}, np.int64(4)])
def test_moves_without_a_space(move: Any, tmp_path: Path) -> None:
    back = stored(move, tmp_path)
    assert back == move and type(back) is type(move)


@pytest.mark.parametrize(
    "move", [object(), {1, 2}, np.array(["text"]), [object()]], ids=["object", "set", "text", "in"]
)
def test_a_move_that_cannot_be_stored_is_refused_at_once(move: Any) -> None:
    with pytest.raises(PipelineError, match="cannot be written there: set pipeline=false"):
        Pipeline().keep(1, [Opening("s_0", 0, Action(move))])


def test_log_probabilities_to_the_last_bit(tmp_path: Path) -> None:
    numbers = (0.0, -0.0, -1e-45, -0.1, float(np.float32(-0.1)), float("-inf"), -1.7976931348623157e308)
    said = Completion("x", (1, 2), tuple(range(len(numbers))), numbers, "length")
    pipeline = Pipeline()
    pipeline.keep(2**63 - 1, [Opening("a_0", 2**63 - 1, Action("x", said)), Opening("a_0", 0, Action("y"))])
    pipeline.save(tmp_path)
    again = Pipeline()
    again.load(tmp_path)
    first, second = again.take(2**63 - 1) or ()
    assert first == Opening("a_0", 2**63 - 1, Action("x", said)) and second == Opening("a_0", 0, Action("y"))
    assert first.action.completion is not None and str(first.action.completion.logprobs) == str(numbers)


# -- refusals --------------------------------------------------------------------------------------------------------


def test_first_turns_of_another_rollout() -> None:
    pipeline = Pipeline()
    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}
    rollout([lsp.raw_env()], players, pipeline=pipeline, next_seed=2)
    with pytest.raises(PipelineError, match="played ahead for the seed 2, not for 3"):
        rollout([lsp.raw_env()], players, seed=3, pipeline=pipeline)


def test_other_branches_than_were_played_ahead() -> None:
    pipeline = Pipeline()
    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}
    rollout([lsp.raw_env()], players, {"challenger": 2}, pipeline=pipeline, next_seed=2)
    with pytest.raises(RolloutError, match="2 first turns were played ahead, and the tables have 3"):
        rollout([lsp.raw_env()], players, {"challenger": 3}, seed=2, pipeline=pipeline)


def test_a_game_that_does_not_begin_anew() -> None:
    """What is told must follow from the seed alone: else the words would stand beside another question."""
    clock = itertools.count()

    class Moody(LanguageGame):
        def observe(self, agent: str) -> dict[str, str]:
            return super().observe(agent) | {"system": str(next(clock))}

    game = Moody([{"role": "guest", "says": "a"}, {"role": "solver", "says": "answer"}], {"solver": {"score": 1}})
    players = {"guest": Counting("g"), "solver": Counting("s"), VERIFIER: Panel(score=lambda cases: [0.0])}
    pipeline = Pipeline()
    rollout([game], players, seed=1, pipeline=pipeline, next_seed=2)
    with pytest.raises(RolloutError, match=r"begins otherwise than .* set pipeline=false"):
        rollout([game], players, seed=2, pipeline=pipeline)


def test_fingerprints() -> None:
    chat = {"system": "", "user": "What?"}
    assert fingerprint(chat) == fingerprint(dict(chat)) != fingerprint(chat | {"user": "Who?"})
    assert fingerprint(np.zeros(3)) == fingerprint({"user": np.zeros(3)}) == 0


def test_a_learner_that_takes_all_words_for_its_own_is_refused() -> None:
    strict = PolicyGradient(make_engine(), importance_cap=None)
    with pytest.raises(PipelineError, match=r"set learner.importance_cap=2.0, or pipeline=false"):
        open_pipeline(True, strict)
    assert open_pipeline(False, strict) is None


def test_a_learner_that_weighs_words_or_needs_no_weights_is_welcome() -> None:
    assert isinstance(open_pipeline(True, PolicyGradient(make_engine(), importance_cap=2.0)), Pipeline)
    assert isinstance(open_pipeline(True, Frozen()), Stateful)


@pytest.mark.parametrize("wanted", ["yes", "off", 1, None])
def test_neither_true_nor_false(wanted: Any) -> None:
    with pytest.raises(PipelineError, match=f"pipeline={wanted} is unknown: use true or false"):
        open_pipeline(wanted, Frozen())
