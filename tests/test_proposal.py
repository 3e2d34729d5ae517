"""How shapes read proposals: what is whose fault, what order changes, and what a configuration may say."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.game import LanguageGame
from selfplay.credit import values
from selfplay.estimators import make_estimator
from selfplay.proposal import rate_of
from selfplay.rollout import rollout
from selfplay.shapes import SHAPES, AzrOneMinus, Learnability, MaeSum, NegValue, RZero, make_shapes
from selfplay.types import Action, Chat, Episode
from tests.credit_trees import challenger, malformed, proposal, solver, speechless, worth
from verifiers.panel import Panel

# -- faults ------------------------------------------------------------------------------------------------------------


def test_an_answer_that_breaks_the_rules_is_a_wrong_answer() -> None:
    """It stays in the denominator: one right of two, and one more without a word: p = 1/3."""
    ends = proposal([1.0, 0.0, 0.0])
    ends[2] = speechless([ends[2]])[0]
    assert rate_of(ends, "score") == pytest.approx(1 / 3)
    assert worth("azr_one_minus", ends) == pytest.approx([2 / 3])


def test_where_the_shape_names_no_price_a_fault_costs_what_the_game_says() -> None:
    assert worth("neg_value", malformed(), proposal([1.0, 0.0])) == [-1, -0.5]
    assert worth(NegValue(malformed=0.25), malformed()) == [0.25]
    paid = proposal([1.0, 1.0], valid=0.0)
    for end in paid:
        end.returns = {"challenger": -0.125}
    assert worth("neg_value", paid) == [-0.125]


def test_a_later_fault_of_the_same_role_weighs_by_its_leaves() -> None:
    """Four games went through an opening; in one the same role then forfeits. The other three have p = 1/3,
    learnability 8/9: (3 * 8/9 + 0) / 4 = 2/3."""
    ends = proposal([1.0, 0.0, 0.0, 0.0])
    ends[3] = Episode(ends[3].turns[:1], {"challenger": -1.0, "solver": 0.0}, {}, {}, forfeit="challenger", game="g_v0")
    assert worth("learnability", ends) == pytest.approx([2 / 3])


def test_rates_must_be_rates() -> None:
    """A reward model's 3.2 has no success rate; -value takes any scale."""
    for name in set(SHAPES) - {"neg_value", "neg_value_plus_quality", "zero_sum", "hint_delta", "azr_solver"}:
        with pytest.raises(ValueError, match=r"reads 'score' as a rate, and a verdict has 3\.2 there"):
            worth(name, proposal([3.2, 0.0], quality=0.5))
    assert worth("neg_value", proposal([3.2, 0.0])) == [-1.6]


class Recites:
    """Says its lines one after the other, a row a line."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        return [Action(self._lines.pop(0)) for _ in observations]


def test_shapes_in_a_game_that_is_played() -> None:
    """Four proposals: three wordings of one question, shares 3/4, and one without its tags. Two answers to each: one
    right, p = 1/2; both right; one right and one blank, which forfeits, so p = 1/2 again. Paper 1/4, 0, 1/4, 0, mean
    1/8; code 0.5 - 0.75, 0 - 0.75, 0.5 - 0.75, -1 - 0.25, mean -0.625."""
    turns = [
        {"role": "challenger", "says": "<question>(?P<query>.+)</question>", "told": "Ask."},
        {"role": "solver", "says": "answer", "told": "{query}"},
    ]
    asked = [f"<question>how many {fruit} lie in the old basket</question>" for fruit in ("pears", "figs", "plums")]
    players = {
        "challenger": Recites(*asked, "how many limes lie in the old basket"),
        "solver": Recites("yes", "no", "yes", "yes", " ", "yes"),
        "verifier": Panel(score=lambda cases: [float(case["answer"] == "yes") for case in cases]),
    }
    game = LanguageGame(turns, {"solver": {"score": 1.0}})
    episodes = rollout([game], players, {"challenger": 4, "solver": 2})
    assert [end.forfeit for end in episodes] == [""] * 4 + ["solver", "", "challenger"]
    for name, expected in (("r_zero", [0.125, -0.125, 0.125, -0.125]), ("r_zero_code", [0.375, -0.125, 0.375, -0.625])):
        credit = make_estimator("lsp_mean", {"challenger": name})(episodes)
        assert challenger(credit) == expected
        assert solver(credit) == [0.5, -0.5, 0, 0, -1, 1], "the Solver earns what the game pays"


def test_a_weighted_sum_needs_no_shape() -> None:
    """Multi-Agent Evolve pays its Solver half the judge's score and half the format: 0.7 / 2 + 1 / 2 = 0.85."""
    game = LanguageGame([{"role": "solver", "says": "answer", "told": "?"}], {"solver": {"judge": 0.5, "format": 0.5}})
    panel = Panel(judge=lambda cases: [0.7] * len(cases), format=lambda cases: [1.0] * len(cases))
    episodes = rollout([game], {"solver": Recites("42"), "verifier": panel})
    assert list(values(episodes).values()) == pytest.approx([0.85])


