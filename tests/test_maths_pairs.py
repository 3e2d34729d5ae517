"""The bar of the maths verifier over the strict pairs: nothing wrong is accepted, and hardly anything right refused."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.maths_pairs import PAIRS, Pair
from verifiers.sympy_solver import SympySolver


@pytest.fixture(scope="module")
def scores() -> Iterator[dict[Pair, float]]:
    solver = SympySolver(deadline=20.0)  # far above what these need, on a machine however loaded
    cases = [{"query": "", "answer": pair.answer, "reference": pair.reference} for pair in PAIRS]
    yield dict(zip(PAIRS, solver(cases), strict=True))
    solver.close()


def test_no_wrong_answer_is_accepted(scores: dict[Pair, float]) -> None:
    assert [pair for pair, score in scores.items() if score == 1.0 and not pair.right] == []


def test_hardly_any_right_answer_is_refused(scores: dict[Pair, float]) -> None:
    right = [pair for pair in PAIRS if pair.right]
    refused = [pair for pair in right if scores[pair] != 1.0]
    assert len(refused) <= 0.05 * len(right), refused


def test_it_abstains_only_where_the_reference_is_at_fault(scores: dict[Pair, float]) -> None:
    """A wrong answer is 0 and no way out: nan only for the reference 1/0."""
    assert {pair.reference for pair, score in scores.items() if math.isnan(score)} == {"1/0"}


def test_the_list_is_long_and_two_sided() -> None:
    sides = Counter((pair.kind, pair.right) for pair in PAIRS)
    assert len(PAIRS) >= 160 and len({(pair.reference, pair.answer) for pair in PAIRS}) == len(PAIRS)
    for kind in {pair.kind for pair in PAIRS} - {"injection"}:
        assert sides[kind, True] >= 3 and sides[kind, False] >= 3, kind
