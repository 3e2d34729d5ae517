"""A user's verifier in a process of its own: whatever it does, the run goes on, and no score is invented."""

from __future__ import annotations

import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selfplay.compose import ConfigError, build
from selfplay.deadline import DeadlinePassed, backstop, check, deadline, remaining
from selfplay.types import Case, Stateful, Verifier
from verifiers.assemble import assemble
from verifiers.isolated import Isolated, Remembering, isolate
from verifiers.panel import Panel, VerifierFailed

ALLOW = ["tests"]


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"tests.isolated_zoo.{name}", **arguments}


def make(name: str, **arguments: Any) -> Verifier:
    return assemble(node(name, **arguments), partial(build, allow=ALLOW), allow=ALLOW)


def cases(*answers: str) -> list[Case]:
    return [{"query": "q", "answer": answer, "reference": ""} for answer in answers]


def scores(panel: Panel, *answers: str) -> list[float]:
    return [action.move["score"] for action in panel.act(cases(*answers), [0] * len(answers))]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_elsewhere_and_scores_the_same() -> None:
    verifier = make("Length")
    assert isinstance(verifier, Isolated) and not isinstance(verifier, Stateful)
    panel = Panel(score=verifier)
    assert scores(panel, "a", "bb", "\ud800\x00é") == [1.0, 2.0, 3.0] and scores(panel) == []
    metrics = panel.metrics()
    assert metrics["verifiers/score/calls"] == 1 and metrics["verifiers/score/pid"] != os.getpid()
    pid = int(metrics["verifiers/score/pid"])
    panel.close()
    assert not alive(pid)
    assert scores(panel, "abc") == [3.0], "a closed one starts again"
    panel.close()


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        ("sleep", "timeouts"),
        ("spin", "timeouts"),
        ("eat", "memory"),
        ("raise", "raised"),
        ("exit", "raised"),
        ("die", "died"),
    ],
)
def test_what_it_does_is_counted_under_its_own_name_and_the_next_call_is_fine(does: str, kind: str) -> None:
    panel = Panel(score=make("Does"), deadline=1.0)
    assert all(math.isnan(score) for score in scores(panel, does, "b"))
    metrics = panel.metrics()
    assert metrics[f"verifiers/score/{kind}"] == 1 and metrics["verifiers/score/nan_share"] == 1
    assert {name for name in metrics if name.startswith("verifiers/")} == {
        f"verifiers/score/{kind}",
        "verifiers/score/nan_share",
    }
    assert scores(panel, "fine", "b") == [1.0, 1.0]
    panel.close()


@pytest.mark.parametrize(
    ("gives", "kind"),
    [
        (None, "wrong_count"),
        (7, "wrong_count"),
        ([1.0], "wrong_count"),
        ([], "wrong_count"),
        ([None, None], "not_a_number"),
        (["1.0", "0.5"], "not_a_number"),
        ([math.inf, -math.inf], "not_a_number"),
        ([[1.0], {}], "not_a_number"),
    ],
)
def test_what_is_no_score_is_nan_and_counted(gives: Any, kind: str) -> None:
    panel = Panel(score=make("Odd", gives=gives))
    assert all(math.isnan(score) for score in scores(panel, "a", "b"))
    assert panel.metrics()[f"verifiers/score/{kind}"] == (2 if kind == "not_a_number" else 1)
    panel.close()


def test_an_honest_nan_is_not_counted_as_a_failure() -> None:
    panel = Panel(score=make("Odd", gives=[math.nan, 0.5]))
    assert math.isnan(scores(panel, "a", "b")[0])
    assert panel.metrics() == {
        "rewards/score/mean": 0.5,
        "rewards/score/std": 0.0,
        "verifiers/score/nan_share": 0.5,
    }
    panel.close()


def test_the_users_traceback_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    panel = Panel(score=make("Does"), max_failed_steps=2)
    scores(panel, "raise")
    assert "ZeroDivisionError: a user's bug" in caplog.text and "isolated_zoo.py" in caplog.text
    with pytest.raises(VerifierFailed, match="'score' failed 2 times in a row: ZeroDivisionError: a user's bug"):
        scores(panel, "raise")
    panel.close()


def test_what_cannot_be_built_says_so_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"weights\.bin is missing"):
        make("CannotBeBuilt")
    with pytest.raises(ConfigError, match="write allow="):
        isolate({"_target_": "xml.dom.minidom.parseString"}, ())


def test_it_may_ask_to_stay_here() -> None:
    assert isolate(node("Here"), ALLOW) is None
    assert make("Here")(cases("a")) == [float(os.getpid())]


