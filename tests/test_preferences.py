"""The losses on pairs and the cross-entropy, with every expected number worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learners.preferences import LOSSES, dpo, expected, hinge, ipo, margins, pair_loss, preferred, smoothed
from learners.sft import cross_entropy, sequence_shares, token_shares


def one(number: float) -> Any:
    return torch.tensor([number], dtype=torch.float64, requires_grad=True)


def test_spins_numbers() -> None:
    """log pi -10 / -12, opponent -11 / -11.5 (data / its own words): the margin is (-10 + 12) - (-11 + 11.5) = 1.5, and
    with beta 0.1 the loss is -log sigmoid(0.15) = log(1 + e^-0.15) = 0.62096; the hinge is 1 - 0.15 = 0.85."""
    margin = margins(one(-10), one(-12), one(-11), one(-11.5))
    assert margin.item() == 1.5
    assert dpo(margin, 0.1).item() == pytest.approx(0.62096, abs=5e-6)
    assert hinge(margin, 0.1).item() == pytest.approx(0.85)


@pytest.mark.parametrize(("name", "slope"), [("dpo", -0.05), ("hinge", -0.1), ("ipo", -10.0)])
def test_a_policy_that_is_its_own_opponent_still_learns(name: str, slope: float) -> None:
    """At m = 0 and beta 0.1: dpo is ln 2 with slope -beta / 2; the hinge 1 with -beta; ipo (1 / 0.2)^2 = 25 with
    -2 x 5 = -10. None of them is without a gradient."""
    chosen, rejected = one(-3), one(-5)
    loss = pair_loss(name)(margins(chosen, rejected, one(-3).detach(), one(-5).detach()), 0.1)
    assert loss.item() == pytest.approx({"dpo": math.log(2), "hinge": 1.0, "ipo": 25.0}[name])
    loss.backward()
    assert chosen.grad.item() == pytest.approx(slope) and rejected.grad.item() == pytest.approx(-slope)


def test_ipo_ends_at_its_margin() -> None:
    """(m - 1 / (2 beta))^2 with beta 0.25: 0 at m = 2, 4 at m = 0 and m = 4."""
    assert [ipo(one(m), 0.25).item() for m in (2.0, 0.0, 4.0)] == [0.0, 4.0, 4.0]


def test_a_hinge_lets_go() -> None:
    """Beyond m = 1 / beta there is neither loss nor gradient."""
    margin = one(10.5)
    loss = hinge(margin, 0.1)
    loss.backward()
    assert loss.item() == 0.0 and margin.grad.item() == 0.0


def test_dpo_does_not_overflow() -> None:
    assert dpo(one(-1e4), 1.0).item() == pytest.approx(1e4) and dpo(one(1e4), 1.0).item() == 0.0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("margin", [-3.0, 0.0, 2.5])
def test_an_equal_pair_has_no_gradient(name: str, margin: float) -> None:
    """The same words on both sides: what one side is pushed up by, the other is pushed down by."""
    logp = one(-4.0)
    loss = pair_loss(name)(margins(logp, logp, one(margin).detach(), one(0.0).detach()), 0.1)
    loss.backward()
    assert logp.grad.item() == 0.0


@pytest.mark.parametrize(("name", "best"), [("dpo", math.log(0.8 / 0.2) / 0.5), ("ipo", 0.3 / 0.5)])
def test_soft_labels_have_their_minimum_where_they_say(name: str, best: float) -> None:
    """p = 0.8, beta 0.5: dpo where sigmoid(beta m) = p, so m = ln 4 / 0.5; ipo where m = (p - 1/2) / beta = 0.6. With
    certain labels dpo has none at all."""
    margin = one(best)
    expected(pair_loss(name), margin, 0.5, torch.tensor([0.8])).backward()
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_no_preference_pulls_back_to_the_reference() -> None:
    """p = 1/2: no gradient at the reference, and towards it from either side."""
    for name in ("dpo", "ipo"):
        slopes = []
        for at in (-1.0, 0.0, 1.0):
            margin = one(at)
            expected(pair_loss(name), margin, 0.1, torch.tensor([0.5])).backward()
            slopes.append(margin.grad.item())
        assert slopes[0] < 0 < slopes[2] and slopes[1] == pytest.approx(0.0)


def test_label_smoothing() -> None:
    """epsilon 0.1: a certain label is 0.9, one of 0.7 is 0.9 x 0.7 + 0.1 x 0.3 = 0.66, none at all stays 0.5."""
    assert smoothed(1.0, 0.1) == 0.9 and smoothed(0.7, 0.1) == pytest.approx(0.66) and smoothed(0.5, 0.1) == 0.5
    assert smoothed(0.7, 0.0) == 0.7


def test_labels_from_log_probabilities() -> None:
    """-1 / -2: 1 / (1 + e^-1) = 0.73106, held to 0.6; swapped 0.26894, held to 0.4."""
    assert preferred(-1, -2) == pytest.approx(0.73106, abs=5e-6) and preferred(-1, -2, (0.4, 0.6)) == 0.6
    assert preferred(-2, -1) == pytest.approx(0.26894, abs=5e-6) and preferred(-2, -1, (0.4, 0.6)) == 0.4
    assert preferred(-1e4, -1) == 0.0 and preferred(-1, -1e4) == 1.0 and preferred(-5, -5) == 0.5


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_the_two_labels_of_a_pair_add_up(first: float, second: float) -> None:
    assert preferred(first, second) + preferred(second, first) == pytest.approx(1.0)


def test_an_unknown_loss() -> None:
    with pytest.raises(ValueError, match=r"learner.loss='hing' is unknown \(did you mean hinge\?\): use dpo, ipo,"):
        pair_loss("hing")


# -- imitation ---------------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_mean_over_tokens() -> None:
    """Three tokens of -1, -2, -3 and one of -6: (1 + 2 + 3 + 6) / 4 = 3, in one batch or in two."""
    logp_BT = torch.tensor([[-1.0, -2.0, -3.0], [-6.0, 0.0, 0.0]])
    share_B = torch.tensor(token_shares([3, 1]))
    assert cross_entropy(logp_BT, share_B).item() == pytest.approx(3.0)
    parts = [cross_entropy(logp_BT[i : i + 1], share_B[i : i + 1]).item() for i in (0, 1)]
    assert sum(parts) == pytest.approx(3.0)


def test_weights_of_words() -> None:
    """Weights 1 and 3 on 3 tokens and 1: (6 + 3 x 6) / (3 + 3) = 4; weights of 0 teach nothing, and there is no nan."""
    logp_BT = torch.tensor([[-1.0, -2.0, -3.0], [-6.0, 0.0, 0.0]])
    assert cross_entropy(logp_BT, torch.tensor(token_shares([3, 1], [1, 3]))).item() == pytest.approx(4.0)
    assert token_shares([3, 1], [0, 0]) == [0.0, 0.0] and token_shares([]) == []
    assert sequence_shares(4) == [0.25] * 4
    for weights in ([1.0, -0.5], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match="must be finite and not below 0"):
            token_shares([3, 1], weights)
