"""The verifier's seat: whatever a verifier does wrong is nan and counted, and never a score."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from selfplay.compose import ConfigError
from selfplay.types import Case
from verifiers.assemble import assemble
from verifiers.panel import Panel, VerifierFailed, seat

CASES: list[Case] = [{"query": "q", "answer": text, "reference": ""} for text in ("a", "bb", "ccc")]


def length(cases: Sequence[Case]) -> list[float]:
    return [float(len(case["answer"])) for case in cases]


def raises(cases: Sequence[Case]) -> list[float]:
    raise ZeroDivisionError("a user's bug")


def verdicts(panel: Panel, cases: Sequence[Case] = CASES) -> list[dict[str, float]]:
    actions = panel.act(cases, [0] * len(cases))
    assert all(action.completion is None for action in actions)
    return [action.move for action in actions]


def test_parts_side_by_side() -> None:
    panel = Panel(score=length, quality=lambda cases: [0.5] * len(cases))
    assert panel.parts == ("score", "quality")
    assert verdicts(panel) == [{"score": n, "quality": 0.5} for n in (1.0, 2.0, 3.0)]
    assert verdicts(panel, []) == []


def test_an_exception_is_nan_and_counted_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    panel = Panel(score=length, broken=raises)
    with caplog.at_level(logging.ERROR):
        moves = verdicts(panel) + verdicts(panel)
    assert [move["score"] for move in moves] == [1, 2, 3, 1, 2, 3], "the others go on"
    assert all(math.isnan(move["broken"]) for move in moves)
    metrics = panel.metrics()
    assert metrics["verifiers/broken/raised"] == 2 and metrics["verifiers/broken/nan_share"] == 1
    assert metrics["verifiers/score/nan_share"] == 0 and "verifiers/score/raised" not in metrics
    assert "rewards/broken/mean" not in metrics
    assert len(caplog.records) == 1, "the first failure is told"
    assert "'broken'" in caplog.text and "ZeroDivisionError: a user's bug" in caplog.text, "with its traceback"


def test_a_verifier_that_never_gave_a_score_is_named_at_the_end() -> None:
    """A run that is shorter than ``max_failed_steps`` ends as if all were well."""
    mute = Panel(inner=lambda cases: [math.nan] * len(cases), combine="sum")
    panel = Panel(score=length, broken=raises, idle=length, mute=mute, gate="score", passes=2)
    assert panel.warnings() == []
    verdicts(panel, CASES[:1])
    assert panel.warnings() == [], "the gate let nothing pass: the others were never called"
    verdicts(panel), verdicts(panel)
    broken, outer, inner = panel.warnings()
    assert "'broken' gave no score in this run: it was called 2 times and failed in 2 of them" in broken
    assert "ZeroDivisionError: a user's bug" in broken and "\n" not in broken
    assert "'mute'" in outer and "'inner'" in inner and "failed" not in inner
    panel = Panel(score=lambda cases: raises(cases) if len(cases) == 1 else length(cases))
    verdicts(panel, CASES[:1]), verdicts(panel)
    assert panel.warnings() == []


def test_parts_beside_one_verifier_are_refused_with_the_right_spelling() -> None:
    part = {"_target_": "verifiers.length.Length"}
    node = {"_target_": "verifiers.sympy_solver.SympySolver", "quality": part}
    with pytest.raises(ConfigError, match=r"verifier=panel verifier/parts=\[sympy_solver,<another>@quality\]"):
        assemble(node, lambda node: length)


@pytest.mark.parametrize("scores", [[], [1.0], [1.0] * 4, 7, None])
def test_a_wrong_count_is_nan(scores: Any) -> None:
    panel = Panel(score=lambda cases: scores)
    assert all(math.isnan(move["score"]) for move in verdicts(panel))
    assert panel.metrics()["verifiers/score/wrong_count"] == 1


class Several:
    """Like a tensor of two numbers: it has a ``float`` that refuses."""

    def __float__(self) -> float:
        raise RuntimeError("a tensor with 2 elements cannot be converted to a scalar")


@pytest.mark.parametrize("bad", ["1.0", b"1", None, math.inf, -math.inf, [1.0], {}, 1j, "nan", Several()])
def test_what_is_no_score_is_nan_and_counted(bad: Any) -> None:
    panel = Panel(score=lambda cases: [0.5, bad, 0.25])
    first, second, third = (move["score"] for move in verdicts(panel))
    assert (first, third) == (0.5, 0.25) and math.isnan(second)
    metrics = panel.metrics()
    assert metrics["verifiers/score/not_a_number"] == 1
    assert metrics["rewards/score/mean"] == 0.375 and metrics["verifiers/score/nan_share"] == pytest.approx(1 / 3)
    assert metrics["rewards/score/std"] == 0.125


def test_an_honest_nan_is_not_a_bad_score() -> None:
    panel = Panel(score=lambda cases: [math.nan, 1, np.float32(0.5)])
    moves = verdicts(panel)
    assert math.isnan(moves[0]["score"]) and [move["score"] for move in moves[1:]] == [1.0, 0.5]
    assert all(type(move["score"]) is float for move in moves)
    assert "verifiers/score/not_a_number" not in panel.metrics()


def test_a_verifier_cannot_write_into_the_cases() -> None:
    def spiteful(cases: Any) -> list[float]:
        for case in cases:
            case["answer"] = "mine"
            case.clear()
        cases.reverse()
        return [0.0] * len(cases)

    cases = [dict(case) for case in CASES]
    assert [move["score"] for move in verdicts(Panel(spite=spiteful, score=length), cases)] == [1, 2, 3]
    assert cases == CASES


def test_a_verifier_that_goes_on_failing_stops_the_run() -> None:
    panel = Panel(score=raises, max_failed_steps=3)
    verdicts(panel)
    verdicts(panel)
    with pytest.raises(VerifierFailed, match="'score' failed 3 times in a row: ZeroDivisionError: a user's bug"):
        verdicts(panel)


def test_one_good_call_starts_the_count_again() -> None:
    broken = [True, True, False, True, True, False]
    panel = Panel(score=lambda cases: raises(cases) if broken.pop(0) else length(cases), max_failed_steps=3)
    for _ in range(6):
        verdicts(panel)
    assert broken == [] and panel.metrics()["verifiers/score/raised"] == 4


def test_metrics_begin_anew_and_hold_the_verifiers_own() -> None:
    class Proud:
        def __call__(self, cases: Sequence[Case]) -> list[float]:
            return [1.0] * len(cases)

        def metrics(self) -> dict[str, float]:
            return {"pride": 7}

    panel = Panel(score=Proud())
    verdicts(panel)
    assert panel.metrics() == {
        "rewards/score/mean": 1.0,
        "rewards/score/std": 0.0,
        "verifiers/score/nan_share": 0.0,
        "verifiers/score/pride": 7.0,
    }
    assert panel.metrics() == {"verifiers/score/pride": 7.0}


def test_who_may_sit() -> None:
    with pytest.raises(ValueError, match="a panel needs at least one verifier"):
        Panel()
    with pytest.raises(TypeError, match="verifier 'score' is a int, which cannot be called on cases"):
        Panel(score=3)  # type: ignore[arg-type]
    panel = Panel(score=length)
    assert seat(panel) is panel
    assert seat(length).parts == ("score",)