def test_a_memory_survives_the_worker_and_travels(tmp_path: Path) -> None:
    """a, a, b are seen; the state is kept; a again, then the worker dies: the next a has been seen three times."""
    verifier = make("Counts")
    assert isinstance(verifier, Remembering) and isinstance(verifier, Stateful)
    panel = Panel(score=verifier, deadline=2.0)
    assert scores(panel, "a", "a", "b") == [0.0, 0.0, 0.0]
    first = tmp_path / "first"
    first.mkdir()
    verifier.save(first)
    assert scores(panel, "a") == [2.0]
    assert math.isnan(scores(panel, "die")[0])
    assert scores(panel, "a", "die not") == [3.0, 0.0], "the call that failed has left no trace"
    assert panel.metrics()["verifiers/score/seen"] == 6
    other = make("Counts")
    assert isinstance(other, Remembering)
    other.load(first)
    assert other(cases("a", "b")) == [2.0, 1.0]
    other.close()
    panel.close()


def test_a_call_that_raised_has_left_no_trace() -> None:
    """``Counts`` remembers what it is shown before it raises; then a dead worker brings the same memory back."""
    panel = Panel(score=make("Counts"), deadline=60.0)
    assert scores(panel, "a") == [0.0]
    assert math.isnan(scores(panel, "raise", "a")[1])
    assert scores(panel, "a", "raise") == [1.0, 0.0]
    assert math.isnan(scores(panel, "die")[0])
    assert scores(panel, "a", "raise") == [2.0, 1.0]
    panel.close()


def test_a_panels_memory_is_its_parts() -> None:
    inner = Panel(x=make("Counts"), combine="sum")
    assert isinstance(inner, Stateful)
    inner.close()


def test_members_of_a_composite_are_isolated_one_by_one() -> None:
    tree = {
        "_target_": "verifiers.panel.Panel",
        "combine": "mean",
        "spoilt": {"_target_": "verifiers.spoiled.Spoiled", "verifier": node("Length"), "share": 0.0},
        "plain": node("Length"),
        "exact": {"_target_": "verifiers.sympy_solver.SympySolver"},
    }
    panel = assemble(tree, partial(build, allow=ALLOW), allow=ALLOW)
    assert isinstance(panel, Panel)
    assert isinstance(panel.verifiers["plain"], Isolated)
    assert isinstance(getattr(panel.verifiers["spoilt"], "verifier"), Isolated)  # noqa: B009 - any verifier
    assert not isinstance(panel.verifiers["exact"], Isolated), "it keeps a worker of its own"
    panel.close()


# -- calls that cannot be killed --------------------------------------------------------------------------------------


def test_a_call_in_this_process_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeps(shown: Any) -> list[float]:
        time.sleep(1e6)
        return []

    monkeypatch.setattr("verifiers.part.GRACE", 0.1)
    panel = Panel(score=sleeps, deadline=0.2)
    assert math.isnan(scores(panel, "a")[0]) and panel.metrics()["verifiers/score/timeouts"] == 1


def test_a_thread_that_does_not_end_is_given_up_and_not_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        runs_in = "thread"
        calls = 0

        def __call__(self, shown: Any) -> list[float]:
            self.calls += 1
            time.sleep(3)
            return [1.0] * len(shown)

    monkeypatch.setattr("verifiers.part.GRACE", 0.1)
    deaf = Deaf()
    panel = Panel(score=deaf, other=lambda shown: [0.5] * len(shown), deadline=0.2)
    for _ in range(2):
        (action,) = panel.act(cases("a"), [0])
        assert math.isnan(action.move["score"]) and action.move["other"] == 0.5
    assert deaf.calls == 1 and panel.metrics()["verifiers/score/timeouts"] == 2


def test_whoever_asks_is_cancelled_and_the_earliest_deadline_counts() -> None:
    assert remaining() == math.inf
    check()
    with deadline(100), deadline(0.01), deadline(50):
        assert remaining() <= 0.01
        time.sleep(0.02)
        assert remaining() == 0.0
        with pytest.raises(DeadlinePassed):
            check()
    check()


def test_the_backstop_leaves_no_timer_behind() -> None:
    with pytest.raises(DeadlinePassed), backstop(0.05):
        time.sleep(10)
    with backstop(0.05):
        pass
    time.sleep(0.1)


def test_verifiers_work_beside_each_other() -> None:
    """Two that sleep for a second each take less than two together."""

    class Slow:
        runs_in = "thread"

        def __call__(self, shown: Any) -> list[float]:
            time.sleep(1.0)
            return [1.0] * len(shown)

    began = time.monotonic()
    panel = Panel(x=Slow(), y=Slow(), z=Slow())
    panel.act(cases("a"), [0])
    assert time.monotonic() - began < 2.5
