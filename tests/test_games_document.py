"""Document (SPICE): the Challenger reads, the Solver does not, and what was sealed stays sealed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.dataset import Dataset
from agents.scripted import Scripted
from envs import document, shipped
from envs.game import LanguageGame
from selfplay.rollout import rollout
from selfplay.testing import check_game
from verifiers.panel import Panel
from verifiers.sympy_solver import SympySolver

SHIPPED = Path(document.__file__).parent / "documents.jsonl"
SECRET = "Zanzibar was 4711 cubits long."


def make(**options: Any) -> LanguageGame:
    game = shipped.raw("document", **options)
    game.reset(seed=0)
    game.step(SECRET)
    return game


@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: shipped.raw("document", wording=wording), games=10)


def test_the_document_is_for_the_challenger_alone() -> None:
    game = make()
    assert SECRET in game.observe("challenger_0")["user"]
    game.step("The length is stated.\nQuestion: How long was it, in cubits?\n#### 4711")
    told = game.observe("solver_0")["user"]
    assert told.startswith("How long was it, in cubits?\n") and SECRET not in told and "4711" not in told
    game.step("\\boxed{4711}")
    case = game.observe("verifier_0")
    assert (case["query"], case["reference"]) == ("How long was it, in cubits?", "4711")
    assert case["document"] == SECRET and case["answer"] == "\\boxed{4711}"


@settings(max_examples=60, deadline=None)
@given(thoughts=st.text(max_size=80), question=st.text(st.characters(exclude_characters="\n"), max_size=40))
def test_whatever_is_asked_nothing_of_the_document_reaches_the_solver(thoughts: str, question: str) -> None:
    game = make()
    game.step(f"{thoughts}\nQuestion: {question}\n#### {SECRET}")
    if not any(game.terminations.values()):
        assert SECRET not in game.observe("solver_0")["user"] and game.case["reference"] == SECRET
        assert game.case["query"] in question


@pytest.mark.parametrize(
    "move",
    [
        "Question: How long?", "How long?\n#### 4711", "Question:\n#### 4711", "Question: How long?\n####",
        "Question: How long?\n#### \n", "Question: How long?\n#### 4711\nand more", "Question: a\nb\n#### 4711",
    ],
)  # fmt: skip
def test_what_forfeits(move: str) -> None:
    game = make()
    game.step(move)
    assert game.rewards["challenger_0"] == -1.0 and game.rewards["solver_0"] == 0.0


def test_the_last_question_counts_and_blanks_around_it_do_not() -> None:
    game = make()
    game.step("Question: no\nQuestion:   How long?\n\n####   4711 m  \n\n")
    assert (game.case["query"], game.case["reference"]) == ("How long?", "4711 m")


@pytest.mark.parametrize(
    "move",
    [
        "Question: " * 1_600, "Question: " + "a" * 16_000, "Question: a\n#### b" + " " * 16_000 + "c\n\nd",
        "\n" * 16_000, "Question: a\n" * 1_300, "Question: a\n#### b " * 800, "Question: a\n" + "\n" * 16_000,
    ],
)  # fmt: skip
def test_a_hostile_move_is_read_in_no_time(move: str) -> None:
    game = make()
    began = time.process_time()
    game.step(move)
    assert time.process_time() - began < 1.0


def test_a_malformed_question_can_cost_what_the_paper_says() -> None:
    game = make(forfeit=-0.1)
    game.step("no question at all")
    assert game.rewards["challenger_0"] == -0.1


def test_a_data_set_speaks_first_and_a_reference_decides() -> None:
    rows = [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 10 and all(len(row["text"]) > 300 for row in rows)
    seats: dict[str, Any] = {
        "library": Dataset(SHIPPED, says="{text}"),
        "challenger": Scripted(["Question: What is six times seven?\n#### 42"]),
        "solver": Scripted(["\\boxed{42}", "\\boxed{41}"]),
        "verifier": Panel(score=SympySolver()),
    }
    episodes = rollout([shipped.raw("document")], seats, {"library": 3, "challenger": 2, "solver": 4}, seed=1)
    assert len(episodes) == 24 and len({episode.case["document"] for episode in episodes}) == 3
    assert {episode.returns["solver"] for episode in episodes} == {0.0, 1.0}
    for episode in episodes:
        assert episode.returns["challenger"] == -episode.returns["solver"]
        assert episode.returns["solver"] == float("42" in episode.case["answer"])


def test_the_embedded_model_asks_what_it_knows() -> None:
    game = make(wording="short")
    assert game.observe("challenger_0")["user"] == "Ask."
    game.step("1 + 1 = ?")
    assert game.observe("solver_0")["user"] == "1 + 1 = ?"
