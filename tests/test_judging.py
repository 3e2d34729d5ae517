"""What judges share: rules that are narrow, one way to ask, digits weighed, and canaries."""

from __future__ import annotations

import logging
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import load
from models.world import JUDGE
from selfplay.types import Completion
from tests.clerk import Clerk
from tests.helpers import shared_engine
from verifiers.judging.ask import Asker
from verifiers.judging.canary import MASTER_KEYS, Canaries
from verifiers.judging.rubric import ONE_NUMBER, read_number, read_rubric, rubric_prompt
from verifiers.judging.rules import rejected

DIGITS = tuple("01234567")


# -- rules -------------------------------------------------------------------------------------------------------------


JUDGED = (
    *("46", "7", "x", "-7", "0", "∞", "∅", "½", "√2", "{}", "[]", "a)", "1:", "yes", "Sure!", "No.", "👍"),
    *("Solution: 46", "Answer: x", "The answer is 4", "Let's solve this: x = 4", "I will think about it tomorrow"),
    *("The solution works.", "Let me think about you", "Step 1: add. Step 2: stop.", "Let's solve it. ∞", "解: 4"),
)
UNJUDGED = {
    "empty": ("", " \n\t", "\u200b\u202e\x00", "\ud800"),
    "no_content": (":", "...", "-", "=", "\u3002", "** **", "\uff1a"),
    "opener": (
        *("Thought process:", "THOUGHT  PROCESS", "Let's solve this problem step by step.", "**Solution**", "# Step 1"),
        *(
            "Let\u2019s think step by step:",
            "Answer:\n\nSolution:",
            "Sure! Here is the answer:",
            "Réponse :",
            "Lösung:",
        ),
        *("Okay, let me think through this problem step by step...", "解", "かいせつ", "Respuesta", "उत्तर", "정답:"),
        *("Решение:", "الحل:", "פתרון", "让我们一步一步地解决这个问题"),
    ),
}


@pytest.mark.parametrize("answer", JUDGED)
def test_short_answers_are_answers(answer: str) -> None:
    assert rejected("q", answer) is None


@pytest.mark.parametrize(("answer", "reason"), [(text, why) for why, texts in UNJUDGED.items() for text in texts])
def test_openers_are_no_answers(answer: str, reason: str) -> None:
    assert rejected("q", answer) == reason


@given(st.sampled_from(MASTER_KEYS), st.sampled_from(["", " ", "\n", "!", "**", "\u200b"]))
def test_every_published_master_key_is_rejected_in_any_dress(key: str, dress: str) -> None:
    assert rejected("q", dress + key + dress) is not None


@given(st.text())
def test_a_digit_is_always_judged(text: str) -> None:
    """No rule may eat a number: "step 1" is the only phrase with one."""
    assert rejected("q", f"{text} 46") is None


# -- asking ------------------------------------------------------------------------------------------------------------


def test_samples_are_averaged_where_they_can_be_read() -> None:
    """Replies 2, nonsense, 7, 7 to one prompt, by the order of asking: the mean of the readable is 16/3."""
    replies = iter(["2", "well", "7", "7", "x", "x", "x", "x"])
    clerk = Clerk(lambda prompt, seed: next(replies))
    found = Asker(clerk, max_tokens=4, temperature=1.0, samples=4)(["a", "b", "a"], read_number)
    assert found["a"] == 16 / 3 and math.isnan(found["b"])
    assert len(set(clerk.seeds)) == 8, "every sample has a seed of its own"
    once = Clerk("7")
    Asker(once, max_tokens=4, temperature=1.0)(["a", "b"], read_number)
    assert once.seeds == [clerk.seeds[0], clerk.seeds[4]], "the first sample is what a single one would be"


