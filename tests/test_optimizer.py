"""Optimizers and learning rates: their state survives, and the rate is the one that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from learners.optimizer import load_optimizer, rate, save_optimizer
from learners.policy_gradient import PolicyGradient
from tests.helpers import make_engine
from tests.test_policy_gradient import play


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor"])
def test_saved_and_loaded_an_optimizer_goes_on_to_the_byte(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": name, "lr": 1e-3, "schedule": "cosine", "warmup": 2, "steps": 6}
    engine, other = make_engine(), make_engine(seed=4)
    learner = PolicyGradient(engine, **options)
    for seed in (1, 2):
        learner.update(play(engine, seed=seed))
    for part, member in (("model", engine), ("learner", learner)):
        (tmp_path / part).mkdir()
        member.save(tmp_path / part)
    resumed = PolicyGradient(other, **options)
    other.load(tmp_path / "model")
    resumed.load(tmp_path / "learner")
    assert resumed.step.taken == 2
    episodes = play(engine, seed=3)
    assert learner.update(episodes) == resumed.update(episodes)
    for (_, p), (_, q) in zip(learner.named, resumed.named, strict=True):
        assert torch.equal(p, q)


def test_numbers_and_shared_tensors_of_a_state(tmp_path: Path) -> None:
    """An 8-bit optimizer counts its steps in an int and shares its table of values among parameters."""
    table, states = torch.linspace(-1, 1, 256), []
    parameters = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    named = list(zip(("a.b", "c"), parameters, strict=True))
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    for number, parameter in enumerate(parameters):
        states.append({"step": 7, "state1": torch.full((4,), number, dtype=torch.uint8), "qmap1": table})
        optimizer.state[parameter] = states[-1]
    save_optimizer(optimizer, named, tmp_path, {"taken": 3})
    fresh = torch.optim.SGD(parameters, lr=1.0)
    assert load_optimizer(fresh, named, tmp_path) == {"taken": 3}
    for parameter, state in zip(parameters, states, strict=True):
        loaded = fresh.state[parameter]
        assert loaded["step"] == 7 and type(loaded["step"]) is int and loaded.keys() == state.keys()
        assert all(torch.equal(loaded[k], state[k]) and loaded[k].dtype == state[k].dtype for k in ("state1", "qmap1"))


def test_rates() -> None:
    """Two steps of warm-up at 1/3 and 2/3; then to 0 in four steps: 1, 3/4, 1/2, 1/4, and by the cosine 1, (1 + cos
    45) / 2 = 0.85355, 0.5, 0.14645."""
    assert [rate(n, "constant", 2, None) for n in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert [rate(n, "linear", 2, 6) for n in range(2, 8)] == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])
    assert [rate(n, "cosine", 2, 6) for n in range(2, 8)] == pytest.approx([1, 0.85355, 0.5, 0.14645, 0, 0], abs=1e-5)


def test_the_rate_is_the_optimizers() -> None:
    engine = make_engine()
    learner = PolicyGradient(engine, lr=1e-3, schedule="linear", steps=4)
    for seed, share in enumerate((1, 0.75, 0.5), 1):
        learner.update(play(engine, seed=seed))
        assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(share * 1e-3)
    learner.update([])
    assert learner.step.taken == 3, "a step that is skipped takes no turn"
