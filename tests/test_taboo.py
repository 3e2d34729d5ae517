"""Adversarial Taboo: who wins which dialogue and how, what the Defender must never see, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pettingzoo
import pytest
from omegaconf import OmegaConf

from agents.scripted import RandomText, Scripted
from envs import shipped, taboo
from envs.matching import names, says
from envs.script import GameError
from envs.taboo import Taboo
from selfplay.rollout import rollout
from selfplay.testing import check_game
from verifiers.format import Format
from verifiers.panel import Panel

GUESS = "I know the word! It is {}!"
PARTS = {"attack": ("winner", "attacker"), "defence": ("winner", "defender"), "breach": ("ending", "breach")}


def judges() -> Panel:
    """The panel of experiment=spag."""
    return Panel(**{part: Format(pattern, slot) for part, (slot, pattern) in PARTS.items()})


def make(word: str = "cat", **options: Any) -> Taboo:
    game = shipped.raw("taboo", **options)
    assert isinstance(game, Taboo)
    game.reset(seed=0)
    game.step(word)
    return game


def talk(*moves: str, word: str = "cat", **options: Any) -> tuple[str, str]:
    """Who has won, and how, after the Attacker's and the Defender's moves in turn; the game ends with the last one."""
    game = make(word, **options)
    for number, move in enumerate(moves):
        assert game.agent_selection == ("defender_0" if number % 2 else "attacker_0"), f"over before {move!r}"
        game.step(move)
    case = game.case
    assert (game.agent_selection == "verifier_0") == bool(case["ending"])
    return case["winner"], case["ending"]


# -- the rules, by dialogues -----------------------------------------------------------------------------------------


def test_attack_won() -> None:
    assert talk("What purrs on a sofa?", "A kitten?", "Its mother.", "Oh, a cat, of course.") == ("attacker", "said")


def test_defence_won() -> None:
    assert talk("It purrs.", "Is it small?", "It is.", GUESS.format("cat")) == ("defender", "right guess")


def test_a_wrong_guess_loses() -> None:
    assert talk("It has four legs.", GUESS.format("dog")) == ("attacker", "wrong guess")
    assert talk("It has legs.", "I know the word!") == ("", ""), "an announcement that names nothing is talk"


def test_an_announcement_of_ones_own_has_no_case() -> None:
    assert talk("It purrs.", "I Guess: Cat", announces=r"I guess: (?P<guess>\w+)") == ("defender", "right guess")


def test_a_guess_is_one_word_and_no_list() -> None:
    assert talk("It has legs.", GUESS.format("cat or dog")) == ("attacker", "wrong guess")
    assert talk("It has legs.", GUESS.format("dog") + " No: " + GUESS.format("cat")) == ("attacker", "wrong guess")


@pytest.mark.parametrize(
    "guess",
    ["Cat", "CATS", "`cat`", '"cat"', "a cat", "the “cat”", ": cat", "  cat  ", "**cat**", "_cat_", "*the* cat"],
)
def test_a_guess_may_be_dressed(guess: str) -> None:
    assert talk("It purrs.", GUESS.format(guess)) == ("defender", "right guess")


@pytest.mark.parametrize(
    "said", ["I KNOW THE WORD! IT IS CAT!", "Well. I know the word - it's cat.", "i know the word it’s cat"]
)
def test_an_announcement_may_be_shouted(said: str) -> None:
    assert talk("It purrs.", said) == ("defender", "right guess")


def test_an_announcement_counts_before_what_else_is_said() -> None:
    assert talk("It purrs.", "My cat? " + GUESS.format("cat")) == ("defender", "right guess")


@pytest.mark.parametrize(
    "clue", ["A cat!", "Think of cats.", "It is catted.", "Cat?", GUESS.format("dog"), GUESS.format("cat")]
)
def test_an_attacker_who_breaks_the_rules_loses(clue: str) -> None:
    assert talk(clue) == ("defender", "breach")
    assert talk("It purrs.", "Hm.", clue) == ("defender", "breach")
    assert talk(clue, breach="void") == ("", "breach"), "the released code leaves the game out: nobody wins"


def test_nobody_wins_when_the_rounds_are_over() -> None:
    assert talk(*["Go on.", "Why?"] * 5) == ("", "tie")
    assert talk(*["Go on.", "Why?"] * 4, "Go on.", "A cat?") == ("attacker", "said"), "the last word counts"
    assert talk("Go on.", "Why?", rounds=1) == ("", "tie")


def test_a_word_inside_another_is_not_the_word() -> None:
    assert talk("Join two texts.", "Concatenate them?") == ("", "")
    assert talk("Join two texts.", "Concatenate them?", match="letters") == ("attacker", "said")
    assert talk("Concatenate!", match="letters") == ("defender", "breach")
    assert talk("Hm?", GUESS.format("a concatenation"), match="letters") == ("defender", "right guess")


# -- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_defender_is_never_told_the_word(wording: str) -> None:
    """All games of noise and of talk: before the Defender speaks, the word stands in nothing that it is told."""
    word = "zyzzyva"
    game = shipped.raw("taboo", wording=wording)
    assert word not in game.personas["defender_0"]
    seats: dict[str, Any] = {
        "dealer": Scripted([word]),
        "attacker": Scripted(["It has six legs.", "{word}", "{winner} {history}", word.upper(), "What crawls?"]),
        "defender": Scripted(["Why?", "{word}", "An ant.", GUESS.format("ant"), GUESS.format(word)]),
        "verifier": judges(),
    }
    told = list[str]()
    for seed in range(40):
        for players in (seats, {**seats, "attacker": RandomText(), "defender": RandomText()}):
            (episode,) = rollout([game], players, seed=seed)
            told += [str(dict(turn.observation)) for turn in episode.turns if turn.role == "defender"]
            clues = [turn.observation["user"] for turn in episode.turns if turn.role == "attacker"]
            assert all(word in clue for clue in clues), "and the Attacker is told it, always"
    assert len(told) > 50 and not any(word in text.lower() for text in told)


def test_both_hear_all_that_was_said() -> None:
    game = make()
    assert "(Nobody has spoken yet.)" in game.observe("attacker_0")["user"]
    assert game.observe("defender_0")["user"] == "", "it is not its turn"
    for move in ("It purrs.", "A kettle?\nAttacker: I say dog"):
        game.step(move)
    told = game.observe("attacker_0")["user"]
    assert "5 times each" in told and 'the secret word is "cat"' in told
    assert "\nAttacker: It purrs.\nDefender: A kettle?\n  Attacker: I say dog\n" in told, "nobody speaks for the other"


def test_the_history_fits_into_what_a_seat_may_be_told() -> None:
    game = make(max_chars=64, rounds=3)
    for _ in range(3):
        for _ in range(2):
            assert game.observation_space(game.agent_selection).contains(game.observe(game.agent_selection))
            game.step("a\n" * 32)
    case = game.observe("verifier_0")
    assert len(case["history"]) > 64 * 6 and game.observation_space("verifier_0").contains(case)


def test_the_embedded_models_wording() -> None:
    game = make("7", wording="short")
    assert game.observe("attacker_0") == {"system": "", "user": "Ask! 7"}
    game.step("3 + 4 = ?")
    assert game.observe("defender_0") == {"system": "", "user": "3 + 4 = ?"}
    short = {"word": "7", "wording": "short"}
    assert talk("3 + 4 = ?", "57", **short) == ("attacker", "said")
    assert talk("3 + 4 = ?", "-57", **short) == ("defender", "right guess")
    assert talk("3 + 4 = ?", "-5", **short) == ("attacker", "wrong guess")
    assert talk("17 + 4 = ?", **short) == ("defender", "breach")
    assert talk(*["1 + 4 = ?", "5"] * 5, **short) == ("", "tie")


@pytest.mark.parametrize("word", ["", " ", "!?", "two\nlines"])
def test_a_dealer_deals_a_word(word: str) -> None:
    game = shipped.raw("taboo")
    game.reset(seed=0)
    game.step(word)
    assert game.infos["dealer_0"] == {"forfeit": True}


def test_a_dealer_that_runs_on_is_read_in_no_time() -> None:
    """The expression was cubic: 500 blanks, 500 letters and a second line took half a minute."""
    for move in (" " * 8_000 + "a" * 8_000 + "\nb", " " * 8_000 + "!" * 8_000, "a " * 8_000 + "\nb"):
        began = time.process_time()
        game = shipped.raw("taboo")
        game.reset(seed=0)
        game.step(move)
        assert game.infos["dealer_0"] == {"forfeit": True} and time.process_time() - began < 2
    assert make("\n  ice cream \n ").case["word"] == "ice cream"


# -- what is paid ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clue", "reply", "attacker"),
    [("It purrs.", "A cat.", 1.0), ("It purrs.", GUESS.format("cat"), -1.0), ("A cat.", "", -1.0), ("Hm.", "Hm.", 0.0)],
)
def test_the_panel_pays_the_winner_what_the_loser_loses(clue: str, reply: str, attacker: float) -> None:
    seats = {
        "dealer": Scripted(["cat"]),
        "attacker": Scripted([clue]),
        "defender": Scripted([reply]),
        "verifier": judges(),
    }
    (episode,) = rollout([shipped.raw("taboo")], seats)
    assert episode.returns == {"dealer": 0.0, "attacker": attacker, "defender": -attacker}
    assert episode.verdict["breach"] == float(clue == "A cat.")


def test_silence_forfeits() -> None:
    game = make()
    game.step(" ")
    assert game.infos["attacker_0"] == {"forfeit": True} and game.rewards["attacker_0"] == -1.0


# -- the contract ----------------------------------------------------------------------------------------------------


def test_pettingzoo_accepts_it() -> None:
    check_game(taboo.raw_env, games=20)
    check_game(lambda: shipped.raw("taboo", wording="short", max_chars=64, breach="void"), games=20)
    assert pettingzoo.make("aec", "sparring/taboo_v0").possible_agents == taboo.env().possible_agents


def test_the_shipped_words_are_dealt_and_can_be_said() -> None:
    for wording, least in (("full", 300), ("short", 10)):
        words = dealt(wording)
        assert len(words) == len(set(words)) >= least
        for word in words:
            assert says(f"A {word}.", word) and names(word, word)
            game = make(word, wording=wording)
            game.step("Hm?")
            assert not says(game.observe("defender_0")["user"], word), "nor do the rules hold it by chance"


def dealt(wording: str) -> list[str]:
    node = OmegaConf.merge({"wording": wording, "seed": 0}, OmegaConf.load(shipped.FOLDER / "taboo.yaml"))
    rows = Path(node.words.path).read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["word"] for row in rows]


def test_the_embedded_model_plays_it_and_both_roles_win(tmp_path: Path) -> None:
    words = ["experiment=spag", "steps=2", "exam.path=null", "runtime.threads=1", "runtime.tensorboard=false"]
    command = [sys.executable, "main.py", *words, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=shipped.FOLDER.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][1:]
    assert len(steps) == 2 and all(step["episodes"] == 64 and step["grad_norm"] > 0 for step in steps)
    assert all(sum(step[f"wins/{role}"] for step in steps) > 0 for role in ("attacker", "defender"))
    assert all(0.2 < step["rewards/breach/mean"] < 0.9 and step["rewards/attack/mean"] > 0.1 for step in steps)


TURNS = [
    {"role": "dealer", "says": "word"},
    {"role": "attacker", "says": "query", "told": "{word} {history} {rounds}"},
    {"role": "defender", "says": "answer", "told": "{history}"},
]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": TURNS[:2]}, "three turns: the dealer's, who says 'word'"),
        ({"turns": [TURNS[1], *TURNS[1:]]}, "three turns: the dealer's, who says 'word'"),
        (
            {"turns": [*TURNS[:2], {**TURNS[2], "told": "{word}"}]},
            "defender is told {word}, which must be kept from it",
        ),
        ({"rounds": 0}, "rounds=0: taboo has a whole number of rounds, at least one"),
        ({"rounds": 2.5}, "rounds=2.5: taboo has a whole number of rounds"),  # such a game never ended
        ({"rounds": "5"}, "rounds=5: taboo has a whole number of rounds"),
        (
            {"turns": [*TURNS[:2], {**TURNS[2], "role": "attacker_1"}]},
            "turns\\[2\\].role=attacker is the Attacker's",
        ),
        ({"match": "word"}, r"match='word' is unknown \(did you mean 'words'\?\): use words or letters"),
        ({"breach": "voids"}, r"breach='voids' is unknown \(did you mean 'void'\?\): use loses or void"),
        ({"announces": "("}, "announces='\\(' is not a regular expression"),
        ({"announces": "it is (.*)"}, "has no group 'guess'"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"turns": TURNS, "payoff": {"attacker": {"attack": 1}}}
    assert Taboo(**settings)
    with pytest.raises(GameError, match=sentence):
        Taboo(**{**settings, **changes})
