"""A panel's gates, vetoes and rules, by hand; and the words of the command line that make one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.compose import ConfigError, register_resolvers
from selfplay.hints import alias, hint
from selfplay.types import Case
from verifiers.combine import RULES, combine
from verifiers.panel import Panel

CONF = Path(__file__).resolve().parent.parent / "conf"
NAN = math.nan


def cases(*answers: str) -> list[Case]:
    return [{"query": "q", "answer": answer, "reference": ""} for answer in answers]


def fixed(**scores: float) -> Callable[[Sequence[Case]], list[float]]:
    """A verifier that gives each answer its score."""
    return lambda shown: [scores[case["answer"]] for case in shown]


class Seen:
    """1 for everything, and what it was asked about."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    def __call__(self, shown: Sequence[Case]) -> list[float]:
        self.answers += [case["answer"] for case in shown]
        return [1.0] * len(shown)


def verdicts(panel: Panel, shown: Sequence[Case]) -> list[dict[str, float]]:
    return [action.move for action in panel.act(shown, [0] * len(shown))]


def same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


# -- gates and vetoes -------------------------------------------------------------------------------------------------


def test_a_failed_gate_is_zero_and_nobody_else_is_called() -> None:
    """Answer a passes, b fails, c is unknown to the gate: only a reaches the others."""
    late, other = Seen(), Seen()
    panel = Panel(late=late, form=fixed(a=1.0, b=0.0, c=NAN), other=other, gate="form")
    assert panel.parts == ("late", "other"), "a gate is no part of the verdict"
    moves = verdicts(panel, cases("a", "b", "c", "a"))
    assert moves[0] == moves[3] == {"late": 1.0, "other": 1.0} and moves[1] == {"late": 0.0, "other": 0.0}
    assert all(math.isnan(score) for score in moves[2].values())
    assert late.answers == other.answers == ["a", "a"]
    metrics = panel.metrics()
    assert metrics["verifiers/late/not_called"] == 2 and metrics["rewards/form/mean"] == pytest.approx(2 / 3)


def test_gates_are_asked_in_order_and_a_later_one_only_about_what_passed() -> None:
    second = Seen()
    panel = Panel(score=fixed(a=0.3, b=0.9), second=second, first=fixed(a=1.0, b=0.2), gate=["first", "second"])
    assert verdicts(panel, cases("a", "b")) == [{"score": 0.3}, {"score": 0.0}]
    assert second.answers == ["a"]


def test_a_gate_that_nobody_passes_calls_nobody() -> None:
    late = Seen()
    panel = Panel(form=fixed(a=0.0), late=late, gate="form")
    assert verdicts(panel, cases("a", "a")) == [{"late": 0.0}] * 2 and late.answers == []


def test_a_failing_gate_is_no_score() -> None:
    def broken(shown: Sequence[Case]) -> list[float]:
        raise OSError("no such program")

    panel = Panel(form=broken, late=Seen(), gate="form")
    assert all(math.isnan(move["late"]) for move in verdicts(panel, cases("a", "b")))


def test_a_veto_is_asked_beside_the_others_and_wins() -> None:
    score = Seen()
    panel = Panel(score=score, safe=fixed(a=1.0, b=0.0, c=NAN), veto=["safe"])
    moves = verdicts(panel, cases("a", "b", "c"))
    assert [move["score"] for move in moves[:2]] == [1.0, 0.0] and math.isnan(moves[2]["score"])
    assert score.answers == ["a", "b", "c"]


def test_a_known_veto_beats_an_unknown_one_and_an_unknown_score() -> None:
    panel = Panel(score=fixed(a=NAN), one=fixed(a=NAN), two=fixed(a=0.0), veto=["one", "two"])
    assert verdicts(panel, cases("a")) == [{"score": 0.0}]


def test_where_passing_begins() -> None:
    form = fixed(a=0.7, b=0.69)
    panel = Panel(form=form, score=Seen(), gate="form", passes=0.7)
    assert verdicts(panel, cases("a", "b")) == [{"score": 1.0}, {"score": 0.0}]


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "weights", "expected"),
    [
        ("sum", {}, 1.25),  # 0.25 + 1.0
        ("sum", {"x": 2, "y": -0.5}, 0.0),  # 0.5 - 0.5
        ("mean", {}, 0.625),
        ("mean", {"x": 3.0}, 0.4375),  # (0.75 + 1) / 4
        ("min", {}, 0.25),
        ("max", {}, 1.0),
        ("product", {}, 0.25),
    ],
)
def test_one_score_of_two(rule: Any, weights: dict[str, float], expected: float) -> None:
    panel = Panel(x=fixed(a=0.25), y=fixed(a=1.0), combine=rule, weights=weights)
    assert panel.parts == ("score",) and verdicts(panel, cases("a")) == [{"score": expected}]
    assert panel(cases("a", "a")) == [expected, expected]


