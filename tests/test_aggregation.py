"""What a token weighs, and what an answer pays for its length."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from learners.aggregation import AGGREGATIONS, check_aggregation, token_weights
from learners.overlong import Overlong, make_overlong


@pytest.mark.parametrize(
    ("aggregation", "weights", "value"),
    [
        ("seq_mean_token_mean", [0.25, 0.125], 0.0),
        ("token_mean", [1 / 6, 1 / 6], 1 / 3),
        ("constant", [0.0625, 0.0625], 0.125),
        ("seq_sum", [0.5, 0.5], 1.0),
    ],
)
def test_the_weight_of_a_token(aggregation: str, weights: list[float], value: float) -> None:
    """Two turns of 2 and 4 tokens, A = [1, -1], ratio 1, L = 8. Per token 1/(2 x 2) and 1/(2 x 4); 1/6; 1/(2 x 8); 1/2.
    The loss -sum of weight x A over tokens: -(2 x 0.25 - 4 x 0.125) = 0; -(2 - 4)/6 = 1/3; -(2 - 4)/16 = 0.125;
    -(2 - 4)/2 = 1. A role's own weight multiplies all."""
    constant = 8 if aggregation == "constant" else None
    found = token_weights([2, 4], aggregation, constant)
    assert found == pytest.approx(weights)
    assert -(2 * found[0] - 4 * found[1]) == pytest.approx(value)
    assert token_weights([2, 4], aggregation, constant, alpha=0.3) == pytest.approx([0.3 * w for w in weights])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equal_lengths_differ_by_a_factor_only(aggregation: str) -> None:
    found = token_weights([5, 5, 5], aggregation, 5)
    assert found == pytest.approx([1 / 3 if aggregation == "seq_sum" else 1 / 15] * 3)


def test_aggregations_are_checked(caplog: pytest.LogCaptureFixture) -> None:
    for aggregation in AGGREGATIONS:
        check_aggregation(aggregation, 8 if aggregation == "constant" else None, "token")
    with caplog.at_level(logging.WARNING):
        check_aggregation("seq_mean_token_mean", None, "geometric")
        assert not caplog.text
        check_aggregation("token_mean", None, "geometric")
    assert "learner.ratio=geometric with learner.aggregation=token_mean weighs an answer by its length" in caplog.text
    for keys, message in (
        (
            ("token_means", None),
            r"learner\.aggregation='token_means' is unknown \(did you mean token_mean\?\): use",
        ),
        (
            ("constant", None),
            r"learner\.aggregation=constant divides by learner\.constant=None: use a number",
        ),
        (("constant", 0), r"learner\.aggregation=constant divides by learner\.constant=0"),
        (("token_mean", 8), r"learner\.constant=8 is for learner\.aggregation=constant, not for token_mean"),
    ):
        with pytest.raises(ValueError, match=message):
            check_aggregation(*keys, "token")


@pytest.mark.parametrize(
    ("length", "paid"),
    [(0, 0.0), (16_384, 0.0), (16_385, -1 / 4096), (18_432, -0.5), (20_480, -1.0), (20_481, -1.0), (40_000, -1.0)],
)
@pytest.mark.parametrize("cache", [4096, 0.2])
def test_the_overlong_penalty(length: int, paid: float, cache: float) -> None:
    """DAPO: limit 20,480, cache 4,096, its fifth. (20,480 - 4,096 - |y|) / 4,096 between 16,384 and 20,480 tokens: half
    way, at 18,432, it is -2,048 / 4,096."""
    assert Overlong(20_480, cache)("solver", length) == pytest.approx(paid)


def test_who_pays_for_length() -> None:
    some = make_overlong({"limit": 10, "cache": 5, "roles": ["solver"]})
    assert some is not None and some("solver", 10) == -1 and some("challenger", 10) == 0
    assert make_overlong(None) is None and make_overlong(some) is some


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limits": 10}, r"learner\.overlong\.limits is unknown \(did you mean limit\?\): use limit, cache, roles"),
        ({"cache": 0.2}, r"learner\.overlong has no limit"),
        ({"limit": 10, "cache": 11}, r"learner\.overlong: limit=10 and cache=11 are no lengths"),
        ({"limit": 10, "cache": 0}, r"learner\.overlong: limit=10 and cache=0 are no lengths"),
        ({"limit": 0}, r"learner\.overlong: limit=0 and cache=0\.2 are no lengths"),
    ],
)
def test_a_penalty_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_overlong(given)
