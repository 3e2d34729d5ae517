"""The round table: who speaks when and hears whom, what all earn together who gets the prize, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.plurality import Plurality
from agents.scripted import RandomText, Scripted
from envs import roundtable, shipped
from envs.roundtable import Roundtable, nearness
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.table import copies
from selfplay.testing import check_agent, check_game
from selfplay.types import VERIFIER, Action
from tests.test_house import ROOT


def make(**options: Any) -> Roundtable:
    game = shipped.raw("roundtable", **options)
    assert isinstance(game, Roundtable)
    game.reset(seed=0)
    return game


def play(game: Roundtable, *moves: str) -> Roundtable:
    for move in moves:
        game.step(move)
    return game


def earned(game: Roundtable, score: float) -> dict[str, float]:
    """What every seat has in the end, from the reward of every step."""
    total = dict(game.rewards)
    game.step({"score": score})
    return {seat: total[seat] + game.rewards[seat] for seat in total if seat != "verifier_0"}


# -- the order, and who hears what -----------------------------------------------------------------------------------


def test_all_answer_at_once_and_all_criticise_at_once() -> None:
    game = make(guests=3)
    assert game.waiting == ("challenger_0",)
    play(game, "What is 2 + 2?")
    assert game.waiting == ("guest_0", "guest_1", "guest_2")
    play(game, "four", "five")
    assert "four" not in game.observe("guest_2")["user"], "who answers at the same time has not heard the others"
    play(game, "4")
    assert game.waiting == ("guest_0", "guest_1", "guest_2")
    for seat in game.waiting:
        told = game.observe(seat)["user"]
        assert "Guest 1: four\nGuest 2: five\nGuest 3: 4" in told and "What is 2 + 2?" in told
    play(game, "Guest 2 is off by one.", "I trust Guest 1.")
    assert "off by one" not in game.observe("guest_2")["user"]
    play(game, "I agree.")
    assert game.waiting == ("chair_0",)
    assert (
        "Guest 1: Guest 2 is off by one.\nGuest 2: I trust Guest 1.\nGuest 3: I agree."
        in game.observe("chair_0")["user"]
    )
    play(game, "4")
    assert game.agent_selection == "verifier_0"
    expected = {"query": "What is 2 + 2?", "answer": "4", "view_1": "five", "critique_2": "I agree."}
    assert expected.items() <= game.observe("verifier_0").items()


def test_in_a_second_round_they_answer_anew() -> None:
    game = play(make(guests=2, rounds=2), "Q?", "a", "b", "not b", "not a")
    assert game.waiting == ("guest_0", "guest_1") and "Guest 1: not b" in game.observe("guest_1")["user"]
    play(game, "b", "b", "yes", "yes")
    assert game.waiting == ("chair_0",) and game.case["view_0"] == "b"


def test_in_short_the_chair_hears_no_critique_and_adopts_an_answer() -> None:
    game = play(make(wording="short", guests=3), "12 + 5 = ?", "17", "18", "17")
    assert game.observe("guest_0")["user"] == "Challenger: 12 + 5 = ?\nGuest 1: 17\nGuest 2: 18\nGuest 3: 17"
    play(game, "18", "17", "16")
    assert game.observe("chair_0")["user"] == "12 + 5 = ?"
    assert game.infos["chair_0"]["legal_actions"] == ["17", "18"]
    assert "legal_actions" not in game.infos["guest_0"]
    play(game, "16")
    assert game.infos["chair_0"]["forfeit"] and game.rewards["chair_0"] == -1.0


# -- what is paid ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "conclusion", "near"),
    [
        ("It is 46.", "it is 46", 1.0),
        ("46", "-46", 0.0),
        ("the old bridge", "the bridge", 0.8),  # 2 of 3 words and 2 of 2: 2 * 2 / 5
        ("a a b", "a b b", 2 / 3),  # one a and one b in common: 2 * 2 / 6
        ("x", "y", 0.0),
        ("!", "?", 0.0),
    ],
)
def test_nearness_by_hand(answer: str, conclusion: str, near: float) -> None:
    assert nearness(answer, conclusion) == pytest.approx(near)
    assert nearness(conclusion, answer) == pytest.approx(near)


def test_all_are_paid_the_score_and_the_nearest_the_prize() -> None:
    game = play(make(guests=3), "Q?", "four", "five", "it is four", "-", "-", "-", "four")
    assert earned(game, 1.0) == {"challenger_0": 0.0, "guest_0": 1.5, "guest_1": 1.0, "guest_2": 1.0, "chair_0": 1.0}


def test_who_is_as_near_shares_the_prize() -> None:
    game = play(make(guests=3, prize=3.0), "Q?", "Four", "five", "four!", "-", "-", "-", "four")
    assert earned(game, 0.0) == {"challenger_0": 0.0, "guest_0": 1.5, "guest_1": 0.0, "guest_2": 1.5, "chair_0": 0.0}


def test_nobody_gets_a_prize_for_other_words_or_where_there_is_none() -> None:
    for game in (make(guests=2), make(guests=2, prize=0.0)):
        said = "nine" if game.prize else "four"
        play(game, "Q?", "four", "five", "-", "-", said)
        assert set(earned(game, 0.0).values()) == {0.0}


def test_the_last_answer_counts() -> None:
    game = play(make(guests=2, rounds=2), "Q?", "four", "five", "-", "-", "five", "four", "-", "-", "four")
    assert earned(game, 0.0)["guest_1"] == 0.5 and game.rewards["guest_0"] == 0.0


# -- the contract, opponents, refusals -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: roundtable.raw_env(wording=wording), games=20)
    check_game(lambda: roundtable.env(guests=2, rounds=2, wording=wording), games=5)


def test_noise_never_breaks_it() -> None:
    players = dict.fromkeys(make().roles, RandomText(60))
    judge = {VERIFIER: Scorer()}
    ended = rollout(copies(make(guests=2), 150), {**players, **judge}, seed=3)
    assert {episode.forfeit for episode in ended} > {""} and all(not episode.truncated for episode in ended)


class Scorer:
    """Plays 1 for a conclusion that the case has as its reference."""

    def act(self, observations: Any, seeds: Any) -> list[Action]:
        return [Action({"score": float(case["answer"] == case["reference"])}) for case in observations]


def test_the_voice_of_the_many_chairs() -> None:
    """Three of five guests are right each time, and the chair is right every time."""
    turns = [{"role": "challenger", "says": r"(?P<query>.*)#(?P<reference>.*)"}, *({
        "role": role, "says": says, "told": "{transcript}"
    } for role, says in (("guest", "view"), ("guest", "critique"), ("chair", "answer")))]  # fmt: skip
    game = Roundtable(turns, {"chair": {"score": 1.0}}, guests=5)
    seats: dict[str, Any] = {f"guest_{n}": Scripted(["4"] if n < 3 else ["5", "6"]) for n in range(5)}
    players = {"challenger": Scripted(["2 + 2?#4"]), **seats, "chair": Plurality(), VERIFIER: Scorer()}
    played = rollout([game], players, {"challenger": 6})
    assert [episode.returns["chair"] for episode in played] == [1.0] * 6
    check_agent(Plurality())
    told = {"system": "", "user": "A: What?\nB: no\nC: yes"}
    assert Plurality().choose([told], [0], [{"legal_actions": ["maybe", "yes"]}])[0].move == "yes"
    assert Plurality().choose([told], [0], [{"legal_actions": ["maybe"]}])[0].move == "maybe"
    with pytest.raises(ValueError, match="silence is blank"):
        Plurality(" ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"guests": 1}, "guests=1: a round table has 2 to 16"),
        ({"guests": 17}, "guests=17: a round table has 2 to 16"),
        ({"guests": 2.5}, "guests=2.5: a round table"),
        ({"rounds": 0}, "rounds=0: a round table has 1 to 16"),
        ({"turns": [{"role": "chair", "says": "answer"}]}, "a round table has four turns"),
        ({"payoff": {"gest": {"score": 1}}}, r"payoff names 'gest', who never speaks \(did you mean 'guest'\?\)"),
        (
            {"sees": {"chair": ["answer"]}, "wording": "short"},
            r"chair is told \{query\}, which sees.chair keeps from it",
        ),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(**changes)


def test_a_guest_fills_one_slot() -> None:
    turns = [{"role": "a", "says": "query"}, {"role": "b", "says": "(?P<x>.*)"}, {"role": "b", "says": "y"}]
    with pytest.raises(GameError, match=r"turns\[1\].says='\(\?P<x>\.\*\)': what a guest says fills one slot"):
        Roundtable([*turns, {"role": "c", "says": "answer"}], {"c": {"score": 1}})


# -- sixteen personas of one model -----------------------------------------------------------------------------------


def test_sixteen_personas_learn_from_one_model(tmp_path: Path) -> None:
    """One model is loaded; every game seats all sixteen, each in another seat; both ways of earning differ."""
    words = ["experiment=roundtable", "steps=2", "exam.limit=4", "exam.final_samples=1", "runtime.threads=1"]
    command = [sys.executable, "main.py", *words, "runtime.tensorboard=false", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sum(line.startswith("loaded ") for line in done.stdout.splitlines()) == 1
    lines = (tmp_path / "run" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    episodes = [json.loads(line) for line in lines]
    assert len(episodes) == 16, "two steps of eight games"
    whole = [episode for episode in episodes if not episode["forfeit"]]
    assert whole and all(len(episode["turns"]) == 1 + 2 * 16 + 1 + 1 for episode in whole)
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(step.get("steps_skipped") == 0 for step in steps), "there was something to learn from"
