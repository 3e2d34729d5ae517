"""The judge of verifiers is judged: honest ones pass, and each promise is broken by one that breaks exactly that."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.deadline import check
from selfplay.testing import check_verifier
from tests.plugin.sparring_brevity import Brevity
from verifiers.random_score import RandomScore
from verifiers.spoiled import Spoiled

Cases = Sequence[Mapping[str, str]]
NAN = float("nan")


def case(answer: str, query: str = "1 + 1 = ?") -> dict[str, str]:
    return {"query": query, "answer": answer, "reference": ""}


def exact(cases: Cases) -> list[float]:
    return [float(case["answer"] == "2") for case in cases]


def refused(verifier: Any, saying: str, cases: Cases | None = None, **options: Any) -> None:
    with pytest.raises(AssertionError, match=saying):
        check_verifier(verifier, cases, **options)


# -- who keeps the contract ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verifier",
    [
        Brevity(3),
        exact,
        lambda cases: tuple(exact(cases)),  # any sequence
        lambda cases: [NAN for _ in cases],  # one that can never tell
        lambda cases: [1 if case["answer"] == "2" else 0 for case in cases],  # whole numbers
        lambda cases: [NAN if not case["answer"].strip() else 0.5 for case in cases],
    ],
)
def test_honest_verifiers_pass(verifier: Any) -> None:
    check_verifier(verifier)
    check_verifier(verifier, [case("2"), case("3"), case("2", "What else?")])


@given(st.lists(st.text(), min_size=1, max_size=6), st.integers(1, 50))
def test_brevity_keeps_the_contract_on_any_text(answers: list[str], limit: int) -> None:
    check_verifier(Brevity(limit), [case(answer) for answer in answers])


def test_controls_pass_with_what_they_are_allowed() -> None:
    """A coin scores blank text too, and a spoiled verifier draws its victims from the batch in its order."""
    check_verifier(RandomScore(3), blank_may_score=True)
    check_verifier(Spoiled(exact, share=0.5), blank_may_score=True, order_may_matter=True)
    refused(RandomScore(3), "blank text scores 1.0, above the lowest other score 0.0")


def test_a_verifier_may_be_a_pure_function_of_the_batch() -> None:
    """Majority: 2 of 3 say "2"; the blank answers that the check adds are a minority."""

    def majority(cases: Cases) -> list[float]:
        votes = Counter(case["answer"].strip() for case in cases if case["answer"].strip())
        return [float(bool(votes) and case["answer"].strip() == votes.most_common(1)[0][0]) for case in cases]

    check_verifier(majority, [case("2"), case("2"), case("3")])


# -- who breaks it, one promise each ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verifier", "saying"),
    [
        (lambda cases: [0.0] * (len(cases) + 1), "1 scores for 0 cases"),
        (lambda cases: [0.0] * min(len(cases), 5), "5 scores for 12 cases"),
        (lambda cases: None if cases else [], "gave NoneType instead of a list"),
        (lambda cases: "1" * len(cases), "gave str instead of a list"),
        (lambda cases: dict.fromkeys(range(len(cases)), 0.0), "gave dict instead of a list"),
        (lambda cases: ["1" for _ in cases], "'1' is not a score"),
        (lambda cases: [None for _ in cases], "None is not a score"),
        (lambda cases: [case["answer"] == "2" for case in cases], "True is not a score"),
        (lambda cases: [float("inf") for _ in cases], "inf is not a score"),
    ],
    ids=["longer", "shorter", "none", "text", "mapping", "strings", "nothings", "truths", "infinities"],
)
def test_what_is_not_one_number_for_each_case(verifier: Any, saying: str) -> None:
    refused(verifier, saying)


def test_chance_that_is_not_seeded() -> None:
    rng = random.Random(0)
    refused(lambda cases: [rng.random() for _ in cases], "scored differently the second time", blank_may_score=True)


@pytest.mark.parametrize(
    "verifier",
    [
        lambda cases: [float(i == 0) for i in range(len(cases))],  # position
        lambda cases: [float(case is cases[0]) * 0.01 for case in cases],
        lambda cases: [float(case["answer"] == cases[-1]["answer"]) for case in cases],  # its neighbour
    ],
    ids=["first", "a little", "neighbour"],
)
def test_a_score_that_depends_on_the_place_in_the_batch(verifier: Any) -> None:
    refused(verifier, "the order of the batch changed the scores of case .*'answer'", blank_may_score=True)
    check_verifier(verifier, order_may_matter=True, blank_may_score=True)


def test_equal_cases_may_swap_their_scores_and_no_more() -> None:
    """Three equal answers share one point: two orders cannot be told apart. Two unequal ones can."""

    def first_of_its_kind(cases: Cases) -> list[float]:
        seen: set[str] = set()
        return [float(case["answer"] not in seen and not seen.add(case["answer"])) for case in cases]

    check_verifier(first_of_its_kind, [case("2")] * 3, blank_may_score=True)
    refused(lambda cases: [0.0, 1.0][: len(cases)], "the order", [case("2"), case("3")], blank_may_score=True)


@pytest.mark.parametrize("told", ["", " \n\t"], ids=["empty", "space"])
def test_a_guess_on_blank_text(told: str) -> None:
    def guesses(cases: Cases) -> list[float]:
        return [float(case["answer"] in ("2", told)) for case in cases]

    refused(guesses, "blank text scores 1.0, above the lowest other score 0.0")
    check_verifier(guesses, blank_may_score=True)
    refused(guesses, "blank text scores 1.0", [case("2", "Which?"), case("3")])  # to whichever question


def test_blank_text_is_measured_with_the_lowest_score_and_not_with_zero() -> None:
    """Raw logits: blank at -5 is below -4 and passes, blank at -3 is above it."""

    def logits(blank: float) -> Callable[[Cases], list[float]]:
        return lambda cases: [blank if not case["answer"].strip() else -4.0 + len(case["answer"]) for case in cases]

    given = [case("a"), case("abc")]  # -3, -1
    check_verifier(logits(-5.0), given)
    check_verifier(logits(-3.0), given)
    refused(logits(-2.0), "scores -2.0, above the lowest other score -3.0", given)


def test_another_slot_can_be_the_one_that_must_not_be_blank() -> None:
    def judges_the_question(cases: Cases) -> list[float]:
        return [float(bool(case["query"].strip())) for case in cases]

    refused(judges_the_question, "blank text scores 1.0", [case("2"), case("3", " ")])
    check_verifier(judges_the_question, [case("2"), case("3", "Why?")], slot="query")


@pytest.mark.parametrize(
    ("spoil", "saying"),
    [
        (lambda cases: cases[0].update(answer="seen"), "wrote into its cases"),
        (lambda cases: cases[-1].pop("reference"), "wrote into its cases"),
        (lambda cases: cases[0].setdefault("seen", ""), "wrote into its cases"),
        (lambda cases: cases.pop(), "changed the list of 12 cases into one of 11"),
    ],
    ids=["value", "less", "more", "list"],
)
def test_what_it_was_given_is_not_its_own(spoil: Callable[[Any], object], saying: str) -> None:
    def writes(cases: Any) -> list[float]:
        scores = exact(cases)
        if cases:
            spoil(cases)
        return scores

    refused(writes, saying)


def test_an_exception_names_the_case() -> None:
    def divides(cases: Cases) -> list[float]:
        return [1 / len(case["answer"]) for case in cases]

    refused(divides, r"raised ZeroDivisionError: division by zero \(on case .*'answer': ''")

    def wants_few(cases: Cases) -> list[float]:
        if len(cases) > 1:
            raise ValueError("too many")
        return [0.0] * len(cases)

    refused(wants_few, r"raised ValueError: too many \(on a batch of 12, though on none of its cases alone\)")

    refused(lambda cases: [0.0 for _ in cases if cases[0]] if max(cases, key=len) else [], "on an empty call")

    def leaves(cases: Cases) -> list[float]:
        raise SystemExit(0)

    refused(leaves, "raised SystemExit")


def test_a_call_that_does_not_end_in_time() -> None:
    class Slow:
        def __call__(self, cases: Cases) -> list[float]:
            for _ in range(100 if cases else 0):  # ends by itself at last, so that the test leaves no thread behind
                time.sleep(0.05)
            return [0.0] * len(cases)

    refused(Slow(), r"did not end within 0.2 s on 12 cases", deadline=0.2)

    class Polite(Slow):
        """A verifier of the main thread asks by itself whether time is up."""

        runs_in: ClassVar[str] = "main"

        def __call__(self, cases: Cases) -> list[float]:
            while cases:
                check()
            return []

    refused(Polite(), r"did not end within 0.2 s", deadline=0.2)

    class Deaf(Polite):
        """One that never asks is interrupted."""

        def __call__(self, cases: Cases) -> list[float]:
            while cases:
                time.sleep(0.01)
            return []

    refused(Deaf(), r"did not end within 0.2 s", deadline=0.2)


def test_without_a_deadline_it_is_called_here() -> None:
    """Some code works in the main thread only: handlers of signals."""

    def alarmed(cases: Cases) -> list[float]:
        signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        return exact(cases)

    refused(alarmed, "raised ValueError: signal only works in main thread", deadline=60)
    check_verifier(alarmed, deadline=None)


@pytest.mark.parametrize(
    ("metrics", "saying"),
    [
        (None, "metrics.. gave NoneType"),
        ({"calls": "3"}, "metrics.. gave 'calls': '3'"),
        ({"calls": float("inf")}, "metrics.. gave 'calls': inf"),
        ({3: 1.0}, "metrics.. gave 3: 1.0"),
        ({"calls": 3.0, "share": NAN}, ""),
    ],
)
def test_metrics_are_names_and_numbers(metrics: Any, saying: str) -> None:
    class Counts(Brevity):
        def metrics(self) -> Any:
            return metrics

    if saying:
        refused(Counts(2), saying)
    else:
        check_verifier(Counts(2))
