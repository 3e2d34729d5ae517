"""Every Challenger shape against numbers worked by hand, and the wrong variants that it must be told apart from."""

from __future__ import annotations

import math
from statistics import variance

import pytest

from selfplay.credit import advantages, leaves_of, values
from selfplay.shapes import (
    SHAPES,
    AzrOneMinus,
    HintDelta,
    MaeSum,
    NegValue,
    NegValuePlusQuality,
    RZero,
    SpiceGauss,
    make_shapes,
)
from selfplay.types import Episode
from tests.credit_trees import challenger, malformed, proposal, solver, speechless, worth
from tests.helpers import tree

R = [[1.0, 3.0], [5.0, 7.0]]
R_Q = [[7.0, 5.0], [1.0, 3.0]]


def rated(p: float, answers: int = 8) -> list[Episode]:
    """A proposal that the share p of its answers has right."""
    right = round(p * answers)
    assert right == p * answers
    return proposal([1.0] * right + [0.0] * (answers - right))


# -- LSP ---------------------------------------------------------------------------------------------------------------


def test_lsp_shapes_are_the_payoffs() -> None:
    """V = -[2, 6] and V + V_Q = [6 - 2, 2 - 6], whatever the game pays the Challenger."""
    episodes = tree(R, R_Q)
    for episode in episodes:
        episode.returns = {**episode.returns, "challenger": 0.0}
    asked = [episodes[0].turns[0], episodes[2].turns[0]]
    for name, expected in (("neg_value", [-2, -6]), ("neg_value_plus_quality", [4, -4])):
        found = values(episodes, make_shapes({"challenger": name}))
        assert [found[turn] for turn in asked] == expected
    credit = advantages(episodes, shape=make_shapes({"challenger": "neg_value_plus_quality"}))
    assert [credit[turn] for turn in asked] == [4, -4], "LSP's vector; the R_Q trap would give [2, -2]"
    assert solver(credit) == [0, 0, -2, 2]


def test_the_r_q_trap_in_the_score() -> None:
    """Were the score that the shape reads already R + R_Q, the quality would cancel: -[8, 8] + [6, 2] = -[2, 6], and
    A_Ch = [2, -2], LSP-Zero's. On the score alone it is [4, -4]."""
    both = [[r + q for r, q in zip(*rows, strict=True)] for rows in zip(R, R_Q, strict=True)]
    shape = {"challenger": NegValuePlusQuality()}
    for scores, expected in ((both, [2, -2]), (R, [4, -4])):
        credit = advantages(tree(scores, R_Q), shape=shape)
        assert challenger(credit) == expected


def test_parts_are_read_by_their_names() -> None:
    ends = proposal([1.0, 0.0], reward=3.0, taste=0.5)
    assert worth(NegValuePlusQuality(part="reward", quality="taste"), ends) == [-2.5]
    with pytest.raises(ValueError, match=r"reads 'scor' in the verdict \(did you mean score\?\), which has score, rew"):
        worth(NegValue(part="scor"), ends)


# -- Absolute Zero -----------------------------------------------------------------------------------------------------


def test_azr_paper_and_code() -> None:
    """p = 1/4 -> 3/4 in both. p = 0 or 1 -> 0 in the paper, -0.5 in the code. No code block -> -1; one that does not
    run or is not deterministic -> -0.5."""
    cases = [rated(0.25), rated(0.0), rated(1.0), malformed(), proposal([0.0] * 8, valid=0.0)]
    assert worth("azr_one_minus", *cases) == [0.75, 0, 0, -1, -0.5]
    assert worth("azr_one_minus_code", *cases) == [0.75, -0.5, -0.5, -1, -0.5]
    assert worth(AzrOneMinus(version="code"), *cases) == worth("azr_one_minus_code", *cases)


def test_azr_solver() -> None:
    """Right 1, wrong -0.5, malformed -1. Induction with 4 of 5 hidden pairs is wrong. An unusable question changes
    nothing: the answer to it is as right or wrong as it is."""
    ends = [*proposal([1.0, 0.0, 0.8]), *speechless(proposal([0.0])), *proposal([1.0, 0.0], valid=0.0)]
    answered = [end.turns[1] for end in ends]
    assert SHAPES["azr_solver"]()(answered, leaves_of(ends)) == [1, -0.5, -0.5, -1, 1, -0.5]


# -- R-Zero ------------------------------------------------------------------------------------------------------------

SHARE = 0.25
"""Of four questions that have nothing in common."""