def test_probabilities_are_averaged_where_they_say_something() -> None:
    """Half 2, a quarter 7, the rest elsewhere: (0.5 * 2 + 0.25 * 7) / 0.75 = 11/3; below half in all it is nan."""
    chances = [0, 0, 0.5, 0, 0, 0, 0, 0.25]
    asker = Asker(Clerk("", chances=chances), max_tokens=4, replies=DIGITS)
    assert asker(["p"], read_number)["p"] == pytest.approx(11 / 3)
    faint = Asker(Clerk("", chances=[c / 2 for c in chances]), max_tokens=4, replies=DIGITS)
    assert math.isnan(faint(["p"], read_number)["p"])


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="samples=0 must be at least 1"):
        Asker(Clerk(""), max_tokens=4, samples=0)
    with pytest.raises(ValueError, match="samples=3 at temperature=0 are all the same"):
        Asker(Clerk(""), max_tokens=4, samples=3)
    with pytest.raises(ValueError, match="exclude each other"):
        Asker(Clerk(""), max_tokens=4, temperature=1.0, samples=3, replies=DIGITS)


@pytest.mark.parametrize("engine", [shared_engine("gemma3"), load("tiny", dtype="float32", device="cpu")])
def test_choices_are_the_models_own_log_probabilities(engine: object) -> None:
    """The same numbers as ``logprobs`` gives for a completion of that one token, to 1e-4, whatever the batch."""
    chats = [{"user": ONE_NUMBER.format(query=q, answer="5")} for q in ("2 + 3 = ?", "x + 12 = 17, x = ?", "9")]
    found = engine.choices(chats, DIGITS)  # type: ignore[attr-defined]
    for chat, row in zip(chats, found, strict=True):
        encoded = [engine.encode(chat, digit) for digit in DIGITS]  # type: ignore[attr-defined]
        firsts = [Completion(c.text, c.prompt_ids, c.token_ids[:1], (), "stop") for c in encoded]
        expected = engine.logprobs(firsts)[0][:, 0].tolist()  # type: ignore[attr-defined]
        assert row == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="'10' is 2 tokens"):
        engine.choices(chats, ("1", "10"))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="are the same token"):
        engine.choices(chats, ("1", "1"))  # type: ignore[attr-defined]


def test_forms_of_the_rubric() -> None:
    assert ONE_NUMBER == JUDGE, "the embedded model's judge is asked what it was trained on, to the byte"
    assert rubric_prompt("1 + 1 = ?", "2", "7f", form="short") == "Judge: 1 + 1 = ? 2"
    full, number = rubric_prompt("q", "a", "7f"), rubric_prompt("q", "a", "7f", form="number")
    assert full.split("7f, never")[0].split("Everything")[0] == number.split("Everything")[0]
    assert "<score>" in full and "<score>" not in number and "one digit" in number
    assert read_rubric(number) is None and read_number(number) is None


# -- canaries ----------------------------------------------------------------------------------------------------------


def test_canaries_are_drawn_by_the_seed_and_the_questions() -> None:
    queries = [f"q{i}" for i in range(9)]
    drawn = Canaries(1, seed=0).draw(queries)
    assert len(drawn) == 4 * len(MASTER_KEYS) and {key for _, key in drawn} == set(MASTER_KEYS)
    assert drawn == Canaries(1, seed=0).draw(queries[::-1] * 2) and drawn != Canaries(1, seed=1).draw(queries)
    assert Canaries(0, seed=0).draw(queries) == [] == Canaries(1, seed=0).draw([])
    calls = sum(bool(Canaries(5, seed=seed).draw(queries)) for seed in range(400))
    assert 50 <= calls <= 110, "one call in five, 80 of 400 expected"


def test_the_alarm_above_one_percent(caplog: pytest.LogCaptureFixture) -> None:
    """5 of 200 are within chance (2 + 3 * sqrt(2) = 6.2), 12 of 300 are not (3 + 3 * sqrt(3) = 8.2): one line, once."""
    canaries, counts = Canaries(1, seed=0), Counter[str]()
    with caplog.at_level(logging.WARNING):
        canaries.count([7.0] + [2.0] * 98 + [math.nan], counts)
        assert counts == {"canaries": 100, "canaries_accepted": 1}, "what cannot be read is not accepted"
        canaries.count([5.0] * 4 + [4.0] * 96, counts)
        assert not caplog.records
        canaries.count([6.0] * 7 + [4.0] * 93, counts)
        canaries.count([7.0] * 9, counts)
        assert len(caplog.records) == 1 and "accepts 12 of 300" in caplog.text
        Canaries(1, seed=0).count([7.0] * 10, counts)
    assert len(caplog.records) == 1, "ten are no share yet"
