"""Majority: what counts as one answer, who may vote, ties and silence; in any order, and within a deadline."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.compose import register_resolvers
from selfplay.deadline import DeadlinePassed, deadline
from selfplay.shapes import SHAPES
from selfplay.testing import check_verifier
from selfplay.types import Action, Episode, Turn
from verifiers.equality import Equality, final, plain
from verifiers.majority import Majority
from verifiers.sympy_solver import SympySolver

CONF = Path(__file__).resolve().parent.parent / "conf"
NAN = pytest.approx(math.nan, nan_ok=True)


@pytest.fixture(scope="module")
def majority() -> Iterator[Majority]:
    verifier = Majority()
    yield verifier
    verifier.close()


@pytest.fixture(scope="module")
def equality() -> Iterator[Equality]:
    judge = SympySolver()
    yield Equality(judge)
    judge.close()


def vote(verifier: Majority, answers: Sequence[str], query: str = "12 + 34 = ?") -> list[float]:
    verifier.metrics()
    return verifier([{"query": query, "answer": answer, "reference": ""} for answer in answers])


def test_the_contract(majority: Majority) -> None:
    check_verifier(majority)
    answers = ("46", "46.0", "47", "", "what?", "\\boxed{46}", "46")
    check_verifier(
        majority, [{"query": q, "answer": a, "reference": ""} for q in ("12 + 34 = ?", "?") for a in answers]
    )


@pytest.mark.parametrize(
    ("answers", "scores"),
    [
        (["46", "46", "47"], [1, 1, 0]),
        (["46", "47"], [math.nan, math.nan]),
        (["46", "46", "47", "47", "48"], [math.nan] * 5),
        (["46"], [math.nan]),
        (["46", ""], [math.nan, 0]),
        (["", " ", "?"], [0, 0, 0]),
        (["46", "46", "", "", ""], [1, 1, 0, 0, 0]),  # silence has no majority
        (["46", "46", "46"], [1, 1, 1]),
    ],
)
def test_votes(majority: Majority, answers: list[str], scores: list[float]) -> None:
    """SQLM's aaaa, aaab, aabb and abcd among them: a tie decides nothing, and nobody wins by order."""
    assert vote(majority, answers) == pytest.approx(scores, nan_ok=True)


def test_one_answer_in_many_spellings_wins(majority: Majority) -> None:
    """Five spellings of 46 outvote three of the same wrong one; a restated question is no finished value."""
    spellings = ["46", "46.0", "The answer is 46.", "<think>or 47?</think> \\boxed{46}", "12 + 34 = 46"]
    wrong = ["47", "47", "47", "12 + 34"]
    assert vote(majority, [*spellings, *wrong]) == [1.0] * 5 + [0.0] * 4
    assert majority.metrics()["share"] == pytest.approx(5 / 9)


def test_words_vote_by_their_letters(majority: Majority) -> None:
    query = "What is the capital of France, in one word?"
    assert vote(majority, ["Paris", "paris ", "**PARIS**", "Lyon"], query) == [1, 1, 1, 0]
    strict = Majority(maths_only=True)
    assert vote(strict, ["no idea at all, sorry", "no idea at all, sorry", "46", "46.0"]) == [0, 0, 1, 1]
    strict.close()


def test_the_question_said_back_has_no_vote(majority: Majority) -> None:
    """Three parrots against two answers, and parrots alone."""
    assert vote(majority, ["12 + 34 = ?", "12 + 34  = ?", "12 + 34 = ?", "46", "46"]) == [0, 0, 0, 1, 1]
    assert vote(majority, ["12 + 34 = ?"] * 3) == [0, 0, 0]


def test_queries_do_not_mix_and_references_are_not_seen(majority: Majority) -> None:
    cases = [
        {"query": query, "answer": answer, "reference": reference}
        for query, answer, reference in [
            ("a?", "1", "2"), ("b?", "2", "2"), ("a?", "1", "2"), ("b?", "2", "2"), ("a?", "2", "2"), ("b?", "1", "2"),
        ]
    ]  # fmt: skip
    assert majority(cases) == [1, 1, 1, 1, 0, 0]


