"""Ratios and clips: values, and which tokens still have a gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.surrogates import Surrogate, cispo_weight, ppo_clip

LOG_RATIO = [0.1, -0.1, 0.3]


def value_and_slope(surrogate: Surrogate, ratio: float, advantage: float) -> tuple[float, float]:
    """What one token of this ratio is worth to whom maximises it, and the gradient on its log-probability."""
    logp = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    old = logp.detach() - math.log(ratio)
    loss, _ = surrogate(logp, old, torch.ones(1, 1), torch.tensor([advantage], dtype=torch.float64))
    loss.backward()
    assert logp.grad is not None
    return -loss.item(), -logp.grad.item()


@pytest.mark.parametrize(
    ("options", "ratio", "advantage", "value", "alive"),
    [
        ({}, 1.5, 1.0, 1.2, False),
        ({}, 1.5, -1.0, -1.5, True),
        ({}, 0.5, 1.0, 0.5, True),
        ({}, 0.5, -1.0, -0.8, False),
        ({"eps_high": 0.28}, 1.25, 1.0, 1.25, True),
        ({}, 1.25, 1.0, 1.2, False),
        ({}, 5.0, -1.0, -5.0, True),
        ({"dual_clip": 3.0}, 5.0, -1.0, -3.0, False),
        ({"dual_clip": 3.0}, 2.0, -1.0, -2.0, True),
        ({"dual_clip": 3.0}, 5.0, 1.0, 1.2, False),
        ({"eps_low": 3e-4, "eps_high": 4e-4}, 1.0005, 1.0, 1.0004, False),
    ],
)
@pytest.mark.parametrize("kind", ["token", "sequence", "geometric"])
def test_the_clip(
    kind: str, options: dict[str, float], ratio: float, advantage: float, value: float, alive: bool
) -> None:
    """min(r A, clip(r) A) with epsilon 0.2: 1.5 x 1 against 1.2 x 1 is 1.2, of the constant; 1.5 x -1 against 1.2 x -1
    is -1.5, of the ratio; 0.5 x 1 against 0.8 x 1 is 0.5; 0.5 x -1 against 0.8 x -1 is -0.8, of the constant. A wider
    upper bound lets 1.25 pass; c = 3 stops at 3 x -1. Where the ratio is alive its slope on log pi is r A. One token:
    its ratio is its sequence's, and its geometric mean."""
    surrogate = Surrogate(ratio=kind, clip="ppo", **options)
    found, slope = value_and_slope(surrogate, ratio, advantage)
    assert found == pytest.approx(value, abs=1e-9)
    assert slope == pytest.approx(ratio * advantage if alive else 0.0, abs=1e-9)


@pytest.mark.parametrize(("cap", "floor", "weight"), [(5.0, 0.0, 1.5), (1.2, 0.8, 1.2), (0.2, 0.0, 0.2)])
def test_the_weight_of_cispo(cap: float, floor: float, weight: float) -> None:
    """A ratio of 1.5 under a cap of 5 (arXiv 2510.13786), within 1 +- 0.2 (verl), and under TRL's default, 0.2 as the
    absolute cap, which shrinks every token to a fifth: refused here."""
    assert cispo_weight(torch.tensor(1.5), cap, floor).item() == pytest.approx(weight)
    if cap < 1:
        with pytest.raises(ValueError, match=r"learner\.cispo_cap=0\.2 is the largest weight itself, and not a"):
            Surrogate(clip="cispo", cispo_cap=cap)


@pytest.mark.parametrize(("ratio", "advantage", "slope"), [(1.5, 1.0, 1.5), (9.0, 2.0, 10.0), (0.01, -1.0, -0.01)])
def test_cispo_drops_no_token(ratio: float, advantage: float, slope: float) -> None:
    """sg(min(r, 5)) A log pi at log pi = -1: the slope is min(r, 5) A, the value minus that, wherever the ratio is."""
    assert value_and_slope(Surrogate("token", "cispo"), ratio, advantage) == pytest.approx((-slope, slope))


