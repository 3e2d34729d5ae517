"""The keys of a line beyond its words: legal moves, who hears it, what is said at once; and sight, teams and pay."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest

from agents.random_legal import RandomLegal
from agents.scripted import Scripted
from envs.game import LanguageGame
from envs.script import GameError, Line
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action

ASK, PAYOFF = {"role": "asker", "says": "query", "told": "Ask."}, {"asker": {"score": 1}}


def make(*turns: dict[str, Any], payoff: Any = PAYOFF, **options: Any) -> LanguageGame:
    game = LanguageGame(list(turns), payoff, **options)
    game.reset(seed=0)
    return game


def line(**changes: Any) -> Line:
    return Line.parse({**ASK, **changes}, 1)


class Judge:
    """Scores 1 for whatever there is."""

    def act(self, observations: Any, seeds: Any) -> list[Action]:
        return [Action({"score": 1.0})] * len(observations)


# -- moves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "said", "filled"),
    [
        ("query", "Call", "call"),
        ("query", "  FOLD\n", "fold"),
        ("query", "call!", None),
        ("query", "", None),
        (r"I (?P<query>\w+)\.?", "I call.", "call"),
        (r"I (?P<query>\w+)\.?", "fold", "fold"),  # the move itself is always legal
        (r"I (?P<query>\w+)\.?", "I raise.", None),
        (r"(?P<query>\w+)(?: for (?P<chips>\d+))?", "call for 5", "call"),
    ],
)
def test_a_move_is_one_of_the_list_in_whatever_case(says: str, said: str, filled: str | None) -> None:
    slots = line(says=says, moves=["call", "fold"]).read(said, 99)
    assert (slots and slots["query"]) == filled


def test_other_slots_are_filled_beside_a_move() -> None:
    both = line(says=r"(?P<query>\w+)(?: for (?P<chips>\d+))?", moves=["call", "fold"])
    assert both.read("call for 5", 99) == {"query": "call", "chips": "5"}
    assert both.read("call", 99) == {"query": "call", "chips": ""}


def test_legal_moves_are_told_while_it_is_the_seats_turn() -> None:
    game = make({**ASK, "moves": [1, 2]}, {"role": "b", "says": "answer", "moves": ["x"]})
    assert game.infos["asker_0"]["legal_actions"] == ["1", "2"] and "legal_actions" not in game.infos["b_0"]
    game.infos["asker_0"]["legal_actions"].append("3")
    game.step("3")
    assert game.infos["asker_0"] == {"forfeit": True}, "whoever changes the list does not change the rules"
    game.reset(seed=0)
    assert game.infos["asker_0"]["legal_actions"] == ["1", "2"]
    game.step("2")
    assert game.infos["asker_0"] == {} and game.infos["b_0"] == {"legal_actions": ["x"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"moves": "yes"}, r"turns\[1\].moves='yes' is not a list of texts"),
        ({"moves": [True]}, r"turns\[1\].moves: YAML reads yes, no, on and off as True: write the word in quotes"),
        ({"moves": ["a", ""]}, r"turns\[1\].moves has '', which is not a text"),
        ({"moves": [["a"]]}, r"turns\[1\].moves has \['a'\], which is not a text"),
        ({"moves": ["Call", "call "]}, r"turns\[1\].moves has 'Call' twice"),
        ({"at_once": 1}, r"turns\[1\].at_once=1: use true or false"),
        ({"to": "wolf"}, r"turns\[1\].to='wolf' is not a list of texts"),
        ({"says": "transcript"}, r"turns\[1\] says 'transcript', which is what a seat has heard"),
        ({"move": ["a"]}, r"turns\[1\] has an unknown key 'move' \(did you mean 'moves'\?\)"),
    ],
)
def test_refused_when_parsed(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        line(**changes)


# -- to, and the transcript ------------------------------------------------------------------------------------------


def test_who_hears_a_line() -> None:
    told = {"told": "{transcript}"}
    game = make(
        {**ASK, "to": ["b"]},
        {"role": "b", "says": "x", "to": [], **told},
        {"role": "b_1", "says": "y", "to": ["asker_0"], **told},
        {"role": "asker", "says": "z", **told},
    )
    heard: list[str] = []
    for number in range(4):
        heard.append(game.observe(game.agent_selection)["user"])
        game.step(f"said {number}")
    assert heard[1] == "Asker: said 0" == heard[2]
    assert heard[3] == "Asker: said 0\nB 2: said 2", "one's own words, and what was for it"


def test_of_a_sealed_line_only_the_first_slot_is_heard() -> None:
    game = make({**ASK, "says": r"(?P<query>.*)#(?P<reference>.*)"}, {"role": "b", "says": "x", "told": "{transcript}"})
    game.step("What?#secret")
    assert game.observe("b_0")["user"] == "Asker: What?"


def test_a_transcript_is_told_and_not_filled_in() -> None:
    game = make(ASK, {"role": "b", "says": "x", "told": "{transcript} {query}"})
    game.step("{reference} {transcript}")
    assert game.observe("b_0")["user"] == "Asker: {reference} {transcript} {reference} {transcript}"


# -- at once ---------------------------------------------------------------------------------------------------------

THREE = [
    ASK,
    {"role": "g", "says": "a", "told": "{query}"},
    {"role": "g_1", "says": "b", "told": "{query}", "at_once": True},
    {"role": "g_2", "says": "c", "told": "{query}{transcript}", "at_once": True},
    {"role": "h", "says": "d", "told": "{a}{b}{c}"},
]


class Counting:
    """Says a number, and counts how many rows each of its calls had."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def act(self, observations: Any, seeds: Any) -> list[Action]:
        self.calls.append(len(observations))
        return [Action(str(seed % 9)) for seed in seeds]