def test_counts(majority: Majority) -> None:
    """One tied query, one with a single vote, one won by 2 of 3; three answers that say nothing."""
    votes = {"a": ["1", "2"], "b": ["1", ""], "c": ["5", "5", "6", "?"], "d": [" "]}
    majority.metrics()
    majority([{"query": q, "answer": a, "reference": ""} for q, answers in votes.items() for a in answers])
    told = majority.metrics()
    assert told["share"] == pytest.approx(2 / 3)
    del told["share"]
    assert told == {"ties": 1, "too_few_votes": 1, "says_nothing": 3, "timeouts": 0, "worker_deaths": 0}
    assert set(majority.metrics().values()) == {0.0}, "counted since the last time"


ANSWERS = ["46", "46.0", "92/2", "47", "\\boxed{47}", "sqrt(2)", "2/sqrt(2)", "Paris", "paris", "?", "", "12 + 34 = 46"]


@settings(max_examples=40, deadline=None)
@given(answers=st.lists(st.sampled_from(ANSWERS), max_size=10), seed=st.integers(0, 99))
def test_the_order_of_the_votes_is_no_matter(majority: Majority, answers: list[str], seed: int) -> None:
    order = random.Random(seed).sample(range(len(answers)), len(answers))
    scores = vote(majority, answers)
    assert vote(majority, [answers[i] for i in order]) == pytest.approx([scores[i] for i in order], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("46", "46"), ("so \\boxed{46}, I think", "46"), ("<think>7</think>46", "46"), ("<think>46", ""), ("", ""),
        ("Because 40 + 6\n46", "46"), ("Answer: 46", "46"), ("?!", ""), ("Paris", "Paris"), ("\\boxed{", ""),
    ],
)  # fmt: skip
def test_what_an_answer_comes_down_to(text: str, said: str) -> None:
    assert final(text) == said
    assert final(text, maths_only=True) in (said, "")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("46", "046"), ("1/2", "0.5"), ("50%", "0.5"), ("x = 5", "5"), ("5 km", "5000 m"), ("1, 2", "2, 1"),
        ("sqrt(8)", "2*sqrt(2)"), ("Über  uns", "über uns"), ("１２", "12"),
    ],
)  # fmt: skip
def test_same(equality: Equality, a: str, b: str) -> None:
    assert equality.same(a, b) and equality.same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("46", "47"), ("46", "-46"), ("1/3", "0.333"), ("5 km", "5 m"), ("46", "12 + 34"), ("B", "C"),
        ("Paris", "46"), ("(1, 2)", "(2, 1)"), ("sqrt(2)", "1.41"), ("über uns", "bei uns"),
    ],
)  # fmt: skip
def test_not_the_same(equality: Equality, a: str, b: str) -> None:
    assert not equality.same(a, b) and not equality.same(b, a)


def test_where_the_judge_cannot_tell_words_decide() -> None:
    """And where its two directions disagree, the answers differ."""

    def silent(cases: Sequence[Mapping[str, str]]) -> list[float]:
        return [math.nan for _ in cases]

    def one_sided(cases: Sequence[Mapping[str, str]]) -> list[float]:
        return [float(case["reference"] == "a") for case in cases]

    def half(cases: Sequence[Mapping[str, str]]) -> list[float]:
        return [1.0 if case["reference"] == "a" else math.nan for case in cases]

    assert Equality(silent).same("Two Words", "two  words") and not Equality(silent).same("a", "b")
    assert not Equality(one_sided).same("a", "b") and not Equality(one_sided).same("b", "a")
    assert Equality(half).same("a", "b") and Equality(half).same("b", "a")


def test_classes_are_compared_by_one_member_each() -> None:
    """60 spellings in 3 classes, by length: at most 60 * 3 comparisons of two directions, not 60 * 59 / 2."""
    asked: list[int] = []

    def by_length(cases: Sequence[Mapping[str, str]]) -> list[float]:
        asked.append(len(cases))
        return [float(len(case["answer"]) == len(case["reference"])) for case in cases]

    texts = [chr(97 + i) * size for i in range(20) for size in (1, 2, 3)]
    named = Equality(by_length).classes(dict.fromkeys(texts, 1))
    assert len(set(named.values())) == 3 and all(len(named[text]) == len(text) for text in texts)
    assert set(asked) == {2} and len(asked) <= 180