@pytest.mark.parametrize(
    ("kind", "value", "slopes"),
    [
        ("token", 1.10517 + 0.90484 + 1.34986, [1.10517, 0.90484, 1.34986]),
        ("sequence", 1.34986, [1.34986] * 3),
        ("geometric", 3 * 1.10517, [1.10517] * 3),
    ],
)
def test_the_ratios(kind: str, value: float, slopes: list[float]) -> None:
    """Log-ratios 0.1, -0.1, 0.3, and a padded place: tokens e^0.1, e^-0.1, e^0.3; the sequence e^0.3; the geometric
    mean e^(0.3 / 3), which counts once per token, so that the mean over three tokens counts it once. A = 1: the slope
    of a token's log-probability is its ratio; of the sequence's, the product; of 3 e^(mean), e^(mean)."""
    logp = torch.tensor([[*LOG_RATIO, 0.7]], dtype=torch.float64, requires_grad=True)
    mask, old = torch.tensor([[True] * 3 + [False]]), torch.zeros(1, 4, dtype=torch.float64)
    loss, share = Surrogate(kind)(logp, old, mask, torch.ones(1, dtype=torch.float64))
    loss.backward()
    assert logp.grad is not None
    assert -loss.item() == pytest.approx(value, abs=2e-5) and share.tolist() == [0]
    assert [-x for x in logp.grad[0].tolist()] == pytest.approx([*slopes, 0.0], abs=1e-5)


@pytest.mark.parametrize("clip", ["none", "ppo", "cispo"])
@pytest.mark.parametrize("kind", ["token", "sequence", "geometric"])
def test_on_policy_all_are_reinforce(kind: str, clip: str) -> None:
    """At a ratio of 1 the gradient on every token's log-probability is -A, also where the probability underflows; the
    value of a whole sequence is -A (of tokens, T times that). An importance weight multiplies a token's gradient."""
    logp_BT = torch.tensor([[-1.0, -2.0, -3.0], [-40.0, -60.0, 0.0]], dtype=torch.float64, requires_grad=True)
    mask_BT = torch.tensor([[True, True, True], [True, True, False]])
    advantage_B = torch.tensor([2.0, -0.5], dtype=torch.float64)
    weights = torch.tensor([[2.0, 1.0, 0.5], [3.0, 1.0, 1.0]], dtype=torch.float64)
    for rho_BT in (None, weights):
        loss_B, _ = Surrogate(kind, clip)(logp_BT, logp_BT.detach(), mask_BT, advantage_B, rho_BT)
        found = torch.autograd.grad(loss_B.sum(), logp_BT)[0]
        plain = -advantage_B[:, None].expand(2, 3)
        expected = (plain if rho_BT is None else plain * rho_BT) * mask_BT
        torch.testing.assert_close(found[mask_BT], expected[mask_BT])
        if clip != "cispo":
            lengths = torch.tensor([1.0, 1.0] if kind == "sequence" else [3.0, 2.0], dtype=torch.float64)
            torch.testing.assert_close(loss_B.detach(), -advantage_B * lengths)


@pytest.mark.parametrize("clip", ["none", "ppo", "cispo"])
@pytest.mark.parametrize("kind", ["token", "sequence", "geometric"])
def test_without_an_advantage_there_is_no_gradient(kind: str, clip: str) -> None:
    logp, mask = torch.tensor([LOG_RATIO], requires_grad=True), torch.ones(1, 3, dtype=torch.bool)
    loss, _ = Surrogate(kind, clip, dual_clip=3.0)(logp, torch.zeros(1, 3), mask, torch.zeros(1))
    loss.sum().backward()
    assert loss.item() == 0 and logp.grad is not None and not logp.grad.any()