def test_said_at_once_is_asked_in_one_call() -> None:
    player = Counting()
    games = [LanguageGame(THREE, PAYOFF) for _ in range(4)]
    rollout(games, {**dict.fromkeys(("asker", "g", "h"), player), VERIFIER: Judge()})
    assert player.calls == [4, 12, 4]


def test_said_at_once_is_not_told_each_other() -> None:
    game = make(*THREE)
    game.step("Q")
    assert game.waiting == ("g_0", "g_1", "g_2") and game.agent_selection == "g_0"
    before = [game.observe(f"g_{n}") for n in range(3)]
    game.step("one")
    assert game.waiting == ("g_1", "g_2") and game.case["a"] == "", "nobody has heard it"
    assert [game.observe(f"g_{n}")["user"] for n in range(3)] == ["", *(told["user"] for told in before[1:])]
    game.step("two")
    game.step("three")
    assert game.observe("h_0")["user"] == "onetwothree"


def test_a_forfeit_of_one_ends_the_turn_of_all() -> None:
    """Also where their moves were asked for in the same call."""
    game = make(*THREE)
    for move in ("Q", "one", " "):
        game.step(move)
    assert game.waiting == () and game.rewards["g_1"] == -1.0 and all(game.terminations.values())
    players = {"asker": Scripted(["Q"]), "g": Scripted(["x"]), "g_1": Scripted([" "]), "h": Scripted(["y"])}
    (episode,) = rollout([LanguageGame(THREE, PAYOFF)], {**players, VERIFIER: Judge()})
    assert [turn.seat for turn in episode.turns] == ["asker_0", "g_0", "g_1"] and episode.forfeit == "g"
    assert episode.seats == {"asker_0": 0.0, "g_0": 0.0, "g_1": -1.0, "g_2": 0.0, "h_0": 0.0}


def test_a_copy_made_between_them_goes_its_own_way() -> None:
    game = make(*THREE)
    for move in ("Q", "one"):
        game.step(move)
    twin = copy.deepcopy(game)
    for one, said in ((game, "two"), (twin, "zwei")):
        one.step(said)
        one.step("three")
    assert game.observe("h_0")["user"] == "onetwothree" and twin.observe("h_0")["user"] == "onezweithree"


def test_all_branches_of_who_speaks_at_once() -> None:
    """2 x 2 leaves; the second seat's moves are siblings under each of the first's."""
    players = dict.fromkeys(("asker", "g", "h"), Scripted([str(n) for n in range(50)]))
    turns = rollout([LanguageGame(THREE[:3], PAYOFF)], {**players, VERIFIER: Judge()}, {"g": 2})
    assert len(turns) == 4 and len({episode.turns[2].group for episode in turns}) == 2


