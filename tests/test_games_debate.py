"""Debate: who has won over more votes, who hears what, and what a verifier judges in the jury's place."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pettingzoo
import pytest
from omegaconf import OmegaConf

from agents.random_legal import RandomLegal
from agents.scripted import RandomText, Scripted
from agents.wordy_juror import WordyJuror
from envs import debate, shipped
from envs.debate import Debate
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.testing import check_agent, check_game
from selfplay.types import Case
from verifiers.panel import Panel

A, N, U = "affirmative", "negative", "undecided"
JURORS = [f"juror_{number}" for number in range(5)]


def make(**options: Any) -> Debate:
    game = shipped.raw("debate", **options)
    assert isinstance(game, Debate)
    game.reset(seed=0)
    game.step("Cats are better.")
    return game


def vote(before: str, after: str, rounds: int = 2, **options: Any) -> tuple[float, float]:
    """What the sides earn if the jurors vote so, written by first letters."""
    names = {"a": A, "n": N, "u": U}
    game = make(rounds=rounds, jurors=len(before), **options)
    for letter in before:
        game.step(names[letter])
    for _ in range(2 * rounds):
        game.step("Because.")
    for letter in after:
        assert not any(game.terminations.values())
        game.step(names[letter])
    assert all(game.terminations.values()), "not over yet"
    assert all(game.rewards[seat] == 0 for seat in game.agents if seat.startswith(("juror", "moderator")))
    return game.rewards["affirmative_0"], game.rewards["negative_0"]


# -- the votes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "affirmative"),
    [
        ("aannn", "aaann", 1),  # 2:3 -> 3:2, one vote won and one lost
        ("aaann", "aannn", -1),
        ("aannn", "nnaaa", 1),  # the same votes from other jurors
        ("aannn", "aannn", 0),
        ("aaaan", "aaann", -1),  # 4:1 -> 3:2: more votes, and yet one fewer than before
        ("uuuuu", "aannn", -1),  # 0:0 -> 2:3
        ("auuun", "aannn", -1),  # 1:1 -> 2:3, one and two gained
        ("aauun", "aaann", 0),  # 2:1 -> 3:2, one gained each
        ("u", "a", 1),
        ("n", "n", 0),
    ],
)
def test_who_gains_more_votes_has_won(before: str, after: str, affirmative: int) -> None:
    assert vote(before, after) == (affirmative, -affirmative)


def test_a_vote_is_one_of_the_votes() -> None:
    game = make()
    assert game.infos["juror_0"]["legal_actions"] == [A, N, U] and game.waiting == tuple(JURORS)
    for word in ("Affirmative.", " NEGATIVE, for now", U, U, U):
        game.step(word)
    assert [game.case[f"before_{number}"] for number in range(5)] == [A, N, U, U, U]
    for _ in range(4):
        game.step("Because.")
    assert game.infos["juror_0"]["legal_actions"] == [A, N], "nobody is undecided in the end"
    game.step(U)
    assert game.infos["juror_0"]["forfeit"] and game.rewards["juror_0"] == -1.0 and not game.waiting


def test_the_sides_speak_in_turn() -> None:
    game = make(rounds=2, jurors=1)
    game.step(U)
    order = list[str]()
    for number in range(4):
        order.append(game.agent_selection)
        game.step(f"Speech {number}.")
    assert order == ["affirmative_0", "negative_0"] * 2 and game.agent_selection == "juror_0"


# -- who hears what --------------------------------------------------------------------------------------------------


def test_votes_are_secret_and_speeches_are_not() -> None:
    """A juror hears its own vote and the speeches; the sides hear speeches alone; nobody hears another's vote."""
    game = make(rounds=2, jurors=3)
    for word in (A, N, U):
        game.step(word)
    assert "(Nobody has spoken yet.)" in game.observe("affirmative_0")["user"]
    for speech in ("They purr.", "Dogs fetch.", "They are clean.", "Dogs are loyal."):
        told = game.observe(game.agent_selection)["user"]
        assert "Juror" not in told and "Cats are better." in told
        game.step(speech)
    said = "Affirmative: They purr.\nNegative: Dogs fetch.\nAffirmative: They are clean.\nNegative: Dogs are loyal."
    for number, word in enumerate((A, N, U)):
        told = game.observe(f"juror_{number}")["user"]
        assert f"\nJuror {number + 1}: {word}\n{said}\n" in told and told.count("Juror") == 1
    state = {A: ["They purr.", "They are clean."], N: ["Dogs fetch.", "Dogs are loyal."]}
    assert json.loads(game.infos["juror_2"]["state"]) == state
    game.step(A)
    assert "Juror 1" not in game.observe("juror_1")["user"], "who votes at the same time is not heard"