# -- invariances -------------------------------------------------------------------------------------------------------

FULL = st.lists(st.integers(0, 1), min_size=1, max_size=6)


@pytest.mark.parametrize("name", sorted(SHAPES))
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(FULL, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_the_order_of_siblings_and_leaves_changes_nothing(name: str, rows: list[list[int]], seed: int) -> None:
    rng = random.Random(seed)
    made = [
        malformed()
        if rng.random() < 0.2
        else proposal(row, query=" ".join(rng.choices("abcde", k=4)), quality=rng.random(), delta=rng.random())
        for row in rows
    ]
    episodes = [end for ends in made for end in ends]
    shape = make_shapes({"challenger": name})
    plain, mixed = values(episodes, shape), values(rng.sample(episodes, len(episodes)), shape)
    assert mixed == plain and all(map(math.isfinite, plain.values()))


@pytest.mark.parametrize("name", ["learnability", "uncertainty", "spice_gauss", "sqlm_band"])
@given(row=FULL)
def test_right_and_wrong_are_symmetric(name: str, row: list[int]) -> None:
    """p and 1 - p are worth the same."""
    assert worth(name, proposal(row)) == pytest.approx(worth(name, proposal([1 - score for score in row])))


# -- by name -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ({"challenger": "spice"}, r"shape.challenger='spice' is unknown \(did you mean .*\?\): use neg_value, "),
        ({"challenger": 1.5}, "shape.challenger=1.5 is neither a name nor a shape"),
        (["r_zero"], r"must say whose it is, as shape=\{challenger: r_zero\}"),
    ],
)
def test_unknown_shapes_are_refused(shape: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_shapes(shape)


@pytest.mark.parametrize(
    ("kind", "version", "sentence"),
    [
        (RZero, "papr", r"r_zero has no version 'papr' \(did you mean paper\?\): use paper or code"),
        (AzrOneMinus, "clean", "azr_one_minus has no version 'clean'"),
        (MaeSum, "code", "mae_sum has no version 'code'.*: use current or clean"),
    ],
)
def test_unknown_versions_are_refused(kind: type[RZero | AzrOneMinus | MaeSum], version: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(version=version)


def test_none_is_no_shape() -> None:
    assert make_shapes(None) == make_shapes({}) == make_shapes({"challenger": None}) == {}
    mine = Learnability()
    assert make_shapes({"challenger": mine}) == {"challenger": mine}


def test_a_configuration_names_a_shape_with_its_parameters() -> None:
    from selfplay.compose import build

    node = {"_target_": "selfplay.estimators.RaeEma", "decay": 0.5}
    node["shape"] = {"challenger": {"_target_": "selfplay.shapes.RZero", "version": "code"}, "solver": "azr_solver"}
    made = build(node)
    assert made.shape["challenger"] == RZero(version="code") and made.shape["solver"] == SHAPES["azr_solver"]()
    assert made.decay == 0.5
