"""Critique: who sees what in every round, the seed's principles, what the verifier finds, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.scripted import Scripted
from envs import critique, shipped
from envs.critique import Critique
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.testing import check_game
from verifiers.panel import Panel
from verifiers.random_score import RandomScore

PRINCIPLES = ["is short.", "is honest.", "is kind.", "is right."]
ROOT = Path(__file__).resolve().parent.parent


def make(rounds: int = 1, seed: int = 0, **options: Any) -> Critique:
    game = shipped.raw("critique", rounds=rounds, principles=PRINCIPLES, **options)
    assert isinstance(game, Critique)
    game.reset(seed=seed)
    return game


def play(game: Critique, moves: list[str]) -> list[tuple[str, str]]:
    """Who was told what."""
    told = list[tuple[str, str]]()
    for move in moves:
        seat = game.agent_selection
        told.append((seat, game.observe(seat)["user"]))
        game.step(move)
    return told


def test_pettingzoo_accepts_it_with_any_number_of_rounds() -> None:
    check_game(critique.raw_env, games=20)
    check_game(lambda: shipped.raw("critique", rounds=3, wording="short"), games=10)


def test_two_rounds() -> None:
    game = make(rounds=2)
    told = play(game, ["Why?", "Because.", "Too short.", "Because of this.", "Better.", "Because of that."])
    assert [seat for seat, _ in told] == [
        "challenger_0", "solver_0", "critic_0", "reviser_0", "critic_0", "reviser_0",
    ]  # fmt: skip
    assert told[1][1] == "Why?", "the drafter is told the bare question"
    first, second = game.drawn(0), game.drawn(1)
    assert first != second and {first, second} <= set(PRINCIPLES)
    for (_, text), shown, hidden in (
        (told[2], ("Why?", "Because.", first), (second,)),
        (told[3], ("Why?", "Because.", first, "Too short."), (second,)),
        (told[4], ("Why?", "Because of this.", second), ("Because.", first, "Too short.")),
        (told[5], ("Why?", "Because of this.", second, "Better."), ("Because.\n", first, "Too short.")),
    ):
        assert all(words in text for words in shown) and not any(words in text for words in hidden)
    assert game.agent_selection == "verifier_0"
    case = game.observe("verifier_0")
    assert (case["query"], case["draft"], case["answer"]) == ("Why?", "Because.", "Because of that.")
    assert (case["critique"], case["principle"], case["reference"]) == ("Better.", second, "")
    game.step({"score": 0.5})
    assert game.rewards["reviser_0"] == 0.5 and game.rewards["solver_0"] == game.rewards["critic_0"] == 0.0


def test_the_embedded_models_wording_stays_in_its_world() -> None:
    told = play(make(wording="short"), ["1 + 1 = ?", "3", "2", "2"])
    assert [text for _, text in told] == ["Ask.", "1 + 1 = ?", "Judge: 1 + 1 = ? 3", "1 + 1 = ?"]


def test_four_principles_are_drawn_by_the_seed_and_none_comes_twice() -> None:
    def drawn(seed: int, query: str = "Why?") -> list[str]:
        game = make(rounds=5, seed=seed)
        play(game, [query, "Because."])
        return [game.drawn(number) for number in range(5)]

    assert drawn(1) == drawn(1) and sorted(drawn(1)[:4]) == sorted(PRINCIPLES) and drawn(1)[4] == drawn(1)[0]
    assert len({tuple(drawn(seed)) for seed in range(20)}) > 5, "the seed matters"
    assert len({tuple(drawn(1, f"Why {n}?")) for n in range(20)}) > 5, "and so does the question"
    assert drawn(1, "\ud800") == drawn(1, "\ud800")


def test_drafts_of_one_question_are_held_to_the_same_principle() -> None:
    seats: dict[str, Any] = {
        "challenger": Scripted([f"Question {n}?" for n in range(50)]),
        "solver": Scripted([f"draft {n}" for n in range(50)]),
        "critic": Scripted(["Hm."]),
        "reviser": Scripted([f"answer {n}" for n in range(50)]),
        "verifier": Panel(score=RandomScore()),
    }
    branch = {"challenger": 8, "solver": 2, "reviser": 3}
    game = shipped.raw("critique", principles=PRINCIPLES)
    episodes = rollout([game], seats, branch, seed=4)
    assert len(episodes) == 48
    held: dict[str, set[str]] = {}
    for episode in episodes:
        held.setdefault(episode.case["query"], set()).add(episode.case["principle"])
        assert episode.case["draft"].startswith("draft") and episode.case["answer"].startswith("answer")
    assert all(len(principles) == 1 for principles in held.values())
    assert len(set.union(*held.values())) > 1, "questions of one step are held to different ones"
    alone = rollout([copy.deepcopy(game)], seats, branch, seed=4)
    assert [episode.case for episode in alone] == [episode.case for episode in episodes], "a replay is the same"


def test_batched_and_solo_play_are_the_same() -> None:
    seats: dict[str, Any] = {
        role: Scripted([f"{role} {n}" for n in range(9)]) for role in ("challenger", "solver", "critic", "reviser")
    }
    seats["verifier"] = Panel(score=RandomScore())
    games = [shipped.raw("critique", rounds=2) for _ in range(4)]
    together = rollout(games, seats, {"reviser": 2}, seed=3)
    assert len(together) == 16
    first = rollout([shipped.raw("critique", rounds=2)], seats, {"reviser": 2}, seed=3)
    assert [e.case for e in first] == [e.case for e in together[:4]]


def test_silence_forfeits() -> None:
    game = make()
    play(game, ["Why?", "Because.", "Too short.", " "])
    assert game.infos["reviser_0"] == {"forfeit": True} and game.rewards["reviser_0"] == -1.0


def test_principles_may_be_a_file_of_names_a_list_or_a_mapping(tmp_path: Path) -> None:
    shared = yaml.safe_load((ROOT / "verifiers/principles.yaml").read_text(encoding="utf-8"))
    game = shipped.raw("critique")
    assert isinstance(game, Critique) and list(game.principles) == [text.strip() for text in shared.values()]
    assert make().principles == tuple(PRINCIPLES)
    (tmp_path / "list.yaml").write_text("- is short.\n- is kind.\n", encoding="utf-8")
    listed = shipped.raw("critique", principles=str(tmp_path / "list.yaml"))
    assert isinstance(listed, Critique) and listed.principles == ("is short.", "is kind.")


TURNS = [
    {"role": "challenger", "says": "query", "told": "Ask."},
    {"role": "solver", "says": "(?P<draft>.*)(?P<answer>)(?P<principle>)", "told": "{query}"},
    {"role": "critic", "says": "critique", "told": "{answer} {principle}"},
    {"role": "reviser", "says": "answer", "told": "{critique}"},
]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": [*TURNS, TURNS[3]]}, r"four turns \(question, draft, critique, revision\), not 5"),
        ({"turns": [TURNS[0], {**TURNS[1], "says": "draft"}, {**TURNS[2], "told": ""}, TURNS[3]]}, "'principle'"),
        ({"rounds": 0}, "rounds=0: a critique has at least one round"),
        ({"principles": []}, "are no sentences"),
        ({"principles": ["", "x"]}, "are no sentences"),
        ({"principles": "no/such/file.yaml"}, "cannot be read"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"turns": TURNS, "payoff": {"reviser": {"score": 1}}, "principles": PRINCIPLES}
    with pytest.raises(GameError, match=sentence):
        Critique(**{**settings, **changes})
