"""Losses and divergence estimators: gradients, not values (on-policy, the printed loss says nothing)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from learners.losses import KL_PLACEMENTS, KlPlacement, check_kl, k1, k2, k3, kl_penalty
from learners.surrogates import Surrogate

POLICY, REFERENCE = torch.tensor([0.7, 0.3], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)


def reinforce(logp_BT: Tensor, advantage_B: Tensor) -> Tensor:
    """The learner's own term as it stands: the whole sequence's ratio, which is 1, and no clip."""
    return Surrogate()(logp_BT, logp_BT.detach(), torch.ones_like(logp_BT), advantage_B)[0]


def exact_gradient(policy: Tensor, reference: Tensor, placement: KlPlacement) -> Tensor:
    """The expected gradient on the logits of a one-token softmax: every outcome, weighted by its probability."""
    logits = policy.log().clone().requires_grad_()
    logp_BT = logits.log_softmax(0)[:, None]
    reference_BT = reference.log()[:, None]
    if placement == "k1_in_reward":
        loss_B = reinforce(logp_BT, -(logp_BT - reference_BT).detach()[:, 0])
    else:
        loss_B = kl_penalty(logp_BT, reference_BT, placement)
    (policy * loss_B).sum().backward()
    assert logits.grad is not None
    return logits.grad


def test_the_value_of_the_divergence() -> None:
    """KL(pi || ref) = 0.7 log 1.4 + 0.3 log 0.6 = 0.235531 - 0.153248 = 0.082283; k1 and k3 both average to it."""
    delta = POLICY.log() - REFERENCE.log()
    assert (POLICY * k1(delta)).sum().item() == pytest.approx(0.08228, abs=5e-6)
    assert (POLICY * k3(delta)).sum().item() == pytest.approx(0.08228, abs=5e-6)


@pytest.mark.parametrize(
    ("placement", "first"),
    [
        ("k1_loss_literal", 0.0),
        ("k2_loss", 0.17793),
        ("k1_in_reward", 0.17793),
        ("k3_loss", 0.2),
        ("k3_times_ratio", 0.17793),
        ("none", None),
    ],
)
def test_the_kl_trap(placement: KlPlacement, first: float | None) -> None:
    """The gradient of KL(pi || ref) on the first logit is pi_1 (delta_1 - KL) = 0.7 (0.336472 - 0.082283) = 0.17793.
    k2 in the loss, k1 in the reward and the ratio times k3 have it; k3 in the loss has the forward KL's, pi_1 - ref_1 =
    0.2; the literal k1 has none at all."""
    if first is None:
        logp = torch.zeros(2, 1)
        assert kl_penalty(logp, logp + 1, placement).tolist() == [0, 0]
        return
    gradient = exact_gradient(POLICY, REFERENCE, placement)
    assert gradient.tolist() == pytest.approx([first, -first], abs=5e-6)


def test_the_kl_trap_on_six_outcomes() -> None:
    """The same against autograd through the exact divergences, in a bigger vocabulary."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(6, generator=generator, dtype=torch.float64).softmax(0) for _ in range(2))

    def gradient(divergence: str) -> Tensor:
        logits = policy.log().clone().requires_grad_()
        pi = logits.softmax(0)
        loss = (pi * (pi / reference).log()) if divergence == "reverse" else (reference * (reference / pi).log())
        loss.sum().backward()
        assert logits.grad is not None
        return logits.grad

    for placement in ("k2_loss", "k1_in_reward", "k3_times_ratio"):
        assert torch.allclose(exact_gradient(policy, reference, placement), gradient("reverse"), atol=1e-12)
    assert torch.allclose(exact_gradient(policy, reference, "k3_loss"), gradient("forward"), atol=1e-12)
    assert exact_gradient(policy, reference, "k1_loss_literal").abs().max() < 1e-12
    assert gradient("reverse").abs().max() > 0.05, "the zero above means something"


@pytest.mark.parametrize(
    ("estimate", "delta", "value", "slope"),
    [
        (k1, 0.5, 0.5, 1.0),
        (k2, 0.5, 0.125, 0.5),
        (k3, 0.5, 0.10653, 0.39347),
        (k1, -0.5, -0.5, 1.0),
        (k2, -0.5, 0.125, -0.5),
        (k3, -0.5, 0.14872, -0.64872),
    ],
)
def test_estimators(estimate, delta: float, value: float, slope: float) -> None:  # type: ignore[no-untyped-def]
    """k3(0.5) = exp(-0.5) + 0.5 - 1 = 0.60653 - 0.5 = 0.10653, slope 1 - 0.60653; k3(-0.5) = 1.64872 - 1.5."""
    x = torch.tensor(delta, dtype=torch.float64, requires_grad=True)
    y = estimate(x)
    y.backward()
    assert (y.item(), x.grad.item()) == (pytest.approx(value, abs=5e-6), pytest.approx(slope, abs=5e-6))  # type: ignore


