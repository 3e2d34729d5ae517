"""Fragments: the kind of a beginning says how it is written on, a beginning may be nothing, another kind forfeits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.dataset import Dataset
from agents.scripted import Scripted
from envs import fragments, shipped
from envs.game import LanguageGame
from models.world import held_out, problems_in
from selfplay.rollout import rollout
from selfplay.testing import check_game
from verifiers.panel import Panel
from verifiers.syntax import Syntax

FOLDER = Path(fragments.__file__).parent
SAYS = "{kind}\n{prompt}"


def told(move: str, wording: str = "full") -> tuple[LanguageGame, str]:
    game = shipped.raw("fragments", wording=wording)
    game.reset(seed=0)
    game.step(move)
    return game, game.observe("solver_0")["user"]


@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: shipped.raw("fragments", wording=wording), games=10)


@pytest.mark.parametrize("kind", ["text", "question", "code"])
@pytest.mark.parametrize("beginning", ["def f(x):\n    ", ""])
def test_every_kind_has_its_own_words(kind: str, beginning: str) -> None:
    game, words = told(f"{kind}\n{beginning}")
    tag = f"<{kind}>{beginning}</{kind}>"
    assert words.endswith(tag) and words.count(tag) == 1
    game.step("    return x\n")
    case = game.observe("verifier_0")
    assert (case["task"], case["query"], case["answer"]) == (kind, beginning, "    return x\n")


def test_the_embedded_models_wording_stays_in_its_world() -> None:
    assert told("text\n", "short")[1] == "Ask."
    assert told("question\n1 + 1 = ?", "short")[1] == "1 + 1 = ?"


@pytest.mark.parametrize("move", ["poem\nRoses", "text", "Text\nOnce", "once upon a time", " \n"])
def test_a_beginning_of_no_kind_forfeits(move: str) -> None:
    game, _ = told(move)
    assert game.rewards["challenger_0"] == -1.0


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_shipped_beginnings_can_be_played(wording: str) -> None:
    file = FOLDER / f"fragments_{wording}.jsonl"
    data = Dataset(file, says=SAYS)
    seats: dict[str, Any] = {
        "challenger": data,
        "solver": Scripted(["x"]),
        "verifier": Panel(score=lambda c: [1.0] * len(c)),
    }
    episodes = rollout([shipped.raw("fragments", wording=wording)], seats, {"challenger": len(data)})
    assert not any(episode.forfeit for episode in episodes)
    kinds = {episode.case["task"] for episode in episodes}
    assert kinds == ({"text", "question", "code"} if wording == "full" else {"text", "question"})
    assert "" in {episode.case["query"] for episode in episodes}, "from nothing, too"


def test_no_beginning_of_the_embedded_models_is_a_question_of_its_exam() -> None:
    lines = (FOLDER / "fragments_short.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [problem for line in lines for problem in problems_in(json.loads(line)["prompt"])]
    assert len(asked) > 100 and not any(map(held_out, asked))


def test_a_rule_judges_the_code() -> None:
    syntax = Syntax("python", workers=1)
    seats: dict[str, Any] = {
        "challenger": Scripted(["code\ndef f(x):"]),
        "solver": Scripted(["def f(x):\n    return x", "def f(x) return"]),
        "verifier": Panel(score=syntax),
    }
    episodes = rollout([shipped.raw("fragments")], seats, {"solver": 6}, seed=2)
    syntax.close()
    assert {episode.returns["solver"] for episode in episodes} == {0.0, 1.0}
    assert {episode.returns["challenger"] for episode in episodes} == {0.0}
