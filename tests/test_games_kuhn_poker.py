"""Kuhn poker: who wins how many chips, what a player is told of, and its optimal player."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations
from typing import Any

import pytest

from agents.kuhn_equilibrium import KuhnEquilibrium
from agents.legal import StateError
from agents.random_legal import RandomLegal
from agents.scripted import RandomText
from envs import kuhn_poker, shipped
from envs.kuhn_poker import KuhnPoker
from envs.script import GameError
from selfplay.exploitability import STATES, equilibrium, value
from selfplay.rollout import rollout
from selfplay.testing import check_game
from selfplay.types import Episode

WORDS = {"p": ("check", "fold"), "b": ("bet", "call")}


def make(**options: Any) -> KuhnPoker:
    game = shipped.raw("kuhn_poker", **options)
    assert isinstance(game, KuhnPoker)
    return game


def dealt(cards: str, **options: Any) -> KuhnPoker:
    """A game whose deal is these two cards, the first player's before the second's."""
    game = make(**options)
    for seed in range(100):
        game.reset(seed=seed)
        if "".join(game.cards) == cards:
            return game
    raise AssertionError(f"{cards} is never dealt")


def bet(cards: str, played: str) -> dict[str, float]:
    """What both have won once ``played`` is played."""
    game = dealt(cards)
    for number, move in enumerate(played):
        words = WORDS[move][played[:number].endswith("b")]
        assert game.agent_selection == ("first_0", "second_0")[number % 2]
        assert words in game.infos[game.agent_selection]["legal_actions"]
        game.step(words)
    assert all(game.terminations.values()), "the betting is not over"
    return dict(game.rewards)


def played(first: Any, second: Any, games: int) -> list[Episode]:
    game = make()
    return rollout([deepcopy(game) for _ in range(games)], {"first": first, "second": second}, seed=3)


@pytest.mark.parametrize(
    ("moves", "chips"),
    [("pp", 1), ("bb", 2), ("pbb", 2)],
)
def test_the_higher_card_wins(moves: str, chips: int) -> None:
    """A showdown is for the ante of one chip, and for two after a call."""
    for cards in map("".join, permutations("JQK", 2)):
        sign = 1 if "JQK".index(cards[0]) > "JQK".index(cards[1]) else -1
        assert bet(cards, moves) == {"first_0": sign * chips, "second_0": -sign * chips}


@pytest.mark.parametrize("cards", ["JK", "KJ"])
def test_who_folds_loses_the_ante_whatever_the_cards(cards: str) -> None:
    assert bet(cards, "bp") == {"first_0": 1, "second_0": -1}
    assert bet(cards, "pbp") == {"first_0": -1, "second_0": 1}


def test_legal_moves() -> None:
    game = dealt("QK")
    assert game.infos["first_0"] == {"state": "Q", "legal_actions": ["check", "bet"]}
    game.step(" Check ")
    assert game.infos["second_0"] == {"state": "Kp", "legal_actions": ["check", "bet"]}
    game.step("bet")
    assert game.infos["first_0"] == {"state": "Qpb", "legal_actions": ["fold", "call"]}


@pytest.mark.parametrize("move", ["call", "raise", "", "bet two"])
def test_another_word_forfeits(move: str) -> None:
    game = dealt("QK")
    game.step(move)
    assert game.rewards == {"first_0": -2.0, "second_0": 0.0} and game.infos["first_0"]["forfeit"]


def test_all_deals_are_alike() -> None:
    game, found = make(), dict[str, int]()
    for seed in range(1200):
        game.reset(seed=seed)
        cards = "".join(game.cards)
        found[cards] = found.get(cards, 0) + 1
    assert len(found) == 6 and all(150 < count < 250 for count in found.values())


@pytest.mark.parametrize("wording", ["full", "short"])
def test_nobody_is_told_the_others_card(wording: str) -> None:
    """The prompts of a seat are the same whatever card the other holds."""
    for played in ("", "p", "b", "pb"):
        for own in "JQK":
            told: list[Any] = []
            for other in set("JQK") - {own}:
                cards = own + other if len(played) % 2 == 0 else other + own
                game = dealt(cards, wording=wording)
                for number, move in enumerate(played):
                    moves = game.infos[game.agent_selection]["legal_actions"]
                    game.step(moves["pb".index(move)])
                    assert number + 1 == game.spoken
                seat = game.agent_selection
                told.append((game.observe(seat), game.infos[seat]))
            assert told[0] == told[1]
            assert told[0][1]["state"] == own + played


def test_what_is_told() -> None:
    game = dealt("KQ", wording="short")
    game.step("c")
    assert game.observe("second_0")["user"] == "5c"
    full = dealt("KQ")
    full.step("bet")
    told = full.observe("second_0")["user"]
    assert "First: bet" in told and "Your card: Q\nYour legal moves: fold, call" in told


def test_the_contract() -> None:
    check_game(kuhn_poker.raw_env, games=20)
    check_game(lambda: kuhn_poker.raw_env(wording="short"), games=20)


def test_random_text_never_breaks_it() -> None:
    noise = RandomText(20)
    assert all(episode.forfeit for episode in played(noise, noise, 300))


def test_pays_zero_sum_by_the_rules() -> None:
    for episode in played(RandomLegal(), RandomLegal(), 200):
        assert episode.returns["first"] == -episode.returns["second"] in (-2, -1, 1, 2)
        assert episode.case == {} and not episode.forfeit


def test_the_optimal_player_plays_the_equilibrium() -> None:
    """In 6,000 games against itself, of a standard deviation of about 1.3 chips, the mean is within 0.07 of -1/18."""
    player, counts = KuhnEquilibrium(alpha=0.2), dict[str, list[int]]()
    episodes = played(player, player, 6000)
    for episode in episodes:
        cards, words = "", ""
        for turn in episode.turns:
            words = turn.observation["user"].split("Your card: ")[1][0]
            cards += words
        for number, turn in enumerate(episode.turns):
            before = "".join("pb"[t.action.move in ("bet", "call")] for t in episode.turns[:number])
            state = cards[number] + before
            counts.setdefault(state, []).append(turn.action.move in ("bet", "call"))
    wanted = equilibrium(0.2)
    for state, found in counts.items():
        assert sum(found) / len(found) == pytest.approx(wanted[state]["b"], abs=0.08), state
    mean = sum(episode.returns["first"] for episode in episodes) / len(episodes)
    assert mean == pytest.approx(value(wanted), abs=0.07)


def test_the_optimal_player_goes_by_the_seed_alone() -> None:
    infos = [{"state": state, "legal_actions": ["x", "y"]} for state in STATES] * 20
    chats = [{"system": "", "user": ""}] * len(infos)
    player, seeds = KuhnEquilibrium(), list(range(len(infos)))
    together = [action.move for action in player.choose(chats, seeds, infos)]
    alone = [player.choose(chats[:1], [seed], [info])[0].move for seed, info in zip(seeds, infos, strict=True)]
    assert together == alone and player == KuhnEquilibrium() and player.act([], []) == []


def test_the_optimal_player_elsewhere() -> None:
    player = KuhnEquilibrium()
    for info in ({}, {"legal_actions": ["1"]}, {"legal_actions": ["1", "2"], "state": "xo"}):
        with pytest.raises(StateError, match="KuhnEquilibrium plays kuhn_poker, and no other game"):
            player.choose([{}], [0], [info])
    with pytest.raises(StateError):
        player.act([{}], [0])
    with pytest.raises(ValueError, match="alpha=1 "):
        KuhnEquilibrium(alpha=1)


def test_refused() -> None:
    lines = [{"role": role, "says": "move", "moves": list("cbfk")} for role in ("first", "second")]
    with pytest.raises(GameError, match="two turns, of two roles"):
        KuhnPoker(lines[:1])
    with pytest.raises(GameError, match=r"turns\[0\]\.moves are four words"):
        KuhnPoker([{**lines[0], "moves": ["check", "bet"]}, lines[1]])
    with pytest.raises(GameError, match="three names"):
        KuhnPoker(lines, cards=["J", "J", "K"])
    with pytest.raises(GameError, match=r"told \{cart\}.*did you mean 'card'"):
        KuhnPoker([{**lines[0], "told": "{cart}"}, lines[1]])
