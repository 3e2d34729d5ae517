"""How likely a judge is to prefer an answer: both orders, the clamp, the embedded model's grades."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest

from models.loading import load
from selfplay.testing import check_verifier
from selfplay.types import Case
from tests.clerk import Clerk
from tests.helpers import shared_engine
from tests.test_judging_frames import HOSTILE
from tests.test_selfjudge import ASKED
from verifiers.preference import Preference, higher


def pair(answer: str, rival: str, query: str = "q") -> Case:
    return {"query": query, "answer": answer, "reference": "", "rival": rival}


class Liker(Clerk):
    """Says A with the given chance where the words ``liked`` are option A, and B with it where they are option B."""

    def __init__(self, liked: str, chance: float, mass: float = 1.0) -> None:
        super().__init__("")
        self.liked, self.chance, self.mass = liked, chance, mass

    def choices(self, chats: Sequence[dict[str, str]], replies: Sequence[str]) -> list[list[float]]:
        assert list(replies) == ["A", "B"]
        self.prompts += [chat["user"] for chat in chats]
        ahead = [chat["user"].index(self.liked) < chat["user"].index("Option B:") for chat in chats]
        return [
            [math.log(self.mass * (self.chance if (reply == "A") == first else 1 - self.chance)) for reply in replies]
            for first in ahead
        ]


def test_both_orders_are_averaged() -> None:
    """A judge that likes "good" with 0.9 wherever it stands: 0.9 for it, 0.1 for the other. The two cases are one
    question in two orders, and each order is asked once."""
    judge = Liker("good", 0.9)
    assert Preference(judge)([pair("good", "bad"), pair("bad", "good")]) == pytest.approx([0.9, 0.1])
    assert len(judge.prompts) == 2


def test_a_judge_that_likes_the_first_option_decides_nothing() -> None:
    """p(A) = 0.7 in either order: (0.7 + (1 - 0.7)) / 2 = 0.5, and it is told."""
    judge = Preference(Clerk("", chances=(0.7, 0.3)))
    assert judge([pair("a", "b")]) == pytest.approx([0.5])
    assert judge.metrics() == {"asked": 1.0, "undecided": 0.0, "position_bias": 1.0}
    assert judge.metrics() == {"asked": 0.0, "undecided": 0.0, "position_bias": 0.0}


def test_letters_are_normalised_and_clamped() -> None:
    """Log-probabilities -1 and -2: e^-1 / (e^-1 + e^-2) = 0.73106, held to 0.6; the other way 0.26894, held to 0.4."""
    liker = Liker("good", math.exp(-1) / (math.exp(-1) + math.exp(-2)), mass=math.exp(-1) + math.exp(-2))
    cases = [pair("good", "bad"), pair("bad", "good")]
    assert Preference(liker)(cases) == pytest.approx([0.73106, 0.26894], abs=1e-5)
    assert Preference(liker, clamp=(0.4, 0.6))(cases) == [0.6, 0.4]


def test_a_judge_that_wants_to_say_something_else_is_not_believed() -> None:
    """The letters hold 0.4 of the probability between them: nan, and counted."""
    judge = Preference(Liker("good", 0.9, mass=0.4), clamp=(0.4, 0.6))
    assert math.isnan(judge([pair("good", "bad")])[0])
    assert judge.metrics()["undecided"] == 1.0


def test_what_nobody_is_asked_about() -> None:
    judge = Clerk("")
    scores = Preference(judge)([pair("a", "a"), pair("", "a"), pair("a", "..."), pair("", "..."), pair("a", "  ")])
    assert scores[:4] == [0.5, 0.0, 1.0, 0.5] and math.isnan(scores[4]), "nobody to compare with"
    assert math.isnan(Preference(judge)([{"query": "q", "answer": "a", "reference": ""}])[0])
    assert not judge.prompts


def test_a_question_without_room_is_nan() -> None:
    assert math.isnan(Preference(Clerk("", room=100, chances=(0.7, 0.3)))([pair("a", "b")])[0])


def test_a_principle_is_drawn_for_the_pair_whatever_its_order() -> None:
    judge = Clerk("", chances=(0.5, 0.5))
    principles = ["is kinder", "is shorter", "claims less"]
    Preference(judge, principles=principles, seed=3)([pair(f"a{n}", "b") for n in range(20)])
    told = [re.findall(r"Decide which response (.*?)\.", prompt)[0] for prompt in judge.prompts]
    assert set(told) == set(principles) and told[::2] == told[1::2]
    again = Clerk("", chances=(0.5, 0.5))
    Preference(again, principles=principles, seed=3)([pair("b", f"a{n}") for n in range(20)])
    assert sorted(again.prompts) == sorted(judge.prompts), "the same draw, the same questions"


def test_players_words_stay_in_their_frames() -> None:
    judge = Clerk("", chances=(0.5, 0.5))
    Preference(judge)([pair("a" + "".join(HOSTILE), "b" + "".join(HOSTILE))])
    for prompt in judge.prompts:
        assert sorted(re.findall(r"<(\w+) [0-9a-f]{16}>", prompt)) == ["first", "instruction", "second"]


def test_higher_by_hand() -> None:
    """P(X > Y) + P(X = Y) / 2 for X on (0.2, 0.8), Y on (0.5, 0.5): 0.8 x 0.5 + (0.1 + 0.4) / 2 = 0.65."""
    assert higher([0.2, 0.8], [0.5, 0.5]) == pytest.approx(0.65)
    assert higher([0.5, 0.5], [0.2, 0.8]) == pytest.approx(0.35)
    assert higher([0.3, 0.3, 0.4], [0.3, 0.3, 0.4]) == pytest.approx(0.5)


def test_the_embedded_model_prefers_right_answers() -> None:
    judge = Preference(load("tiny"), form="short")
    rows = [pair(str(right), str(wrong), query) for query, right, wrong in ASKED]
    chances = judge(rows)
    assert sum(chance > 0.5 for chance in chances) >= 0.8 * len(chances)
    turned = judge([{**row, "answer": row["rival"], "rival": row["answer"]} for row in rows])
    assert chances == pytest.approx([1 - chance for chance in turned], abs=1e-6)


def test_it_keeps_the_contract() -> None:
    check_verifier(Preference(shared_engine()), [pair(text, "a rival") for text in ("one", "two", "", "a rival")])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="form='long' is unknown: use full or short"):
        Preference(Clerk(""), form="long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"clamp=\[0.6, 0.4\] must be two numbers between 0 and 1, the lower one"):
        Preference(Clerk(""), clamp=(0.6, 0.4))
    with pytest.raises(ValueError, match="principles: name at least one, or null"):
        Preference(Clerk(""), principles=[])