def test_reinforce() -> None:
    """Value -A; gradient -A on the log-probability of every token: summed over tokens, no length normalisation."""
    logp_BT = torch.tensor([[-1.0, -2.0, -3.0], [-40.0, -60.0, 0.0]], requires_grad=True)
    advantage_B = torch.tensor([2.0, -0.5])
    loss_B = reinforce(logp_BT, advantage_B)
    assert loss_B.tolist() == [-2.0, 0.5]
    loss_B.sum().backward()
    assert logp_BT.grad is not None
    assert logp_BT.grad.tolist() == [[-2.0] * 3, [0.5] * 3], "even where the probability itself underflows"


def test_the_literal_loss_value() -> None:
    """N = 1, G = 2, A = [-1, 1], sequence log-ratios [0.2, -0.4] over two tokens, beta 0.1:
    L = -((-1 - 0.02) + (1 + 0.04)) / 2 = -0.01."""
    logp_BT, reference_BT = torch.tensor([[0.5, 0.0], [0.1, 0.2]]), torch.tensor([[0.4, -0.1], [0.3, 0.4]])
    loss_B = reinforce(logp_BT, torch.tensor([-1.0, 1.0]))
    loss_B = loss_B + 0.1 * kl_penalty(logp_BT, reference_BT, "k1_loss_literal")
    assert loss_B.mean().item() == pytest.approx(-0.01, abs=1e-7)


@pytest.mark.parametrize("placement", KL_PLACEMENTS)
def test_penalties_are_summed_per_token(placement: KlPlacement) -> None:
    """k3 of a summed log-ratio is not the sum of k3: [0.5, 0.5] gives 2 x 0.10653, not k3(1) = 0.36788."""
    log_ratio = torch.tensor([[0.5, 0.5, 0.0]])
    known = {"k2_loss": 0.25, "k3_loss": 0.21306, "k3_times_ratio": 0.21306, "k1_loss_literal": 1.0}
    expected = known.get(placement, 0.0)
    assert kl_penalty(log_ratio, torch.zeros(1, 3), placement).item() == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("estimate", "first"), [(k3, -0.02207), (k2, -0.01551)])
def test_why_k2_and_k3_are_refused_in_the_reward(estimate: Any, first: float) -> None:
    """As a detached penalty e(delta) the gradient on the first logit is pi_1 (e_1 - mean of e). k3: e = [0.714286 +
    0.336472 - 1, 1.666667 - 0.510826 - 1] = [0.050758, 0.155841], mean 0.082283: 0.7 (0.050758 - 0.082283) = -0.02207,
    where KL has +0.17793. k2: e = [0.056607, 0.130471], mean 0.078766: 0.7 (-0.022159) = -0.01551."""
    logits = POLICY.log().clone().requires_grad_()
    logp_BT = logits.log_softmax(0)[:, None]
    penalty_B = estimate(logp_BT - REFERENCE.log()[:, None]).detach()[:, 0]
    (POLICY * reinforce(logp_BT, -penalty_B)).sum().backward()
    assert logits.grad is not None and logits.grad.tolist() == pytest.approx([first, -first], abs=5e-6)


@pytest.mark.parametrize("placement", ["k3_reward", "k2_reward", "k3_in_reward", "k2_in_reward"])
def test_a_wrong_placement_is_refused(placement: str) -> None:
    wrong = rf"learner\.kl={placement} is refused: {placement[:2]} in the reward does not .* use k1_in_reward$"
    with pytest.raises(ValueError, match=wrong):
        check_kl(placement)
    with pytest.raises(ValueError, match=r"learner\.kl='k3_los' is unknown \(did you mean k3_loss\?\): use none, "):
        check_kl("k3_los")


def test_the_ratio_times_k3_off_policy() -> None:
    """log pi = -1, log pi_old = -1.5, log ref = -1.2: delta 0.2, k3 = 0.818731 + 0.2 - 1 = 0.018731, ratio e^0.5 =
    1.648721, product 0.030882. Its slope is ratio (k3 + 1 - e^-delta) = 1.648721 (0.018731 + 0.181269) = 0.329744."""
    logp = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    old, reference = torch.tensor([[-1.5]], dtype=torch.float64), torch.tensor([[-1.2]], dtype=torch.float64)
    loss = kl_penalty(logp, reference, "k3_times_ratio", old_BT=old)
    loss.backward()
    assert logp.grad is not None
    assert (loss.item(), logp.grad.item()) == (pytest.approx(0.030882, abs=1e-6), pytest.approx(0.329744, abs=1e-6))