def different(*rates: float) -> list[list[Episode]]:
    """Four questions without a common word, ten answers each."""
    texts = ("one two three four", "five six seven eight", "nine ten eleven twelve", "red green blue black")
    return [
        proposal([1.0] * round(10 * p) + [0.0] * round(10 - 10 * p), query=text)
        for p, text in zip(rates, texts, strict=True)
    ]


def test_r_zero_without_repetition() -> None:
    """p = 0.5, 0.7, 1, 0.1: paper 1 - 2 |p - 1/2| = 1, 0.6, 0, 0.2; code min(p, 1 - p) = 0.5, 0.3, 0, 0.1."""
    four = different(0.5, 0.7, 1.0, 0.1)
    assert worth(RZero(penalty=0), *four) == pytest.approx([1, 0.6, 0, 0.2])
    assert worth(RZero("score", version="code", penalty=0), *four) == pytest.approx([0.5, 0.3, 0, 0.1])
    assert worth("uncertainty", *four) == pytest.approx([1, 0.6, 0, 0.2])


def test_r_zero_takes_the_share_of_the_cluster() -> None:
    """Clusters {3, 1} of B = 4, p = 1/2 for all: shares 0.75 (three times), 0.25. Paper 1 - share, code 0.5 - share."""
    alike = [
        proposal([1.0, 0.0], query=f"how many {fruit} lie in the old basket") for fruit in ("pears", "figs", "plums")
    ]
    four = [*alike, proposal([1.0, 0.0], query="what is the capital of the northern province")]
    assert worth("r_zero", *four) == [0.25, 0.25, 0.25, 0.75]
    assert worth("r_zero_code", *four) == [-0.25, -0.25, -0.25, 0.25]
    assert worth(RZero(penalty=0.5), *four) == [0.625, 0.625, 0.625, 0.875]


def test_r_zero_is_cut_at_zero_in_the_paper_only() -> None:
    """p = 1 with share 1/4: max(0, 0 - 1/4) = 0, and -1/4 in the code."""
    four = different(1.0, 0.0, 1.0, 0.0)
    assert worth("r_zero", *four) == [0] * 4
    assert worth("r_zero_code", *four) == [-SHARE] * 4


def test_r_zero_without_the_format() -> None:
    """Paper 0; code -1 - share, where a question that could not be read is a cluster of its own: -1 - 1/4, for both."""
    four = [rated(0.5), rated(0.5), malformed(), malformed()]
    assert worth("r_zero", *four) == [0.5, 0.5, 0, 0]
    assert worth("r_zero_code", *four) == [0, 0, -1.25, -1.25]
    unusable = proposal([0.0], query="x", valid=0.0)
    assert worth("r_zero", rated(0.5), unusable) == [0.5, 0] and worth("r_zero_code", rated(0.5), unusable)[1] == -1.5


def test_a_question_that_leaves_all_speechless_is_compared_by_its_move() -> None:
    """Nobody gave a usable answer: p = 0, and there is no case to read the question from."""
    first, twin = proposal([1.0, 0.0]), speechless(proposal([1.0, 0.0]))
    assert worth("r_zero_code", twin, twin) == [-1, -1], "one turn given twice: share 2 of 2"
    assert worth("r_zero_code", first, twin) == [0, -0.5], (
        "the extracted question and the whole move are different texts"
    )


# -- bands, bells and sums ---------------------------------------------------------------------------------------------


def majority(answers: str) -> list[Episode]:
    """Answers that agree with the most frequent of them; a tie goes to the first in the alphabet."""
    most = min(answers, key=lambda one: (-answers.count(one), one))
    return proposal([float(one == most) for one in answers])


def test_sqlm_pays_what_is_not_unanimous() -> None:
    """aaaa -> 0; aaab, aabb and abcd -> 1: the majority counts itself, so its share is never 0. For tests of a program:
    none passed -> 0."""
    assert worth("sqlm_band", *map(majority, ("aaaa", "aaab", "aabb", "abcd"))) == [0, 1, 1, 1]
    assert worth("sqlm_band", rated(0.0), malformed(), proposal([0.5, 0.5])) == [0, 0, 1]


def test_spice_bell_of_the_population_variance() -> None:
    """Var = p (1 - p): 0 -> exp(-0.0625 / 0.02) = 0.0439, 0.09 -> 0.278, 0.109375 -> 0.372, 0.1875 -> 0.8226, 0.234375
    -> 0.9879, 0.25 -> 1. What always fails still earns 0.044; what is invalid -0.1."""
    for p, expected in (
        (0.0, 0.0439),
        (1.0, 0.0439),
        (0.125, 0.372),
        (0.25, 0.8226),
        (0.75, 0.8226),
        (0.375, 0.9879),
        (0.5, 1.0),
    ):
        assert worth("spice_gauss", rated(p)) == pytest.approx([expected], abs=5e-4)
    assert worth("spice_gauss", rated(0.1, 10), rated(0.9, 10)) == pytest.approx([0.278, 0.278], abs=5e-4)
    assert worth("spice_gauss", malformed(), proposal([0.0], valid=0.0)) == [-0.1, -0.1]
    assert worth(SpiceGauss(malformed=0.0), malformed()) == [0.0], "as others advise"


