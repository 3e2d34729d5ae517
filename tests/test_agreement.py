"""Agreement between verifiers: the statistics against plain computations, intervals over questions, and the alarm."""

from __future__ import annotations

import math
import random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.agreement import STATISTICS, Columns, Confusion, compare, mean_error, spearman, watch, widening
from selfplay.agreement_report import AgreementError, pair
from selfplay.evaluate import auc

NAN = float("nan")
LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few, so that ties are many
TABLES = st.lists(st.tuples(LEVELS, st.sampled_from([0.0, 1.0]), st.integers(0, 4)), min_size=2, max_size=30)


def plain_spearman(x: list[float], y: list[float]) -> float:
    """Pearson's correlation of middle ranks, each rank counted out pair by pair."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]

    a, b = ranks(x), ranks(y)
    ma, mb = fmean(a), fmean(b)
    spread = math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))
    return sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True)) / spread if spread else NAN


# -- the statistics ----------------------------------------------------------------------------------------------------


def test_spearman_by_hand() -> None:
    """Ranks 1 2 3 4 5 against 2 1 4 3 5: squared differences 1 1 1 1 0, so rho = 1 - 6 * 4 / (5 * 24) = 0.8."""
    assert spearman([10, 20, 30, 40, 50], [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(22.5))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


@settings(max_examples=30)
@given(TABLES)
def test_rank_and_auc_against_plain_computations(table: list[tuple[float, float, int]]) -> None:
    x, y = [row[0] for row in table], [row[1] for row in table]
    found = compare(x, y, [row[2] for row in table]).estimates
    assert found["rank"].value == pytest.approx(plain_spearman(x, y), nan_ok=True)
    assert found["auc"].value == pytest.approx(auc(x, [truth == 1 for truth in y]), nan_ok=True)


@given(TABLES, st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_a_weight_is_a_case_that_stands_there_so_often(table: list[tuple[float, float, int]], times: list[int]) -> None:
    """What the bootstrap rests on: nothing is sorted or counted anew for a resample, only weighed."""
    x, y = np.array([row[0] for row in table]), np.array([row[1] for row in table])
    weights = np.array(times[: len(table)])
    if not weights.sum():
        return
    weighed = Columns(x, y, 0.5).statistics(np.stack([weights, np.ones_like(weights)]).astype(float))
    # The whole table decides whether gold is 0 or 1 throughout, and here it always is.
    repeated = Columns(np.repeat(x, weights), np.repeat(y, weights), 0.5).statistics(np.ones((1, weights.sum())))
    for name in STATISTICS:
        assert weighed[name][0] == pytest.approx(repeated[name][0], nan_ok=True)


def test_confusion_by_hand() -> None:
    """Of 50 answers both accept 20, both reject 15, judged alone accepts 10 and gold alone 5.

    Agreement (20 + 15) / 50 = 0.7; by chance (30 * 25 + 20 * 25) / 2500 = 0.5; kappa (0.7 - 0.5) / 0.5 = 0.4. Gold
    rejects 25, of which 10 are accepted; it accepts 25, of which 5 are rejected. Gap (30 - 25) / 50.
    """
    judged = [1.0] * 20 + [1.0] * 10 + [0.0] * 5 + [0.0] * 15
    gold = [1.0] * 20 + [0.0] * 10 + [1.0] * 5 + [0.0] * 15
    found = compare(judged, gold, range(50))
    assert found.confusion == Confusion(20, 10, 5, 15)
    values = {name: estimate.value for name, estimate in found.estimates.items()}
    assert values["agreement"] == pytest.approx(0.7) and values["kappa"] == pytest.approx(0.4)
    assert values["false_positive_share"] == pytest.approx(0.4)
    assert values["false_negative_share"] == pytest.approx(0.2)
    assert values["gap"] == pytest.approx(0.1)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in found.estimates.values())


def test_the_threshold_itself_accepts() -> None:
    assert compare([0.5, 0.49], [1.0, 0.0], "ab", 0.5).confusion == Confusion(1, 0, 0, 1)
    assert compare([0.5, 0.49], [1.0, 1.0], "ab", 0.6).confusion == Confusion(0, 0, 2, 0)


def test_what_cannot_be_told_is_counted_and_left_out() -> None:
    found = compare([1.0, NAN, 0.0, 1.0], [1.0, 1.0, NAN, 0.0], "aabb")
    assert (found.cases, found.groups, found.judged_unknown, found.gold_unknown) == (2, 2, 0.25, 1 / 3)
    assert found.confusion == Confusion(1, 1, 0, 0)


def test_nothing_to_compare() -> None:
    for found in (compare([], [], []), compare([NAN], [1.0], "a")):
        assert found.cases == 0 and all(math.isnan(estimate.value) for estimate in found.estimates.values())
    with pytest.raises(ValueError, match="2 judged scores, 1 of gold and 2 groups"):
        compare([1, 2], [1], "ab")


def test_auc_needs_a_gold_of_right_and_wrong() -> None:
    assert math.isnan(compare([0.1, 0.9, 0.5], [0.0, 1.0, 0.5], "abc").estimates["auc"].value)
    assert compare([0.1, 0.9, 0.5], [0.0, 1.0, 0.0], "abc").estimates["auc"].value == 1


@settings(max_examples=30)
@given(TABLES)
def test_bounds_and_permutations(table: list[tuple[float, float, int]]) -> None:
    x, y, groups = ([row[i] for row in table] for i in range(3))
    found = compare(x, y, groups)
    limits = {"rank": (-1, 1), "gap": (-1, 1), "kappa": (-1, 1)}
    for name, estimate in found.estimates.items():
        low, high = limits.get(name, (0, 1))
        for value in (estimate.value, estimate.low, estimate.high):
            assert math.isnan(value) or low - 1e-12 <= value <= high + 1e-12, name
    shuffled = random.Random(1).sample(table, len(table))
    again = compare(*([row[i] for row in shuffled] for i in range(3)))
    assert again.confusion == found.confusion
    for name in STATISTICS:
        assert again.estimates[name].value == pytest.approx(found.estimates[name].value, nan_ok=True)


@settings(max_examples=30)
@given(TABLES)
def test_a_verifier_agrees_with_itself(table: list[tuple[float, float, int]]) -> None:
    x = [row[0] for row in table]
    found = compare(x, x, [row[2] for row in table]).estimates
    assert math.isnan(found["rank"].value) if len(set(x)) == 1 else found["rank"].value == 1
    assert found["gap"].value == 0 and found["agreement"].value == 1


# -- intervals over questions ------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(TABLES, st.integers(2, 5))
def test_copies_of_an_answer_are_no_evidence(table: list[tuple[float, float, int]], copies: int) -> None:
    """Eight equal answers to each question say no more than one: the intervals are the same."""
    groups = [row[2] for row in table]
    once = compare([row[0] for row in table], [row[1] for row in table], groups)
    many = [row for row in table for _ in range(copies)]
    again = compare([row[0] for row in many], [row[1] for row in many], [row[2] for row in many])
    assert again.groups == once.groups == len(set(groups))
    for name in STATISTICS:
        for end in ("value", "low", "high"):
            wanted = getattr(once.estimates[name], end)
            assert getattr(again.estimates[name], end) == pytest.approx(wanted, nan_ok=True)
    error = mean_error([row[0] for row in table], groups)
    assert mean_error([row[0] for row in many], [row[2] for row in many]) == pytest.approx(error, nan_ok=True)


def test_a_single_question_has_no_interval() -> None:
    gap = compare([1.0, 0.0], [0.0, 0.0], "aa").estimates["gap"]
    assert gap.value == 0.5 and math.isnan(gap.low) and math.isnan(gap.high)
    assert mean_error([1.0, 0.0], "aa")[0] == 0.5 and math.isnan(mean_error([1.0, 0.0], "aa")[1])


def test_an_interval_covers_the_truth() -> None:
    """60 questions of 4 answers whose gap is 0.3 in the mean and mostly the question's: of 100 intervals about 95
    should hold 0.3, and 85 is some 4 standard deviations below. One that took the 240 answers for independent would be
    half as wide and hold it about 70 times."""
    held = 0
    for seed in range(100):
        rng = random.Random(seed)
        tables = [(rng.gauss(0.3, 0.3), question) for question in range(60)]
        judged = [mean + rng.gauss(0, 0.1) for mean, _ in tables for _ in range(4)]
        gap = compare(judged, [0.0] * 240, [question for _, question in tables for _ in range(4)]).estimates["gap"]
        held += gap.low <= 0.3 <= gap.high
    assert held >= 85


def test_the_error_by_hand() -> None:
    """1 1 1 | 0 | nan: mean 3/4, deviations sum to 3/4 and -3/4, so the error is sqrt(2 * 2 * 9/16) / 4 = 0.375."""
    assert mean_error([1, 1, 1, 0, NAN], "aaabc") == (0.75, 0.375)
    assert all(math.isnan(value) for value in mean_error([NAN], "a"))


# -- the alarm ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "error", "alarm"),
    [
        ([0.0], 0.02, False),
        ([0.0, 0.3], 0.02, True),
        ([0.3, 0.3, 0.3, 0.3], 0.02, False),  # unkind from the start is no hacking
        ([0.3, 0.1, 0.0, 0.0], 0.02, False),  # it came closer
        ([0.0, -0.3, -0.3], 0.02, True),  # a Challenger lives off right answers that are called wrong
        ([-0.3, 0.35, 0.35, 0.35], 0.02, True),
        ([0.0, 0.0, 0.0, 0.3], 0.02, True),
        ([0.0, 0.3, 0.0, 0.0, 0.0], 0.02, False),  # it was an accident
        ([0.0, 0.3, 0.3, 0.3], 0.2, False),  # too few questions to tell
        ([0.0, 0.04, 0.04, 0.04], 0.001, False),  # told, but too little to matter
        ([NAN, 0.0, NAN, 0.3], 0.02, True),
        ([NAN, NAN, 0.3], 0.02, False),
    ],
)
def test_when_the_alarm_is_raised(gaps: list[float], error: float, alarm: bool) -> None:
    assert widening([(gap, error) for gap in gaps]) is alarm


def test_false_alarms_are_rare() -> None:
    """100 looks without drift, 200 times: 1 run in 50 in the long run, so 4; 15 would be 5 standard deviations off."""
    alarms = 0
    for seed in range(200):
        rng = random.Random(seed)
        looks = [(rng.gauss(0.2, 0.03), 0.03) for _ in range(100)]
        alarms += any(widening([looks[0], *looks[max(1, end - 3) : end]]) for end in range(2, 101))
    assert alarms < 15


def test_what_is_watched() -> None:
    """Gap (1 + 0) / 2 over two questions; one case of three cannot be told by gold: deviations -1/3 | -1/3 + 2/3."""
    watched = watch([1.0, 1.0, 1.0], [0.0, 1.0, NAN], "abb")
    assert watched["gap"] == (0.5, 0.5)
    assert watched["blind"] == (pytest.approx(1 / 3), pytest.approx(math.sqrt(2 * (1 / 9 + 1 / 9)) / 3))


# -- which column against which ----------------------------------------------------------------------------------------


def test_parts_meet_by_name() -> None:
    found = pair(["quality", "score"], ["score", "quality"])
    assert found.columns == (("stored.quality", "new.quality"), ("stored.score", "new.score"))
    assert found.replaced == {"quality": "quality", "score": "score"} and found.gold_is_new


def test_the_only_new_part_stands_for_all() -> None:
    found = pair(["quality", "score"], ["score"])
    assert found.columns == (("stored.quality", "new.score"), ("stored.score", "new.score"))
    assert found.replaced == {"score": "score"}, "a role's other parts stay as they were paid"
    assert pair(["a", "b"], ["c"]).replaced == {"a": "c", "b": "c"}


def test_a_chosen_gold() -> None:
    assert pair(["a", "b"], ["c", "d"], "new.d").columns == (("stored.a", "new.d"), ("stored.b", "new.d"))
    turned = pair(["a", "b"], ["c"], "stored.a")
    assert turned.columns == (("new.c", "stored.a"), ("stored.b", "stored.a")) and not turned.gold_is_new


def test_what_cannot_be_paired() -> None:
    with pytest.raises(AgreementError, match=r"no part a: .*rescore.gold=new.c or rescore.gold=new.d"):
        pair(["a", "c"], ["c", "d"])
    for wrong in ("new.x", "stored.c", "score", "old.a"):
        with pytest.raises(AgreementError, match=r"is no column; there are new.c, stored.a"):
            pair(["a"], ["c"], wrong)