def test_plain() -> None:
    assert plain("  Ａ\tb ß ") == "a b ss"


def test_a_call_ends_at_its_deadline(majority: Majority) -> None:
    assert majority.runs_in == "thread"
    with pytest.raises(DeadlinePassed), deadline(0.0):
        vote(majority, ["1/3", "sqrt(2)"])
    assert vote(majority, ["1/3", "2/6"]) == [1, 1], "and the next is whole"


def test_few_votes() -> None:
    with pytest.raises(ValueError, match="min_votes=0 must be at least 1"):
        Majority(min_votes=0)
    shy = Majority(min_votes=3)
    assert vote(shy, ["46", "46"]) == [NAN, NAN] and vote(shy, ["46", "46", "46"]) == [1, 1, 1]
    shy.close()


# -- ties --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decided() -> Iterator[Majority]:
    verifier = Majority(ties="first")
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("answers", "scores"),
    [
        (["46", "46", "47", "47"], [1, 1, 0, 0]),  # SQLM's aabb
        (["1", "2", "3", "4"], [1, 0, 0, 0]),  # and abcd
        (["47", "46", "46", "47"], [1, 0, 0, 1]),
        (["47", "46", "46.0", "92/2", "47", "47"], [1, 0, 0, 0, 1, 1]),
        (["", "46", "47"], [0, 1, 0]),  # who says nothing is nobody's first
        (["46", "47", "47"], [0, 1, 1]),  # no tie
        (["46"], [math.nan]),  # one vote is too few, and no tie
    ],
)
def test_of_tied_answers_the_first_wins(decided: Majority, answers: list[str], scores: list[float]) -> None:
    assert vote(decided, answers) == pytest.approx(scores, nan_ok=True)
    assert decided.metrics()["ties"] == vote_is_tied(answers), "and it is counted all the same"


def vote_is_tied(answers: Sequence[str]) -> bool:
    values = Counter({"46.0": "46", "92/2": "46"}.get(answer, answer) for answer in answers if answer)
    most = values.most_common(2)
    return len(most) == 2 and most[0][1] == most[1][1]


def test_a_tie_that_is_decided_has_a_share(decided: Majority) -> None:
    vote(decided, ["1", "2", "3", "4"])
    assert decided.metrics()["share"] == 0.25


@pytest.mark.parametrize("word", ["nan", math.nan])
def test_a_tie_decides_nothing_by_either_spelling(word: Any) -> None:
    """``verifier.ties=nan`` on the command line is the number."""
    verifier = Majority(ties=word)
    assert vote(verifier, ["46", "47"]) == [NAN, NAN]
    verifier.close()


def test_an_unknown_rule_for_ties() -> None:
    with pytest.raises(ValueError, match=r"ties='frst' is unknown \(did you mean first\?\): use nan or first"):
        Majority(ties="frst")


@pytest.mark.parametrize("name", ["r_zero", "sqlm"])
def test_the_papers_pay_for_a_split_vote(name: str) -> None:
    """Two and two, or all different: the experiment's verifier and shape together pay the proposer."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"experiment={name}"])
    learner = cfg.learner.learner
    shape = learner.shape if name == "sqlm" else learner.learners.challenger.shape
    verifier = Majority(ties=cfg.verifier.ties)
    for answers, rate in ((["46", "46", "47", "47"], 0.5), (["1", "2", "3", "4"], 0.25), (["46"] * 4, 1.0)):
        scores = vote(verifier, answers)
        assert fmean(scores) == rate
        proposal = Turn("challenger", "challenger_0", {}, Action("q"), 0)
        leaves = [Episode((proposal,), {"challenger": 0.0, "solver": s}, {"query": "q"}, {"score": s}) for s in scores]
        other = Turn("challenger", "challenger_0", {}, Action("p"), 0)
        beside = [replace(leaf, turns=(other,), case={"query": "no word alike"}) for leaf in leaves]
        paid = SHAPES[shape.challenger]()([proposal, other], {proposal: leaves, other: beside})
        expected = float(rate < 1) if name == "sqlm" else max(0.0, 1 - 2 * abs(rate - 0.5) - 0.5)
        assert paid == [expected] * 2
    verifier.close()
