"""The arithmetic of self-play pre-training: a corpus with fragments, and tokens weighed against an earlier self."""

from __future__ import annotations

import math

import pytest
import torch

from learners.mixture import annealed, beaten, harder_than_before, shares


def test_the_mixture() -> None:
    """CE(corpus) = 2 over 4 tokens, fragments of 2 and 5 tokens with CE 1 and 3, w = (1, 0), mu = .25:
    .75 x 2 + .25 x (1 x 1 + 0 x 3) / 1 = 1.75. With w = (1, 1) it is 1.5 + .25 x 2 = 2; all w = 0: the corpus' 2."""

    def loss(weights: list[float], mu: float = 0.25) -> float:
        mine, share = shares(weights, [2, 5], 4, mu)
        return share * 4 * 2.0 + mine[0] * 2 * 1.0 + mine[1] * 5 * 3.0

    assert loss([1.0, 0.0]) == pytest.approx(1.75) and loss([1.0, 1.0]) == pytest.approx(2.0)
    assert loss([0.0, 0.0]) == 2.0 and shares([], [], 4, 0.25) == ([], 0.25) and loss([1.0, 1.0], 0.0) == 2.0
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            loss([weight, 1.0])


def test_annealing() -> None:
    """From .3 to 0 in 10 steps: .3, .27, .15, 0, and 0 beyond them."""
    found = [annealed(0.3, 0.0, taken, 10) for taken in (0, 1, 5, 10, 11)]
    assert found == pytest.approx([0.3, 0.27, 0.15, 0, 0]) and annealed(0.3, 0.0, 9, None) == 0.3


def test_tokens_against_an_opponent() -> None:
    """Losses (2, 3), the opponent's (2.5, 2.5): sigmoid(-.5) = .37754 and sigmoid(.5) = .62246, over their mean .5:
    w = (.75508, 1.24492). Mean of w CE = (1.51016 + 3.73476) / 2 = 2.62246; lambda .5: (2.5 + 2.62246) / 2 = 2.56123.
    A model that is its own opponent: w = 1, and the loss is CE."""
    loss, opponent = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([2.5, 2.5])
    weight = harder_than_before(loss, opponent)
    assert weight.tolist() == pytest.approx([0.75508, 1.24492], abs=1e-5) and not weight.requires_grad
    assert float((weight * loss).mean().detach()) == pytest.approx(2.62246, abs=1e-5)
    assert float((0.5 * loss + 0.5 * weight * loss).mean().detach()) == pytest.approx(2.56123, abs=1e-5)
    assert harder_than_before(loss, loss.detach()).tolist() == [1.0, 1.0]


def test_pairwise_comparison() -> None:
    """-1 beats -2, -2 and -5; the two -2 draw with each other and beat -5: (3, 1.5, 1.5, 0) of 3."""
    assert beaten([-2.0, -1.0, -2.0, -5.0]) == [0.5, 1.0, 0.5, 0.0]
    assert beaten([3.0]) == [1.0] and beaten([1.0, 1.0]) == [0.5, 0.5]
