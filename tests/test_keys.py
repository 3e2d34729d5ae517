"""The keys that all learners pass on to their optimizer step: what they reach, and what is said of a wrong one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from learners.distill import Distill
from learners.dpo import DPO
from learners.frozen import Frozen
from learners.policy_gradient import PolicyGradient
from learners.pretrain import Pretrain
from learners.rejection import Rejection
from selfplay.compose import ConfigError, build
from tests.helpers import make_engine

GIVEN: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "max_grad_norm": 2.0, "optimizer": "sgd", "warmup": 3}
GIVEN |= {"steps": 9, "schedule": "linear", "batch_tokens": 77, "attention": "eager", "share_prompts": False}


@pytest.fixture
def makers(tmp_path: Path) -> list[Any]:
    """All learners that have a step of their own."""
    (tmp_path / "corpus.txt").write_text("A small corpus. " * 9, encoding="utf-8")
    corpus = partial(Pretrain, corpus=tmp_path / "corpus.txt")
    return [PolicyGradient, Rejection, DPO, Distill, corpus]


def test_every_key_arrives(makers: list[Any]) -> None:
    for make in makers:
        step = make(make_engine(), **GIVEN, gradient_checkpointing=True).step
        assert (step.lr, step.max_grad_norm, step.warmup, step.steps) == (0.01, 2.0, 3, 9)
        assert (step.schedule, step.batch_tokens) == ("linear", 77)
        assert type(step.optimizer).__name__ == "SGD" and step.optimizer.param_groups[0]["weight_decay"] == 0.1
        passes = step.passes
        assert (passes.attention, passes.share, passes.checkpointing) == ("eager", False, True)
        assert make(make_engine()).step.lr == 1e-6, "and there is a default"


def test_a_learner_of_several_steps_counts_in_updates() -> None:
    step = PolicyGradient(make_engine(), epochs=2, minibatches=3, **GIVEN).step
    assert (step.warmup, step.steps) == (18, 54)
    assert PolicyGradient(make_engine(), epochs=2).step.steps is None


def test_a_wrong_key_is_one_sentence(makers: list[Any]) -> None:
    """Near a key of the step, near one of the learner's own, and near none."""
    for make in makers:
        with pytest.raises(ValueError, match=r"^learner\.warm_up is no key of \w+ \(did you mean warmup\?\)$"):
            make(make_engine(), warm_up=3)
    with pytest.raises(ValueError, match=r"^learner\.distinkt is no key of Rejection \(did you mean distinct\?\)$"):
        Rejection(make_engine(), distinkt=1.0)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"^learner\.xyz is no key of DPO: it has engine, reference, role, .*steps, "):
        DPO(make_engine(), xyz=1)  # type: ignore[call-arg]


def test_a_wrong_key_of_a_configuration_is_the_same_sentence() -> None:
    node = {"_target_": "learners.rejection.Rejection", "engine": {"_target_": "tests.helpers.make_engine"}, "epocs": 2}
    with pytest.raises(ConfigError, match=r"learner\.epocs is no key of Rejection \(did you mean epochs\?\)"):
        build(node, allow=["tests"])


def test_frozen_sits_in_the_place_of_any_learner() -> None:
    assert Frozen(credit="rloo", sft={"corpus": "of another"}).update([]) == {}