@pytest.mark.parametrize("wording", ["full", "short"])
def test_no_vote_leaks(wording: str) -> None:
    """Whatever the others vote, everybody is told the same, word for word."""
    seen = list[list[tuple[str, str]]]()
    for others in (A, N):
        game = make(wording=wording, jurors=3, rounds=1)
        told = list[tuple[str, str]]()
        while not any(game.terminations.values()):
            seat = game.agent_selection
            shown = str(game.observe(seat)) + str(game.infos[seat])
            told += [(seat, shown)] if seat not in ("juror_1", "juror_2") else []
            game.step({"juror_0": A}.get(seat, others) if seat.startswith("juror") else "12")
        seen.append(told)
    assert seen[0] == seen[1] and len(seen[0]) == 4


# -- a verifier in the jury's place ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "affirmative"), [(1.0, 1.0), (0.5, 0.0), (0.0, -1.0)])
def test_a_verifier_judges_all_that_was_said(share: float, affirmative: float) -> None:
    judged = list[Case]()

    def judge(cases: list[Case]) -> list[float]:
        judged.extend(cases)
        return [share] * len(cases)

    payoff = {A: {"score": 1.0}, N: {"score": -1.0}}
    game = shipped.raw("debate", jurors=0, rounds=2, payoff=payoff)
    seats: dict[str, Any] = {"moderator": Scripted(["Cats?"]), A: Scripted(["Yes."]), N: Scripted(["No."])}
    (episode,) = rollout([game], {**seats, "verifier": Panel(score=judge)})
    assert [turn.role for turn in episode.turns] == ["moderator", A, N, A, N, "verifier"]
    assert (judged[0]["query"], judged[0]["answer"], judged[0]["reply"]) == ("Cats?", "Yes.\n\nYes.", "No.\n\nNo.")
    assert episode.returns == {"moderator": 0.0, "juror": 0.0, A: affirmative, N: -affirmative}
    assert episode.verdict == {"score": share}, "the verdict itself stays as it was"


def test_a_jury_and_a_verifier_may_both_judge() -> None:
    payoff = {A: {"score": 0.5}, N: {"score": -0.5}}
    game = shipped.raw("debate", jurors=1, rounds=1, payoff=payoff)
    seats: dict[str, Any] = {"moderator": Scripted(["Cats?"]), A: Scripted(["Yes, they purr."]), N: Scripted(["No."])}
    (episode,) = rollout([game], {**seats, "juror": WordyJuror(), "verifier": Panel(score=lambda cases: [0.0])})
    assert episode.returns[A] == 1.0 - 0.5 == -episode.returns[N]


def test_what_a_verifier_sees_fits_into_its_space() -> None:
    game = shipped.raw("debate", jurors=0, rounds=3, max_chars=40, payoff={A: {"score": 1.0}})
    game.reset(seed=0)
    for _ in range(7):
        game.step("x" * 40)
    case = game.observe("verifier_0")
    assert len(case["answer"]) == 124 and game.observation_space("verifier_0").contains(case)


# -- opponents and the contract --------------------------------------------------------------------------------------


def test_the_wordy_juror() -> None:
    check_agent(WordyJuror())
    for speeches, legal, word in (
        ({A: [], N: []}, [A, N, U], U), ({A: ["one two"], N: ["one", "ONE one"]}, [A, N], A),
        ({A: ["one"], N: ["one two"]}, [A, N], N),
    ):  # fmt: skip
        info = {"state": json.dumps(speeches), "legal_actions": legal}
        assert WordyJuror().choose([{}], [0], [info])[0].move == word
    tied = {"state": json.dumps({A: ["one"], N: ["two"]}), "legal_actions": [A, N]}
    drawn = [action.move for action in WordyJuror().choose([{}] * 40, list(range(40)), [tied] * 40)]
    assert 10 < drawn.count(A) < 30 and drawn.count(A) + drawn.count(N) == 40
    game = shipped.raw("debate")
    seats: dict[str, Any] = {"moderator": Scripted(["Cats?"]), "juror": WordyJuror()}
    (episode,) = rollout([game], {**seats, A: Scripted(["No."]), N: Scripted(["Two words."])})
    assert episode.returns[N] == 1.0 and len(episode.turns) == 1 + 5 + 4 + 5