@pytest.mark.parametrize(
    ("kind", "clip", "share"),
    [
        ("token", "ppo", [2 / 3, 0.5]),
        ("sequence", "ppo", [1.0, 0.0]),
        ("geometric", "ppo", [1.0, 0.0]),
        ("token", "cispo", [1 / 3, 0.0]),
        ("token", "none", [0.0, 0.0]),
    ],
)
def test_the_share_that_the_clip_acts_on(kind: str, clip: str, share: list[float]) -> None:
    """Ratios 1.5, 1.1, 2.5 with A = 1: two are above 1.2, one above a cap of 2; their product and their geometric mean
    are above 1.2. With A = -1 (the third place is padding) a ratio below 0.8 is dead: of the tokens 0.5 and 1.5 the
    first; of 0.9 and 1.0 neither the product 0.9 nor the mean 0.949."""
    low = [0.5, 1.5] if kind == "token" else [0.9, 1.0]
    logp = torch.tensor([[1.5, 1.1, 2.5], [*low, 9.0]], dtype=torch.float64).log()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    advantage = torch.tensor([1.0, -1.0], dtype=torch.float64)
    _, found = Surrogate(kind, clip, cispo_cap=2.0)(logp, torch.zeros_like(logp), mask, advantage)
    assert found.tolist() == pytest.approx(share)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("clip", ["none", "ppo", "cispo"])
def test_a_ratio_beyond_all_bounds_does_not_poison_the_step(clip: str, advantage: float) -> None:
    """A sequence that has become e^400 times as likely: value and gradient stay finite."""
    logp = torch.full((1, 4), -1.0, requires_grad=True)
    old, mask = torch.full((1, 4), -101.0), torch.ones(1, 4, dtype=torch.bool)
    loss, _ = Surrogate("sequence", clip)(logp, old, mask, torch.tensor([advantage]))
    loss.sum().backward()
    assert loss.isfinite().all() and logp.grad is not None and logp.grad.isfinite().all()


def test_shapes_of_the_clip_broadcast() -> None:
    ratio, advantage = torch.full((2, 3), 1.5), torch.tensor([[1.0], [-1.0]])
    gain, dead = ppo_clip(ratio, advantage, 0.2, 0.2, 1.25)
    assert gain.tolist() == [[pytest.approx(1.2)] * 3, [-1.25] * 3] and dead.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ratio": "geometrical"},
            r"learner\.ratio='geometrical' is unknown \(did you mean geometric\?\): use ",
        ),
        ({"clip": "pp0"}, r"learner\.clip='pp0' is unknown \(did you mean ppo\?\): use none, ppo, cispo"),
        ({"eps_low": 1.5}, r"learner\.eps_low=1\.5 and learner\.eps_high=0\.2 bound a ratio"),
        ({"eps_high": -0.1}, r"learner\.eps_low=0\.2 and learner\.eps_high=-0\.1 bound a ratio"),
        ({"dual_clip": 0.5}, r"learner\.dual_clip=0\.5 is a ratio above 1"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Surrogate(**options)


def exact_step(surrogate: Surrogate, policy: Tensor) -> Tensor:
    """A gradient step on the expectation over both tokens; the first is worth 1, the second -1."""
    logits = policy.log().clone().requires_grad_()
    logp = logits.log_softmax(0)[:, None]
    loss_B, _ = surrogate(logp, policy.log()[:, None], torch.ones(2, 1), torch.tensor([1.0, -1.0], dtype=torch.float64))
    (policy * loss_B).sum().backward()
    assert logits.grad is not None
    return (logits - 0.5 * logits.grad).softmax(0).detach()


@pytest.mark.parametrize("clip", ["none", "ppo", "cispo"])
@pytest.mark.parametrize("kind", ["token", "sequence", "geometric"])
def test_a_bandit_of_two_tokens_improves(kind: str, clip: str) -> None:
    policy = torch.tensor([0.2, 0.8], dtype=torch.float64)
    for _ in range(30):
        better = exact_step(Surrogate(kind, clip), policy)
        assert better[0] > policy[0]
        policy = better
    assert policy[0] > 0.9