@pytest.mark.parametrize(
    ("turns", "sentence"),
    [
        ([{**ASK, "at_once": True}], r"turns\[0\].at_once: there is no line before the first one"),
        ([ASK, {**ASK, "says": "x", "at_once": True}], r"turns\[1\]: asker_0 is to speak twice at once; write a seat"),
        (
            [ASK, {"role": "b", "says": "x", "told": "{query}", "at_once": True}],
            r"turns\[1\]: b is told \{query\} before anyone has said it",
        ),
        ([ASK, {"role": "b", "says": "x", "to": ["askr"]}], r"turns\[1\].to names 'askr'.*did you mean 'asker'"),
    ],
)
def test_refused_at_once(turns: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(*turns)


# -- sight, teams, pay by the rules ----------------------------------------------------------------------------------

SEALED = {"role": "asker", "says": r"(?P<query>.*)#(?P<reference>.*)"}


def test_sight_is_checked_before_anybody_plays() -> None:
    turns = [SEALED, {"role": "b", "says": "x", "told": "{query}"}, {"role": "c", "says": "y", "told": "{reference}"}]
    make(*turns, sees={"b": ["query"]})
    with pytest.raises(GameError, match=r"c is told \{reference\}, which sees.c keeps from it"):
        make(*turns, sees={"b": ["query"], "c": ["query"]})
    with pytest.raises(GameError, match=r"sees names 'd', who never speaks"):
        make(*turns, sees={"d": []})
    make(*turns, sees={"c": [], "c_0": ["reference"]})  # a seat's own list comes before its role's


class Late(LanguageGame):
    """Makes its second line while it is played."""

    def next_line(self) -> Line | None:
        if self.spoken == 1:
            return Line.parse({"role": "b", "says": "x", "told": "{reference}"}, 1)
        return self.script[0] if not self.spoken else None


def test_sight_holds_for_lines_that_a_game_makes() -> None:
    turns = [SEALED, {"role": "b", "says": "x"}]
    game = Late(turns, PAYOFF, sees={"b": ["query"]})
    game.reset(seed=0)
    with pytest.raises(GameError, match=r"b is told \{reference\}, which sees.b keeps from it"):
        game.step("Q#secret")


def test_teams_are_paid_besides_roles_and_seats() -> None:
    turns = [ASK, {"role": "b", "says": "x"}, {"role": "b_1", "says": "y"}, {"role": "c", "says": "z"}]
    payoff = {"all": {"score": 1.0}, "b": {"score": 10.0}, "b_1": {"score": 100.0}}
    game = make(*turns, payoff=payoff, teams={"all": ["b", "c"], "few": ["c"]})
    for move in "qxyz":
        game.step(move)
    game.step({"score": 2.0})
    assert game.rewards == {"asker_0": 0.0, "b_0": 22.0, "b_1": 222.0, "c_0": 2.0, "verifier_0": 0.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teams": {"b": ["asker"]}}, "teams.b has the name of a role: call the team otherwise"),
        ({"teams": {"t": ["askr"]}}, r"teams.t names 'askr', who never speaks \(did you mean 'asker'\?\)"),
        ({"payoff": {"twn": {"s": 1}}, "teams": {"town": ["b"]}}, r"payoff names 'twn'.*\(did you mean 'town'\?\)"),
    ],
)
def test_refused_teams(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(ASK, {"role": "b", "says": "x"}, **changes)


class Bids(LanguageGame):
    """Two secret bids at once, twice; each round pays its higher bidder 1, who is announced to the other alone."""

    rules_pay: ClassVar[bool] = True

    def __init__(self) -> None:
        bid = {"says": "x", "told": "{transcript}", "moves": ["0", "1", "2"], "to": []}
        super().__init__([{"role": "a", **bid}, {"role": "b", **bid, "says": "y", "at_once": True}], name="bids_v0")

    def next_line(self) -> tuple[Line, ...] | None:
        if self.spoken:
            a, b = int(self.case["x"]), int(self.case["y"])
            if a != b:
                self.pay("a_0" if a > b else "b_0", 1.0)
                self.announce("You were lower.", ["b" if a > b else "a"], by="Auctioneer")
        return self.script if self.spoken < 4 else None


def test_rules_pay_at_once_and_need_no_verifier() -> None:
    (episode,) = rollout([Bids()], {"a": Scripted(["2"]), "b": Scripted(["1"])})
    assert episode.seats == {"a_0": 2.0, "b_0": 0.0} and episode.paid == ({}, {"a_0": 1.0}, {}, {"a_0": 1.0})
    assert episode.case == {} and [turn.role for turn in episode.turns] == ["a", "b", "a", "b"]
    heard = [turn.observation["user"] for turn in episode.turns]
    assert heard[2] == "A: 2" and heard[3] == "B: 1\nAuctioneer: You were lower."
    played = rollout([Bids() for _ in range(50)], {"a": RandomLegal(), "b": RandomLegal()})
    assert not any(episode.forfeit for episode in played) and len({str(episode.seats) for episode in played}) > 4


def test_whoever_has_no_rules_that_pay_has_a_payoff() -> None:
    with pytest.raises(GameError, match="payoff is empty"):
        LanguageGame([ASK])