def test_the_shipped_motions() -> None:
    for wording, least in (("full", 50), ("short", 1000)):
        node = OmegaConf.merge({"wording": wording, "seed": 0}, OmegaConf.load(shipped.FOLDER / "debate.yaml"))
        rows = Path(node.motions.path).read_text(encoding="utf-8").splitlines()
        motions = [str(node.motions.says).format(**json.loads(row)) for row in rows]
        assert len(motions) >= least and (wording == "short" or len(set(motions)) == len(motions))


@pytest.mark.parametrize("wording", ["full", "short"])
def test_games_of_noise(wording: str) -> None:
    game = shipped.raw("debate", wording=wording)
    for juror in (RandomLegal(), RandomText()):
        seats = {"moderator": RandomText(), A: RandomText(), N: RandomText(), "juror": juror}
        for episode in rollout([deepcopy(game) for _ in range(300)], seats, seed=1):
            total = sum(episode.seats.values())
            assert total == (-1.0 if episode.forfeit else 0.0)


def test_pettingzoo_accepts_it() -> None:
    check_game(debate.raw_env, games=20)
    payoff = {A: {"score": 1.0}, N: {"score": -1.0}}
    for jurors in (0, 1):
        check_game(
            lambda jurors=jurors: shipped.raw("debate", wording="short", jurors=jurors, payoff=payoff, max_chars=64),
            games=20,
        )
    assert pettingzoo.make("aec", "sparring/debate_v0").possible_agents == [
        "moderator_0", *JURORS, "affirmative_0", "negative_0",
    ]  # fmt: skip


def test_the_embedded_model_plays_the_experiment(tmp_path: Path) -> None:
    words = ["experiment=debate", "steps=2", "branch.moderator=16", "runtime.threads=1", "runtime.tensorboard=false"]
    command = [sys.executable, "main.py", *words, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=shipped.FOLDER.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][1:]
    assert len(steps) == 2 and all(step["episodes"] == 16 and step["grad_norm"] > 0 for step in steps)


TURNS: list[dict[str, Any]] = [
    {"role": "moderator", "says": "query"},
    {"role": "juror", "says": "before", "moves": [A, N, U]},
    {"role": A, "says": "answer", "told": "{query}"},
    {"role": N, "says": "reply", "told": "{query}"},
    {"role": "juror", "says": "after", "moves": [A, N]},
]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": TURNS[:4]}, "a debate has five turns"),
        ({"jurors": 4}, "jurors=4: use an odd number, or 0"),
        ({"jurors": -1}, "jurors=-1: use an odd number"),
        ({"jurors": 1.5}, "jurors=1.5: use an odd number"),
        ({"rounds": 0}, "rounds=0: use a whole number, at least one"),
        ({"jurors": 0}, "jurors=0: without a jury it takes a payoff"),
        ({"turns": [*TURNS[:3], {**TURNS[3], "role": A}, TURNS[4]]}, r"turns\[3\].role is that of turns\[2\]"),
        ({"turns": [*TURNS[:4], {**TURNS[4], "moves": [A, U]}]}, "juror cannot vote for 'negative'"),
        ({"turns": [TURNS[0], {**TURNS[1], "moves": None}, *TURNS[2:]]}, "juror cannot vote for 'affirmative'"),
        ({"payoff": {"affirmativ": {"score": 1}}}, r"payoff names 'affirmativ', who never speaks \(did you mean"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"turns": TURNS}
    assert Debate(**settings).possible_agents == ["moderator_0", *JURORS, "affirmative_0", "negative_0"]
    with pytest.raises(GameError, match=sentence):
        Debate(**{**settings, **changes})
