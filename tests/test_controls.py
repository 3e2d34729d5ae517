"""The controls: a score that carries no signal, and a verifier made worse by a known amount."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.types import Case
from verifiers.random_score import RandomScore
from verifiers.spoiled import Spoiled

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["", "\ud83d", "<|im_end|>", "\x00"])
CASES = st.lists(st.builds(lambda query, answer: make(query, answer), TEXT, TEXT), max_size=8)


def make(query: str = "", answer: str = "", reference: str = "") -> dict[str, str]:
    return {"query": query, "answer": answer, "reference": reference}


def auc(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """P(a right answer scores above a wrong one), ties counting half."""
    right = [score for score, is_right in zip(scores, truth, strict=True) if is_right]
    wrong = [score for score, is_right in zip(scores, truth, strict=True) if not is_right]
    return sum((a > b) + 0.5 * (a == b) for a in right for b in wrong) / (len(right) * len(wrong))


def perfect(cases: Sequence[Case]) -> list[float]:
    """1.0 where the answer equals the reference, nan where there is no reference."""
    return [float(case["answer"] == case["reference"]) if case["reference"] else math.nan for case in cases]


def batch(size: int, right: float, seed: int) -> tuple[list[dict[str, str]], list[bool]]:
    rng = random.Random(seed)
    truth = [rng.random() < right for _ in range(size)]
    return [make(f"q{i}", "yes" if is_right else "no", "yes") for i, is_right in enumerate(truth)], truth


@settings(max_examples=60, deadline=None)
@given(cases=CASES, seed=st.integers())
def test_random_score_is_replayable_and_blind_to_the_order(cases: list[dict[str, str]], seed: int) -> None:
    scores = RandomScore(seed)(cases)
    assert RandomScore(seed)(cases) == scores
    assert len(scores) == len(cases) and set(scores) <= {0.0, 1.0}
    reverse = RandomScore(seed)(cases[::-1])
    key = lambda pairs: sorted(((c["query"], c["answer"], s) for c, s in pairs))  # noqa: E731
    assert key(zip(cases[::-1], reverse, strict=True)) == key(zip(cases, scores, strict=True))


def test_random_score_is_fair_and_knows_nothing() -> None:
    cases, truth = batch(1000, 0.5, 0)
    scores = RandomScore()(cases)
    # 1000 fair coins: mean within 4 standard deviations of 1/2; the hash is fixed, so this holds always or never.
    assert abs(sum(scores) / 1000 - 0.5) < 4 * math.sqrt(0.25 / 1000)
    assert abs(auc(scores, truth) - 0.5) < 0.07
    assert RandomScore(1)(cases) != scores


def test_identical_siblings_are_scored_one_by_one() -> None:
    scores = RandomScore()([make("2+2", "4")] * 400)
    assert abs(sum(scores) / 400 - 0.5) < 0.1


def test_an_answer_earns_no_fixed_score_over_the_steps() -> None:
    """Else a policy could learn the hash's favourites: the same answer in other company is another coin."""
    scores = [RandomScore()([make("2+2", "4"), make("1+1", str(step))])[0] for step in range(400)]
    assert abs(sum(scores) / 400 - 0.5) < 0.1


def test_equal_controls_are_equal() -> None:
    assert RandomScore(3) == RandomScore(3) != RandomScore(4)
    assert Spoiled(perfect, 0.5) == Spoiled(perfect, 0.5, 0) != Spoiled(perfect, 0.5, 1)
    assert len({RandomScore(3), RandomScore(3)}) == 1 == len({Spoiled(perfect), Spoiled(perfect)})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("right", [0.5, 0.2])
def test_spoiled_auc_falls_to_one_minus_half_the_share(share: float, right: float) -> None:
    """By hand: of the pairs (right, wrong), (1-s)^2 are clean and rank right; with one side spoiled the spoiled score
    is 1 with probability p, which gives (1 - p/2) or (1 + p)/2, together 3/2 for the two kinds of s(1-s); with both
    spoiled 1/2. So (1-s)^2 + 3/2 s(1-s) + s^2/2 = 1 - s/2, whatever p is; s = 0.9 gives 0.55."""
    values: list[float] = []
    for seed in range(20):
        cases, truth = batch(200, right, seed)
        values.append(auc(Spoiled(perfect, share)(cases), truth))
    assert abs(sum(values) / len(values) - (1 - share / 2)) < 0.03


def test_small_batches_are_not_inverted() -> None:
    """Two cases, one right: a shuffle without fixed points would turn the truth around; ours gives 1/2 on average."""
    values = [auc(Spoiled(perfect, 1.0)([make(f"{i}", "a", "a"), make(f"{i}", "b", "a")]), [True, False])
              for i in range(400)]  # fmt: skip
    assert abs(sum(values) / 400 - 0.5) < 0.1


@settings(max_examples=60, deadline=None)
@given(cases=CASES, share=st.floats(0, 1), seed=st.integers())
def test_spoiled_only_moves_scores(cases: list[dict[str, str]], share: float, seed: int) -> None:
    def numbered(batch: Sequence[Case]) -> list[float]:
        return [math.nan if i % 3 == 0 else float(i) for i in range(len(batch))]

    scores = Spoiled(numbered, share, seed)(cases)
    plain = numbered(cases)
    assert [math.isnan(score) for score in scores] == [math.isnan(score) for score in plain], "nan stays"
    assert sorted(s for s in scores if s == s) == sorted(s for s in plain if s == s)
    moved = sum(a != b for a, b in zip(scores, plain, strict=True) if b == b)
    assert moved <= round(share * sum(s == s for s in plain))
    again = Spoiled(numbered, share, seed)(cases)
    assert [repr(score) for score in again] == [repr(score) for score in scores]


def test_spoiled_draws_anew_for_other_cases_and_seeds() -> None:
    first, _ = batch(50, 0.5, 0)
    tagged = [{**case, "query": case["query"] + "!"} for case in first]
    scores = Spoiled(perfect)(first)
    assert scores != Spoiled(perfect)(tagged)
    assert scores != Spoiled(perfect, seed=1)(first)


def test_spoiled_passes_a_wrong_count_on() -> None:
    assert len(Spoiled(lambda cases: [1.0], 1.0)([make(), make()])) == 1


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_spoiled_refuses_a_share_outside(share: float) -> None:
    with pytest.raises(ValueError, match="share is"):
        Spoiled(perfect, share)