@given(st.sampled_from(sorted(RULES)), st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1))
def test_rules_keep_to_their_range_and_nan_is_never_paid(rule: str, scores: dict[str, float]) -> None:
    value = combine(rule, scores, {})
    assert 0 <= value <= (len(scores) if rule == "sum" else 1) * (1 + 1e-12)
    assert math.isnan(combine(rule, {**scores, "z": NAN}, {}))


def test_panels_nest() -> None:
    """max(min(0.2, 1), 0.5) = 0.5 for a; the inner panel's gate makes it max(0, 0.5) for b."""
    inner = Panel(x=fixed(a=0.2, b=1.0), y=fixed(a=1.0, b=1.0), form=fixed(a=1, b=0), gate="form", combine="min")
    outer = Panel(inner=inner, z=fixed(a=0.5, b=0.5), combine="max")
    assert outer(cases("a", "b")) == [0.5, 0.5]
    metrics = outer.metrics()
    assert metrics["rewards/inner/mean"] == pytest.approx(0.1)
    assert metrics["verifiers/inner/rewards/x/mean"] == pytest.approx(0.2), "b never reached x"


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"gate": "forma"}, "gate names 'forma', but the panel's parts are x, y"),
        ({"veto": ["x", "z"]}, "veto names 'z'"),
        ({"gate": ["x", "y"]}, "no verifier is left"),
        ({"combine": "avg"}, "combine='avg' is unknown: use sum, mean"),
        ({"weights": {"x": 1}}, "weights need combine=sum or combine=mean"),
        ({"weights": {"x": 1}, "combine": "max"}, "weights need"),
        ({"weights": {"w": 1}, "combine": "sum"}, "weights names 'w'; the parts that count are x, y"),
        ({"weights": {"x": 1}, "gate": "x", "combine": "sum"}, "weights names 'x'; the parts that count are y"),
        ({"weights": {"x": -1}, "combine": "mean"}, "takes no negative weight"),
        ({"weights": {"x": 0, "y": 0}, "combine": "mean"}, "all 0"),
        ({"weights": {"x": float("nan")}, "combine": "sum"}, "a weight is a finite number"),
        ({"gate": ["x", "x"]}, "'x' is named twice"),
        ({"gate": "x", "veto": "x"}, "'x' is named twice"),
        ({"passes": float("nan")}, "passes must be a number"),
        ({"max_failed_steps": 0}, "max_failed_steps must be at least 1"),
        ({"deadline": 0}, "deadline must be above 0"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Panel(x=Seen(), y=Seen(), **settings)


def test_a_panel_of_parts_is_no_single_score() -> None:
    with pytest.raises(ValueError, match="set combine=mean"):
        Panel(x=Seen(), y=Seen())(cases("a"))


def test_a_panel_of_parts_nests_in_no_panel() -> None:
    """Said when it is made: a call that can never succeed would be nan step after step."""
    with pytest.raises(ValueError, match=r"the panel 'inner' gives x, y: .* set inner\.combine=mean"):
        Panel(inner=Panel(x=Seen(), y=Seen()), z=Seen())


# -- from the command line --------------------------------------------------------------------------------------------


def composed(*words: str) -> Any:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=alias(words)).verifier


def test_parts_by_name() -> None:
    node = composed("verifier=panel", "verifier/parts=[random, sympy_solver@exact]", "verifier.weights.exact=2")
    assert node.random._target_ == "verifiers.random_score.RandomScore"
    assert node.exact._target_ == "verifiers.sympy_solver.SympySolver" and node.weights == {"exact": 2}


def test_a_panel_inside_a_panel() -> None:
    words = ["verifier=panel", "verifier/parts=[panel@score,random]", "verifier.score/parts=[sympy_solver@x,random@y]"]
    node = composed(*words, "verifier.score.combine=max", "verifier.score.gate=y")
    assert node.score._target_ == node._target_ == "verifiers.panel.Panel"
    assert node.score.y._target_.endswith("RandomScore") and node.score.gate == "y" and node.gate is None


@pytest.mark.parametrize(
    "word", ["verifier/parts=[random@gate]", "verifier/parts=[random@a-b]", "verifier/parts=[a/b]"]
)
def test_a_part_that_cannot_be_called_so(word: str) -> None:
    with pytest.raises(ConfigError, match="a part cannot be called"):
        alias([word])


@pytest.mark.parametrize(
    ("word", "wrong"),
    [("verifier/parts=[random@x,syntax@x]", "two parts are called 'x'"), ("verifier/parts=[]", "names no verifier")],
)
def test_lists_of_parts_that_cannot_be_meant(word: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        alias([word])


def test_a_misspelt_part_is_named() -> None:
    assert hint(alias(["verifier/parts=[sympy_solvr@score]"])) == (
        "verifier/score=sympy_solver is the nearest choice to 'sympy_solvr'"
    )