def test_the_bessel_trap() -> None:
    """With Bessel's correction, G = 8: 8/7 of the variance gives the same 0.9382 at p = 1/2 and at 1/4, and more at
    3/8 between them. The peak must be at 1/2."""

    def wrong(p: float) -> float:
        spread = variance([end.verdict["score"] for end in rated(p)])
        return math.exp(-((spread - 0.25) ** 2) / 0.02)

    assert wrong(0.5) == pytest.approx(0.9382, abs=1e-4) == pytest.approx(wrong(0.25), abs=1e-4)
    assert wrong(0.375) > wrong(0.5)
    quarter, between, half = worth("spice_gauss", rated(0.25), rated(0.375), rated(0.5))
    assert quarter < between < half == 1


def test_mae_current_and_clean() -> None:
    """Quality 0.8, p = 0.4, format 1: (0.8 + 0.6 + 1) / 3 = 0.8; binary difficulty (0.4 < 0.7): 0.93333. Quality 0.6:
    the difficulty is dropped, (0.6 + 1) / 3 = 0.53333 in both. No question: 0."""
    good, poor = proposal([1, 1, 0, 0, 0], quality=0.8), proposal([1, 1, 0, 0, 0], quality=0.6)
    assert worth("mae_sum", good, poor, malformed()) == pytest.approx([0.8, 1.6 / 3, 0])
    assert worth("mae_sum_clean", good, poor, malformed()) == pytest.approx([2.8 / 3, 1.6 / 3, 0])
    easy = proposal([1, 1, 1, 0], quality=0.8)
    assert worth("mae_sum_clean", easy) == pytest.approx([0.6]), "0.75 is not below 0.7"
    assert worth(MaeSum(format="form"), proposal([0.0], quality=0.8, form=0.5)) == pytest.approx([2.3 / 3])


def test_mae_bar_in_the_judges_points() -> None:
    """The judge's 8 of 1-10 is 7/9 = 0.77778 and keeps the difficulty: (7/9 + 1 + 1) / 3; 7 is 6/9 and loses it."""
    assert worth("mae_sum", proposal([0.0], quality=7 / 9), proposal([0.0], quality=6 / 9)) == pytest.approx(
        [25 / 27, 5 / 9]
    )


def test_hint_delta() -> None:
    """delta = -1.0 - (-1.8) = 0.8, a hint of 450 characters, share 1/4: 0.8 - 0.03 * 2.5 - 0.25 = 0.475. Malformed with
    that share: -1.25."""
    hinted = proposal([0.0], query="one two three four", hint="h" * 450, delta=-1.0 - -1.8)
    others = [proposal([0.0], query=text, hint="h" * 200, delta=-9.0) for text in ("five six seven", "eight nine ten")]
    found = worth("hint_delta", hinted, *others, malformed())
    assert found == pytest.approx([0.475, -5.25, -5.25, -1.25]), "delta counts as at least -5; 200 characters are free"
    with pytest.raises(ValueError, match=r"reads the slot 'hnt' \(did you mean hint\?\)"):
        worth(HintDelta(hint="hnt"), hinted)


def test_learnability_and_uncertainty() -> None:
    """4 p (1 - p) and 1 - 2 |p - 1/2| at p = 0, 1/2, 1, 1/4."""
    four = [rated(p) for p in (0.0, 0.5, 1.0, 0.25)]
    assert worth("learnability", *four) == [0, 1, 0, 0.75]
    assert worth("uncertainty", *four) == [0, 1, 0, 0.5]


def test_zero_sum() -> None:
    """What the Solver earns, [1, 0, 1] and [0, 0, 0], with the other sign: -2/3 and 0. A Solver's forfeit (-1) is worth
    1; one's own what the game pays."""
    assert worth("zero_sum", proposal([1, 0, 1]), proposal([0, 0, 0])) == pytest.approx([-2 / 3, 0])
    assert worth("zero_sum", speechless(proposal([0.0])), malformed()) == [1, -1]
    episodes = tree(R)
    assert values(episodes, make_shapes({"challenger": "zero_sum"})) == values(episodes), "LSP-Zero is zero-sum already"
