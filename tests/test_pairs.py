"""Which pairs there are: siblings, the data's words, revisions, and a judge's labels."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from learners.examples import Example
from learners.pairs import Pairs
from selfplay.types import Action, Episode, Turn
from tests.helpers import chat, shared_engine
from tests.imitation import Judge, answers, critique, cut, mute, play


def texts(examples: Sequence[Example]) -> list[tuple[str, str]]:
    return sorted((e.said[0].text, e.said[1].text) for e in examples)


def test_the_best_sibling_against_the_worst() -> None:
    """Scores 2, 5, 5, 1: a five against the one, of the two fives the one whose tokens sort first ("b" before "c");
    3, 3, 3, 3: no pair."""
    engine = shared_engine()
    found, metrics = Pairs(engine, "solver")(answers(engine, ["a", "c", "b", "d"], [2, 5, 5, 1]))
    assert texts(found) == [("b", "d")] and found[0].weight == 1.0
    assert metrics == {"pairs/found": 1, "pairs/tied_share": 0, "pairs/equal_share": 0, "pairs/undecided_share": 0}
    found, metrics = Pairs(engine, "solver")(answers(engine, ["a", "b", "c", "d"], [3, 3, 3, 3]))
    assert not found and metrics["pairs/tied_share"] == 1


def test_the_order_of_siblings_chooses_nobody() -> None:
    engine = shared_engine()
    episodes = answers(engine, ["a", "c", "b", "d", "e"], [2, 5, 5, 1, 1])
    for seed in range(5):
        mixed = random.Random(seed).sample(episodes, 5)
        assert texts(Pairs(engine, "solver")(mixed)[0]) == [("b", "d")]


def test_margins_equal_words_and_nan() -> None:
    engine = shared_engine()

    def pairs(words: list[str], score: list[float], **options: Any) -> tuple[list[tuple[str, str]], dict[str, float]]:
        found, metrics = Pairs(engine, "solver", **options)(answers(engine, words, score))
        return texts(found), metrics

    assert pairs(["a", "b"], [0.5, 0.75], margin=0.25)[0] == []
    assert pairs(["a", "b"], [0.5, 0.76], margin=0.25)[0] == [("b", "a")]
    same_words, metrics = pairs(["a", " a"], [0.0, 1.0])
    assert same_words == [] and metrics["pairs/equal_share"] == 1, "a judge that is of two minds about the same words"
    assert pairs(["a", "b", "c"], [0.0, math.nan, 1.0])[0] == [("c", "a")]
    assert pairs(["a", "b"], [0.0, math.nan])[0] == [] and pairs(["a"], [1.0])[0] == []


def test_a_part_of_the_verdict_may_decide() -> None:
    """The role's return is R + R_Q by default; ``part`` looks at one of them."""
    engine = shared_engine()
    episodes = answers(engine, ["a", "b"], [0.0, 1.0])
    for episode, worth in zip(episodes, (3.0, 1.0), strict=True):
        episode.returns = {"solver": worth}
    assert texts(Pairs(engine, "solver")(episodes)[0]) == [("a", "b")]
    assert texts(Pairs(engine, "solver", part="score")(episodes)[0]) == [("b", "a")]


def test_the_data_wins_against_the_players_words() -> None:
    """SPIN: the reference of the case, encoded as a reply, against each sample; what equals it is dropped."""
    engine = shared_engine()
    episodes = answers(engine, ["4", "5", " 4"], [1.0, math.nan, 1.0], reference="4")
    found, metrics = Pairs(engine, "solver", winner="reference")(episodes)
    assert texts(found) == [("4", "5")] and metrics["pairs/equal_share"] == 2 / 3, "nobody asked the verifier"
    chosen, rejected = found[0].said
    assert chosen.prompt_ids == rejected.prompt_ids and chosen == engine.encode(chat("q"), "4")
    assert not Pairs(engine, "solver", winner="reference")(answers(engine, ["4"], [1.0]))[0], "no reference, no pair"


def test_a_revision_wins_against_its_draft() -> None:
    """The last one, behind the question that the draft answered."""
    engine = shared_engine()
    found, _ = Pairs(engine, "solver", winner="reviser")(critique(engine, "no", ["yes", "yes, gladly"]))
    assert texts(found) == [("yes, gladly", "no")]
    assert found[0].said[0].prompt_ids == engine.encode(chat("Why?"), "").prompt_ids
    assert not Pairs(engine, "solver", winner="reviser")(critique(engine, "no", ["no"]))[0]


