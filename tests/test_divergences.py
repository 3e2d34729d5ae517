"""Divergences between two distributions, and the loss of a mixture, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learners.divergences import forward_kl, generalised_jsd, reverse_kl

T, S = [0.7, 0.3], [0.5, 0.5]


def logs(probabilities: list[float]) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_forward_and_reverse_kl() -> None:
    """T = (.7, .3), S = (.5, .5). Forward: .7 ln 1.4 + .3 ln .6 = .23553 - .15325 = .08228. Reverse: .5 ln (5/7) +
    .5 ln (5/3) = -.16824 + .25541 = .08718."""
    assert float(forward_kl(logs(T), logs(S))) == pytest.approx(0.08228, abs=1e-5)
    assert float(reverse_kl(logs(T), logs(S))) == pytest.approx(0.08718, abs=1e-5)
    assert float(forward_kl(logs(T), logs(T))) == float(reverse_kl(logs(S), logs(S))) == 0


@pytest.mark.parametrize(("beta", "expected"), [(0.1, 0.00743), (0.5, 0.02101), (0.9, 0.00778)])
def test_generalised_jsd(beta: float, expected: float) -> None:
    """beta = .1: M = .1 T + .9 S = (.52, .48), KL(T||M) = .7 ln(.7/.52) + .3 ln(.3/.48) = .06708, KL(S||M) = .00080,
    .1 x .06708 + .9 x .00080 = .00743. beta = .5: M = (.6, .4), (.02160 + .02041) / 2 = .02101. beta = .9:
    M = (.68, .32), .9 x .00093 + .1 x .06940 = .00778. With beta and 1 - beta changed over, .1 would give .00837."""
    assert float(generalised_jsd(logs(T), logs(S), beta)) == pytest.approx(expected, abs=5e-6)
    assert abs(float(generalised_jsd(logs(S), logs(T), beta)) - expected) > 1e-5 or beta == 0.5


def test_the_ends_are_the_divergences_and_the_formula_is_not() -> None:
    """beta = 0 is the forward KL, .08228; beta = .001 about .001 of it. At the other end .001 of the reverse KL."""
    forward, reverse = float(forward_kl(logs(T), logs(S))), float(reverse_kl(logs(T), logs(S)))
    assert float(generalised_jsd(logs(T), logs(S), 0)) == forward
    assert float(generalised_jsd(logs(T), logs(S), 1)) == reverse
    assert float(generalised_jsd(logs(T), logs(S), 0.001)) == pytest.approx(0.001 * forward, rel=0.01)
    assert float(generalised_jsd(logs(T), logs(S), 0.999)) == pytest.approx(0.001 * reverse, rel=0.01)
    for beta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="is no share: use 0"):
            generalised_jsd(logs(T), logs(S), beta)


def slope(beta: float, teacher: Tensor, logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    generalised_jsd(teacher, logits.log_softmax(-1), beta).sum().backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_gradient_in_the_logits(beta: float) -> None:
    """Of the forward KL S - T, of the reverse KL S (log S/T - KL(S||T)), else (1 - beta) S (log S/M - KL(S||M)): the
    teacher's term and the constant of the student's cancel, as beta T + (1 - beta) S = M."""
    generator = torch.Generator().manual_seed(0)
    teacher, logits = (2 * torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    teacher, student = teacher.log_softmax(-1), logits.log_softmax(-1)
    if beta == 0:
        expected = student.exp() - teacher.exp()
    else:
        mixture = teacher if beta == 1 else (beta * teacher.exp() + (1 - beta) * student.exp()).log()
        apart = student - mixture
        expected = student.exp() * (apart - (student.exp() * apart).sum(-1, keepdim=True))
        expected = expected if beta == 1 else (1 - beta) * expected
    assert torch.allclose(slope(beta, teacher, logits), expected, atol=1e-12)
    assert torch.allclose(slope(beta, student, logits), torch.zeros_like(logits), atol=1e-15), "equal: no gradient"


def test_the_policy_gradient_of_one_token_is_the_gradient_of_the_reverse_kl_in_the_mean() -> None:
    """sum_v S(v) (-(log T(v) - log S(v))) grad log S(v), over all tokens v that the student may sample."""
    teacher, logits = logs([0.6, 0.3, 0.1]), torch.tensor([[0.2, -0.4, 0.9]], dtype=torch.float64)
    mean = torch.zeros_like(logits)
    for token in range(3):
        free = logits.clone().requires_grad_()
        logp = free.log_softmax(-1)[0, token]
        advantage = teacher[0, token] - logp.detach()
        (grad,) = torch.autograd.grad(-advantage * logp, free)
        mean += logp.detach().exp() * grad
    assert torch.allclose(mean, slope(1.0, teacher, logits), atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_words_that_neither_can_say(beta: float) -> None:
    """A token that both rule out adds nothing, neither to the value nor, as nan, to the gradient."""
    teacher = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64).log()
    logits = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log()
    found = slope(beta, teacher, logits)
    assert torch.allclose(found[:, :2], slope(beta, teacher[:, :2], logits[:, :2])) and float(found[0, 2]) == 0
    value = generalised_jsd(teacher, logits.log_softmax(-1), beta)
    assert torch.allclose(value, generalised_jsd(logs(T), logs(S), beta))


distribution = st.lists(st.floats(-8, 8), min_size=4, max_size=4).map(
    lambda row: torch.tensor([row], dtype=torch.float64).log_softmax(-1)
)


@given(distribution, distribution, st.floats(0.01, 0.99))
def test_bounds(teacher: Tensor, student: Tensor, beta: float) -> None:
    """0 <= JSD <= the entropy of (beta, 1 - beta), and changing T and S over is changing beta and 1 - beta over."""
    found = float(generalised_jsd(teacher, student, beta))
    assert -1e-12 <= found <= -beta * math.log(beta) - (1 - beta) * math.log(1 - beta) + 1e-12
    assert found == pytest.approx(float(generalised_jsd(student, teacher, 1 - beta)), abs=1e-12)
