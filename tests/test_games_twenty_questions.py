"""Twenty questions: what ends a game and what it pays, who may know the word, and how numbers are found."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pettingzoo
import pytest
from omegaconf import OmegaConf

from agents.bisector import Bisector
from agents.number_keeper import NumberKeeper
from agents.random_legal import RandomLegal
from agents.scripted import RandomText, Scripted
from envs import shipped, twenty_questions
from envs.matching import names
from envs.script import GameError
from envs.twenty_questions import TwentyQuestions
from selfplay.rollout import rollout
from selfplay.testing import check_agent, check_game

RIGHT, WRONG = "My guess is a cat.", "My guess is a dog."


def make(word: str = "cat", **options: Any) -> TwentyQuestions:
    game = shipped.raw("twenty_questions", **options)
    assert isinstance(game, TwentyQuestions)
    game.reset(seed=0)
    game.step(word)
    return game


def talk(*moves: str, **options: Any) -> tuple[float, float]:
    """What guesser and keeper earn by the guesser's and the keeper's moves in turn; the last one ends the game."""
    game = make(**options)
    for number, move in enumerate(moves):
        assert game.agent_selection == ("keeper_0" if number % 2 else "guesser_0") and not game.terminations["keeper_0"]
        game.step(move)
    assert all(game.terminations.values()), "not over yet"
    return game.rewards["guesser_0"], game.rewards["keeper_0"]


# -- what ends a game, and what it pays ------------------------------------------------------------------------------


def test_a_right_guess_wins() -> None:
    assert talk("Is it alive?", "yes", RIGHT) == (1.0, 1.0)
    assert talk("I see. MY GUESS IS: the Cat!") == (1.0, 1.0)


def test_a_wrong_guess_loses() -> None:
    assert talk("Is it alive?", "yes", WRONG) == (0.0, 0.0)
    assert talk(WRONG, lose=-0.5) == (-0.5, -0.5)
    assert talk("My guess is nothing yet") == (0.0, 0.0), "whatever is announced is the guess"


def test_messages_come_to_an_end() -> None:
    """Three messages: the third is no guess, so the keeper is not asked any more."""
    assert talk("Alive?", "yes", "Big?", "no", "Does it bark?", questions=3, lose=-1) == (-1.0, -1.0)
    assert talk("Alive?", "yes", "Big?", "no", RIGHT, questions=3) == (1.0, 1.0)


def test_messages_that_are_left_pay_a_bonus() -> None:
    """Of 5 messages the third one is the guess: two are left, 1 + 2 * 0.1."""
    assert talk("Alive?", "yes", "Big?", "no", RIGHT, questions=5, bonus=0.1) == pytest.approx((1.2, 1.2))
    assert talk("Alive?", "yes", WRONG, questions=5, bonus=0.1) == (0.0, 0.0)


def test_opponents() -> None:
    assert talk(RIGHT, keeper=-1, lose=-1) == (1.0, -1.0)
    assert talk(WRONG, keeper=-1, lose=-1) == (-1.0, 1.0)
    assert talk(RIGHT, keeper=0) == (1.0, 0.0)


def test_the_keeper_answers_by_its_first_word() -> None:
    game = make()
    game.step("Is it alive?")
    assert game.infos["keeper_0"]["legal_actions"] == ["yes", "no", "maybe"]
    game.step(" Yes, I think it is.")
    assert "Guesser: Is it alive?\nKeeper: yes" in game.observe("guesser_0")["user"]
    game.step("Is it big?")
    game.step("That depends.")
    assert game.infos["keeper_0"]["forfeit"] and game.rewards == {"dealer_0": 0.0, "guesser_0": 0.0, "keeper_0": -1.0}


@pytest.mark.parametrize("word", ["", " ", "!?", "two\nlines"])
def test_a_dealer_deals_a_word(word: str) -> None:
    assert make(word).infos["dealer_0"] == {"forfeit": True}


# -- who knows what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_guesser_is_never_told_the_word(wording: str) -> None:
    word = "zyzzyva"
    seats: dict[str, Any] = {
        "dealer": Scripted([word]),
        "guesser": Scripted(["{word}", "{query} {answer}", "Is it alive?", "My guess is an ant", *"123456789"]),
        "keeper": Scripted(["yes", "no", "maybe", f"no, {word}"]),
    }
    seen = list[str]()
    for seed in range(40):
        (episode,) = rollout([shipped.raw("twenty_questions", wording=wording)], seats, seed=seed)
        seen += [str(turn.observation) for turn in episode.turns if turn.role == "guesser"]
        assert all(word in turn.observation["user"] for turn in episode.turns if turn.role == "keeper")
    game = make(word, wording=wording)
    seen += [str(game.infos["guesser_0"]), str(game.observe("guesser_0"))]
    assert len(seen) > 60 and not any(word in text for text in seen)


def test_what_the_seats_know() -> None:
    game = make()
    assert json.loads(game.infos["guesser_0"]["state"]) == {"asked": [], "left": 20}
    game.step("Is it big?")
    state = {"asked": [], "left": 19, "word": "cat", "question": "Is it big?"}
    assert json.loads(game.infos["keeper_0"]["state"]) == state
    game.step("no")
    assert json.loads(game.infos["guesser_0"]["state"]) == {"asked": [["Is it big?", "no"]], "left": 19}
    assert "You have 19 messages left" in game.observe("guesser_0")["user"]


def test_the_shipped_words_can_be_guessed() -> None:
    for wording, least in (("full", 200), ("short", 10)):
        node = OmegaConf.merge(
            {"wording": wording, "seed": 0}, OmegaConf.load(shipped.FOLDER / "twenty_questions.yaml")
        )
        rows = Path(node.secrets.path).read_text(encoding="utf-8").splitlines()
        words = [json.loads(row)["word"] for row in rows]
        assert len(words) == len(set(words)) >= least and all(names(f" a {word}", word) for word in words)


# -- numbers, and the scripted players -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(0, 101, 4))
def test_a_number_is_found_in_as_many_questions_as_it_takes(number: int) -> None:
    """log2(101) is 6.66: seven questions and the guess."""
    seats = {"dealer": Scripted([str(number)]), "guesser": Bisector(), "keeper": NumberKeeper()}
    (episode,) = rollout([shipped.raw("twenty_questions", questions=8)], seats)
    assert episode.returns == {"dealer": 0.0, "guesser": 1.0, "keeper": 1.0}


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_is_found_in_the_embedded_models_wording(digit: int) -> None:
    guesser = Bisector(high=9, asks="{number}", guesses="-{number}")
    seats = {"dealer": Scripted([str(digit)]), "guesser": guesser, "keeper": NumberKeeper()}
    (episode,) = rollout([shipped.raw("twenty_questions", wording="short", max_chars=64)], seats)
    assert episode.returns["guesser"] == 1.0
    told = [turn.observation["user"] for turn in episode.turns if turn.role == "keeper"]
    assert told[0] == f"{digit}: 5?"


def test_with_the_last_message_only_guesses_are_legal() -> None:
    """Of listed moves; where none are listed, what is no guess is just lost."""
    game = make("7", wording="short", questions=2)
    assert {"1", "9", "-0", "-9"} <= {*game.infos["guesser_0"]["legal_actions"]}
    game.step("5")
    game.step("yes")
    assert game.infos["guesser_0"]["legal_actions"] == [f"-{digit}" for digit in range(10)]
    game.step("-7")
    assert game.rewards["guesser_0"] == 1.0


def test_a_bisector_that_runs_out_of_messages_guesses() -> None:
    seats = {"dealer": Scripted(["77"]), "guesser": Bisector(), "keeper": NumberKeeper()}
    (episode,) = rollout([shipped.raw("twenty_questions", questions=3)], seats)
    assert episode.turns[-1].action.move == "My guess is 88." and episode.returns["guesser"] == 0.0


def test_the_scripted_players_keep_their_contract() -> None:
    for agent in (Bisector(), NumberKeeper()):
        check_agent(agent)
    keeper, legal = NumberKeeper(), ["yes", "no", "maybe"]
    for word, question, answer in (
        ("cat", "Is it at least 5?", "maybe"), ("7", "Is it odd?", "maybe"), ("7", "Is it at least 7?", "yes"),
        ("-3", "Is it at least 0?", "no"), ("7", "8", "no"), ("٣", "Is it at least 9?", "no"),
    ):  # fmt: skip
        info = {"state": json.dumps({"word": word, "question": question}), "legal_actions": legal}
        assert keeper.choose([{}], [0], [info])[0].move == answer
    for make_it, sentence in (
        (lambda: Bisector(low=3, high=2), "low=3 is above high=2"),
        (lambda: Bisector(asks="Is it?"), "asks='Is it\\?' needs {number}"),
        (lambda: NumberKeeper("("), "asks='\\(' is not a regular expression"),
        (lambda: NumberKeeper("at least"), "has no group 'number'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make_it()


# -- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["full", "short"])
def test_games_of_noise(wording: str) -> None:
    game = shipped.raw("twenty_questions", wording=wording)
    games = [deepcopy(game) for _ in range(300)]
    for player in (RandomText(), RandomLegal()):
        seats = {"dealer": Scripted(["5"]), "guesser": player, "keeper": RandomLegal()}
        assert len(rollout(games, seats, seed=1)) == 300
    everybody = dict.fromkeys(("dealer", "guesser", "keeper"), RandomText())
    assert len(rollout(games, everybody, seed=2)) == 300


def test_pettingzoo_accepts_it() -> None:
    check_game(twenty_questions.raw_env, games=20)
    check_game(lambda: shipped.raw("twenty_questions", wording="short", max_chars=64, keeper=-1, bonus=0.1), games=20)
    made = pettingzoo.make("aec", "sparring/twenty_questions_v0")
    assert made.possible_agents == ["dealer_0", "guesser_0", "keeper_0"]


TURNS: list[dict[str, Any]] = [
    {"role": "dealer", "says": "word"},
    {"role": "guesser", "says": "query", "told": "{left}"},
    {"role": "keeper", "says": "answer", "told": "{word} {query}", "moves": ["yes", "no"]},
]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": TURNS[:2]}, "three turns: the dealer's, who says 'word'"),
        ({"turns": [TURNS[1], *TURNS[1:]]}, "three turns: the dealer's, who says 'word'"),
        ({"turns": [*TURNS[:2], {**TURNS[2], "moves": None}]}, r"turns\[2\] needs moves"),
        ({"turns": [TURNS[0], {**TURNS[1], "told": "{word}"}, TURNS[2]]}, r"turns\[1\] is told {word}"),
        ({"questions": 0}, "questions=0: use a whole number, at least one"),
        ({"questions": 2.5}, "questions=2.5: use a whole number"),
        ({"match": "word"}, r"match='word' is unknown \(did you mean 'words'\?\): use words or letters"),
        ({"guesses": "("}, r"guesses='\(' is not a regular expression"),
        ({"guesses": "it is"}, "guesses='it is' has no group 'guess'"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"turns": TURNS, "guesses": "(?P<guess>.*)"}
    assert TwentyQuestions(**settings)
    with pytest.raises(GameError, match=sentence):
        TwentyQuestions(**{**settings, **changes})