def test_a_judge_labels_the_pairs() -> None:
    """0.8 for the first of a pair: it is chosen with that weight; 0.1: the second is, with 0.9. Ties and what the
    judge could not decide are counted and dropped."""
    engine = shared_engine()
    judge = Judge({"a": 0.8, "b": 0.1, "c": 0.5, "d": math.nan})
    episodes = [e for w in "abcd" for e in answers(engine, [w], [0.0], query=f"q{w}", reference=f"not {w}")]
    found, metrics = Pairs(engine, "solver", winner="reference", judge=turned(judge))(episodes)
    assert sorted((e.said[0].text, e.said[1].text, round(e.weight, 6)) for e in found) == [
        ("a", "not a", 0.8), ("not b", "b", 0.9),
    ]  # fmt: skip
    assert metrics["pairs/tied_share"] == metrics["pairs/undecided_share"] == 1 / 4
    assert sorted(judge.asked)[0] == ("qa", "a", "not a")


def turned(judge: Judge) -> Any:
    """The judge asked about the pairs the other way round."""
    return lambda cases: [1 - p for p in judge([{**c, "answer": c["rival"], "rival": c["answer"]} for c in cases])]


def test_siblings_are_paired_off_for_a_judge_whatever_they_earned() -> None:
    engine = shared_engine()
    words = [f"w{n}" for n in range(7)]
    judge = Judge(dict.fromkeys(words, 0.9))
    episodes = answers(engine, words, [1.0] * 7)
    found, _ = Pairs(engine, "solver", judge=judge, seed=1)(episodes)
    assert len(found) == 3 and len({w for pair in texts(found) for w in pair}) == 6, "of seven, one stays alone"
    mixed, _ = Pairs(engine, "solver", judge=judge, seed=1)(random.Random(2).sample(episodes, 7))
    assert texts(mixed) == texts(found)
    assert len({tuple(texts(Pairs(engine, "solver", judge=judge, seed=s)(episodes)[0])) for s in range(8)}) > 1
    with pytest.raises(ValueError, match=r"learner.judge gave 7, which is no chance between 0 and 1"):
        Pairs(engine, "solver", judge=Judge(dict.fromkeys(words, 7)))(episodes)


@pytest.mark.parametrize(("words", "told_apart"), [("aabb", 2), ("aaab", 1), ("aab", 1), ("abb", 1), ("aaaa", 0)])
def test_a_judge_is_asked_about_words_that_differ_where_there_are_any(words: str, told_apart: int) -> None:
    """Two a and two b make two pairs, whatever the seed draws: a meets b."""
    engine = shared_engine()
    episodes = answers(engine, list(words), [0.0] * len(words))
    for seed in range(8):
        found, _ = Pairs(engine, "solver", judge=Judge({"a": 0.9, "b": 0.9}), seed=seed)(episodes)
        assert [set(pair) for pair in texts(found)] == [{"a", "b"}] * told_apart


def test_words_without_tokens_are_nobodys_unless_asked_for() -> None:
    engine = shared_engine()
    episodes = [mute(e) for e in play(engine)]
    assert not Pairs(engine, "solver")(episodes)[0]
    assert len(Pairs(engine, "solver", encode=True)(episodes)[0]) == 3


def test_truncated_words_may_lose() -> None:
    engine = shared_engine()
    assert len(Pairs(engine, "solver")([cut(e) for e in play(engine)])[0]) == 3


def test_a_role_that_no_game_came_to_teaches_nothing() -> None:
    """Every program failed, so the executor ended each game before the Solver's turn: no pairs, and no error."""
    asked = Turn("challenger", "challenger_0", chat("Ask."), Action("q"), 0)
    failed = Turn("executor", "executor_0", chat("q"), Action("error"), 1)
    case = {"query": "q", "answer": "", "reference": ""}
    over = Episode((asked, failed), {"challenger": 0.0, "solver": 0.0}, case, {"score": 0.0})
    found, metrics = Pairs(shared_engine(), "solver")([over])
    assert found == [] and metrics["pairs/found"] == 0
    with pytest.raises(ValueError, match=r"learner.role='solvr' never speaks"):
        Pairs(shared_engine(), "solvr")([over])
