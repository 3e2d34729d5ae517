"""Negotiation: who gains what by which trade, what is refused, and what nobody may know."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pettingzoo
import pytest

from agents.random_legal import RandomLegal
from agents.scripted import RandomText, Scripted
from agents.trader import Trader
from envs import negotiation, shipped
from envs.bargain import read_action, read_code
from envs.negotiation import Negotiation
from envs.script import GameError
from selfplay.rollout import rollout
from selfplay.testing import check_agent, check_game

GOODS = ["Wood", "Ore"]


def make(*, has: Any = None, values: Any = None, **options: Any) -> Negotiation:
    """A game in which everybody owns and values what the test says."""
    game = shipped.raw("negotiation", **{"goods": {"Wood": 10, "Ore": 40}, **options})
    assert isinstance(game, Negotiation)
    game.reset(seed=0)
    if has is not None:
        game.bargain.had = [dict(zip(GOODS, stock, strict=True)) for stock in has]
        game.bargain.has = [dict(stock) for stock in game.bargain.had]
        game.bargain.values = [dict(zip(GOODS, worth, strict=True)) for worth in values]
    return game


def play(game: Negotiation, *moves: str) -> dict[str, float]:
    for move in moves:
        assert game.agents and not any(game.terminations.values()), f"over before {move!r}"
        game.step(move)
    return game.rewards


# -- the trade -------------------------------------------------------------------------------------------------------


def test_the_larger_gain_wins() -> None:
    """First gives 1 Wood (worth 3 to it) for 3 Ore (5 each): 15 - 3 = 12. Second gets 10 for 3 Ore of 1: 7."""
    game = make(has=[(1, 0), (0, 3)], values=[(3, 5), (10, 1)], rounds=1)
    assert play(game, "[Offer: 1 Wood -> 3 Ore]", "[Accept]") == {"first_0": 1.0, "second_0": -1.0}
    assert game.bargain.gains() == (12, 7) and game.bargain.has == [{"Wood": 0, "Ore": 3}, {"Wood": 1, "Ore": 0}]


def test_equal_gains_are_a_draw() -> None:
    """One for one, worth 2 against 5 to either."""
    game = make(has=[(1, 0), (0, 1)], values=[(2, 5), (5, 2)], rounds=1)
    assert play(game, "[Offer: 1 Wood -> 1 Ore]", "[accept]") == {"first_0": 0.0, "second_0": 0.0}
    assert game.bargain.gains() == (3, 3)
    assert play(make(rounds=1), "Hello.", "Hello.") == {"first_0": 0.0, "second_0": 0.0}, "nor does talk gain anything"


def test_a_bad_trade_loses() -> None:
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)], rounds=1)
    assert play(game, "Here. [Offer: 1 Ore -> 1 Wood]", "[Accept]") == {"first_0": -1.0, "second_0": 1.0}
    assert game.bargain.gains() == (-30, 30)


def test_second_may_offer_and_first_accept() -> None:
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)], rounds=2)
    rewards = play(game, "Well?", "[Offer: 2 Ore, 1 Ore -> 1 Wood]", "[Accept]", "[Deny]")
    assert game.bargain.has == [{"Wood": 3, "Ore": 7}, {"Wood": 5, "Ore": 1}] and rewards["first_0"] == 1.0


@pytest.mark.parametrize("answer", ["[Deny]", "Let me think.", "[Offer: 1 Wood -> 1 Ore]"])
def test_an_offer_that_was_not_accepted_is_gone(answer: str) -> None:
    """The first offered, the second refused in one way or another: neither may accept that offer any more."""
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)], rounds=3)
    play(game, "[Offer: 1 Wood -> 1 Ore]", answer)
    if answer.startswith("[Offer"):
        assert game.bargain.offer is not None, "only the new one stands"
        play(game, "No.", "[Accept]")
    else:
        play(game, "Hm.", "[Accept]")
    assert game.infos["second_0"]["forfeit"] and game.rewards == {"first_0": 0.0, "second_0": -1.0}


def test_both_stocks_are_checked_when_the_trade_is_made() -> None:
    """Who accepts must be able to pay; and so must who offered, whatever has become of their stock since."""
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)])
    assert play(game, "[Offer: 1 Wood -> 5 Ore]", "[Accept]")["second_0"] == -1.0
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)])
    play(game, "[Offer: 4 Wood -> 1 Ore]")
    game.bargain.has[0]["Wood"] = 3
    assert play(game, "[Accept]")["second_0"] == -1.0 and game.bargain.has[1] == {"Wood": 4, "Ore": 4}


def test_branches_trade_apart() -> None:
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)])
    play(game, "[Offer: 1 Wood -> 1 Ore]")
    branch = deepcopy(game)
    play(branch, "[Accept]")
    assert game.bargain.has == [{"Wood": 4, "Ore": 4}] * 2 and game.bargain.offer and branch.bargain.offer is None
    play(game, "[Accept]")
    assert game.bargain.has == branch.bargain.has != game.bargain.had


@pytest.mark.parametrize(
    "message",
    ["[Offer: 5 Wood -> 1 Ore]", "[Offer: 3 Wood, 2 Wood -> 1 Ore]", "[Offer: 1 Wood]", "[Offer: Wood -> Ore]",
     "[Offer: 1 Wood -> 1 Silk]", "[Offer: 0 Wood -> 1 Ore]", "[Offer: -> 1 Ore]", "[Offer: -1 Wood -> 1 Ore]",
     "[Offer: 1 Wood -> 1 Ore -> 1 Wood]", "[Accept]", "[offer]", " "],
)  # fmt: skip
def test_what_forfeits(message: str) -> None:
    game = make(has=[(4, 4), (4, 4)], values=[(10, 40), (10, 40)])
    assert play(game, message) == {"first_0": -1.0, "second_0": 0.0}
    assert game.infos["first_0"]["forfeit"] is True and all(game.terminations.values())


def test_how_a_message_is_read() -> None:
    assert read_action("I have [some] ideas.", GOODS) == "talk"
    assert read_action("[ DENY ] and [accept]", GOODS) == "accept", "the last one counts"
    assert read_action("[Deny] but [Offer: 2 woods, 1 ORE -> 12 Ores] ?", GOODS) == ({"Wood": 2, "Ore": 1}, {"Ore": 12})
    assert read_action("[Offer 1 Wood->1 Ore]", GOODS) == ({"Wood": 1}, {"Ore": 1})
    assert read_action("[Acceptable]", GOODS) == "talk"
    assert read_code("32", ("A", "B")) == ({"A": 3}, {"B": 2}) and read_code("1", ("A", "B")) == "accept"


# -- what is drawn, and who knows it ---------------------------------------------------------------------------------


def test_stocks_and_values_are_drawn_by_the_seed_within_their_limits() -> None:
    game = shipped.raw("negotiation")
    seen = set[str]()
    for seed in range(200):
        game.reset(seed=seed)
        assert isinstance(game, Negotiation)
        for side in range(2):
            assert all(5 <= number <= 25 for number in game.bargain.has[side].values())
            for good, mean in {"Wheat": 5, "Wood": 10, "Sheep": 15, "Brick": 25, "Ore": 40}.items():
                value = game.bargain.values[side][good]
                assert max(5, round(0.8 * mean)) <= value <= min(40, round(1.2 * mean))
        seen.add(str((game.bargain.has, game.bargain.values)))
    assert len(seen) == 200
    game.reset(seed=7)
    before = (game.bargain.has, game.bargain.values)
    game.reset(seed=7)
    assert before == (game.bargain.has, game.bargain.values)


@pytest.mark.parametrize("wording", ["full", "short"])
def test_a_seats_prompt_is_the_same_whatever_the_other_has(wording: str) -> None:
    """Change all that one seat owns and values: the other is told the same, word for word."""
    for seat in range(2):
        shown = list[list[str]]()
        for secret in (1, 2):
            game = shipped.raw("negotiation", wording=wording)
            assert isinstance(game, Negotiation)
            game.reset(seed=3)
            other = 1 - seat
            goods = list(game.bargain.has[other])
            game.bargain.has[other] = dict.fromkeys(goods, 100 + secret)
            game.bargain.values[other] = dict.fromkeys(goods, 30 + secret)
            game.infos = {name: {} for name in game.agents}
            game._advance()  # the first prompt was made before the change
            told = list[str]()
            for _ in range(2):
                for name in ("first_0", "second_0"):
                    if name == ("first_0", "second_0")[seat]:
                        told.append(str(game.observe(name)) + str(game.infos[name]))
                    game.step("0" if wording == "short" else "Hello.")
            shown.append(told)
        assert len(shown[0]) == 2 and shown[0] == shown[1]


def test_what_a_seat_is_told() -> None:
    game = make(has=[(4, 2), (1, 3)], values=[(9, 41), (11, 38)])
    game.step("I want Ore.")
    game.step("[Offer: 1 Ore -> 4 Wood]")
    told = game.observe("first_0")["user"]
    assert "You have: 4 Wood, 2 Ore\nA unit is worth to you: Wood 9, Ore 41" in told
    assert "First: I want Ore.\nSecond: [Offer: 1 Ore -> 4 Wood]" in told and "you have 4 messages left" in told
    assert "what you would get -> what you would pay: 1 Ore -> 4 Wood" in told
    state = json.loads(game.infos["first_0"]["state"])
    assert state["offer"] == {"gives": {"Ore": 1}, "asks": {"Wood": 4}} and state["stock"] == {"Wood": 4, "Ore": 2}
    assert game.observe("second_0")["user"] == "", "it is not its turn"


# -- the embedded model's wording ------------------------------------------------------------------------------------


def test_codes() -> None:
    """The first seat sells A, the second B; a legal move is what it can pay."""
    game = shipped.raw("negotiation", wording="short", max_chars=64)
    assert isinstance(game, Negotiation)
    game.reset(seed=0)
    game.bargain.had = [{"A": 2, "B": 1}, {"A": 1, "B": 4}]
    game.bargain.has = [dict(goods) for goods in game.bargain.had]
    game.bargain.values = [{"A": 5, "B": 15}, {"A": 15, "B": 5}]
    game._advance()
    legal = game.infos["first_0"]["legal_actions"]
    assert legal[0] == "0" and {move[0] for move in legal[1:]} == {"1", "2"} and len(legal) == 1 + 2 * 3
    game.step("23")
    assert game.observe("second_0")["user"] == "B 1 A, 4 B. 2 A -> 3 B?"
    assert game.infos["second_0"]["legal_actions"][:2] == ["1", "0"]
    game.step("1")
    assert game.bargain.has == [{"A": 0, "B": 4}, {"A": 3, "B": 1}] and game.bargain.gains() == (35, 15)
    assert game.infos["first_0"]["legal_actions"] == ["0"], "nothing left to sell"
    assert play(game, "0", "0") == {"first_0": 1.0, "second_0": -1.0}


def test_an_offer_that_cannot_be_paid_is_no_legal_code() -> None:
    game = shipped.raw("negotiation", wording="short")
    game.reset(seed=0)
    assert isinstance(game, Negotiation)
    game.bargain.has[1]["B"] = 2
    game.step("13")
    assert "1" not in game.infos["second_0"]["legal_actions"]
    game.step("1")
    assert game.infos["second_0"]["forfeit"] is True


# -- opponents and the contract --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["full", "short"])
@pytest.mark.parametrize("seat", [0, 1])
def test_the_trader_never_loses_by_a_trade(wording: str, seat: int) -> None:
    """It trades for gains alone, by its own values; against one that gives Ore for Wheat it wins every trade."""
    game = shipped.raw("negotiation", wording=wording)
    games = [deepcopy(game) for _ in range(40)]
    noise = RandomLegal() if wording == "short" else Scripted(["[Offer: 1 Ore -> 1 Wheat]", "[Deny]", "Hm."])
    names = ("first", "second")
    episodes = rollout(games, {names[seat]: Trader(), names[1 - seat]: noise}, seed=5)
    gains = [game.bargain.gains()[seat] for game in games if isinstance(game, Negotiation)]
    assert min(gains) >= 0 and sum(gain > 0 for gain in gains) > 10
    if wording == "full":
        assert min(episode.returns[names[seat]] for episode in episodes) == 0.0


def test_two_traders_agree() -> None:
    game = shipped.raw("negotiation")
    games = [deepcopy(game) for _ in range(40)]
    both = rollout(games, {"first": Trader(), "second": Trader()}, seed=5)
    assert not any(episode.forfeit for episode in both)
    assert {episode.returns["first"] for episode in both} == {1.0, 0.0, -1.0}


def test_the_trader_keeps_the_contract_of_agents() -> None:
    check_agent(Trader())
    with pytest.raises(ValueError, match="least=0 must be above 0"):
        Trader(least=0)


@pytest.mark.parametrize("wording", ["full", "short"])
def test_games_of_noise(wording: str) -> None:
    game = shipped.raw("negotiation", wording=wording)
    games = [deepcopy(game) for _ in range(300)]
    for player in (RandomText(), RandomLegal()):
        for episode in rollout(games, {"first": player, "second": player}, seed=1):
            assert sum(episode.returns.values()) == (-1.0 if episode.forfeit else 0.0)


def test_pettingzoo_accepts_it() -> None:
    check_game(negotiation.raw_env, games=20)
    check_game(lambda: shipped.raw("negotiation", wording="short", max_chars=64), games=20)
    assert pettingzoo.make("aec", "sparring/negotiation_v0").possible_agents == ["first_0", "second_0"]


TURNS = [{"role": "first", "says": "m"}, {"role": "second", "says": "m"}]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": TURNS[:1]}, "two turns, of two roles"),
        ({"turns": [TURNS[0], {"role": "first_1", "says": "m"}]}, "two turns, of two roles"),
        ({"rounds": 0}, "rounds=0: a negotiation has a whole number of rounds"),
        ({"goods": {"Wood": 1}}, "goods names 1: it takes two or more to trade"),
        ({"goods": {"Wood": 1, "Fine wool": 2}}, "goods names 'Fine wool', which is not one word"),
        ({"goods": {"Wood": 1, "Ore": [1, 2, 3]}}, r"goods.Ore=\[1, 2, 3\] is neither a worth above 0 nor a pair"),
        ({"goods": {"Wood": 1, "Ore": "dear"}}, "goods.Ore=dear is neither a worth above 0 nor a pair"),
        ({"goods": {"Wood": 1, "Ore": 2, "Tin": 3}, "coded": True}, "coded=true is for two goods"),
        ({"stock": [5]}, r"stock=\[5\] is no range of whole numbers from 0 on"),
        ({"stock": [9, 5]}, r"stock=\[9, 5\] is no range"),
        ({"limits": [0, 5]}, r"limits=\[0, 5\] is no range of whole numbers from 1 on"),
        ({"spread": 1}, "spread=1 is a share, from 0 to less than 1"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"turns": TURNS, "goods": {"Wood": 10, "Ore": 40}}
    assert Negotiation(**settings)
    with pytest.raises(GameError, match=sentence):
        Negotiation(**{**settings, **changes})
