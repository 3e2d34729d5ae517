"""LanguageGame: PettingZoo's contract, what each seat sees, what forfeits, what pays, and how a game branches."""

from __future__ import annotations

import copy
import math
from typing import Any

import pettingzoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

import envs
from agents.scripted import RandomText, Scripted
from envs import code, lsp
from envs.game import LanguageGame
from envs.script import GameError, Line
from selfplay.rollout import rollout
from selfplay.testing import check_game
from verifiers.panel import Panel
from verifiers.random_score import RandomScore

SHIPPED = {"code": code, "lsp": lsp}
TURNS = [
    {"role": "challenger", "says": "query", "told": "Ask."},
    {"role": "solver", "says": "answer", "told": "{query}"},
]
PAYOFF = {"challenger": {"score": -1, "quality": 1}, "solver": {"score": 1, "quality": 1}}
SEALED = [
    {"role": "challenger", "says": r"(?P<query>[\s\S]*)\n#### (?P<reference>[\s\S]*)", "told": "Ask."},
    {"role": "solver", "says": "answer", "told": "{query}"},
]


def make(turns: Any = TURNS, payoff: Any = PAYOFF, **options: Any) -> LanguageGame:
    game = LanguageGame(turns, payoff, **options)
    game.reset(seed=0)
    return game


class Countdown(LanguageGame):
    """The solver answers until it has said "stop" or spoken three times; the game keeps its own diary."""

    def __init__(self) -> None:
        self.early: list[str] = []  # set before the base class knows its own rules
        super().__init__(TURNS, {"solver": {"score": 1}}, name="countdown_v0")
        self.diary: list[str] = []

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.diary, self.early = [], []
        super().reset(seed, options)

    def next_line(self) -> Line | None:
        if self.spoken == 0:
            return self.script[0]
        return None if self.spoken == 3 or self.case["answer"] == "stop" else self.script[1]

    def step(self, action: Any) -> None:
        self.diary.append(str(action))
        self.early.append(str(action))
        super().step(action)


# -- PettingZoo's own tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_games_pass_pettingzoo(name: str) -> None:
    module = SHIPPED[name]
    check_game(module.raw_env)
    api_test(module.env(), num_cycles=30)
    seed_test(module.env, num_cycles=10)
    parallel_api_test(module.parallel_env(), num_cycles=30)
    parallel_seed_test(module.parallel_env, num_cycles=10)


@pytest.mark.parametrize("kind", ["aec", "parallel"])
def test_registered(kind: Any) -> None:
    assert envs.__doc__, "importing the package registers its games"
    env = pettingzoo.make(kind, "sparring/lsp_v0")
    env.reset(seed=0)
    assert env.metadata["name"] == "lsp_v0"
    assert env.possible_agents == ["challenger_0", "solver_0", "verifier_0"]


def test_a_game_of_ones_own_passes() -> None:
    check_game(Countdown, games=10)
    check_game(lambda: LanguageGame(SEALED, PAYOFF), games=10)


# -- what a game is refused for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"turns": []}, "a game needs at least one turn"),
        ({"turns": [{"role": "verifier", "says": "query"}]}, "no turn may have the role 'verifier'"),
        ({"payoff": {}}, "payoff is empty"),
        ({"payoff": {"solver": None}}, "payoff is empty"),
        ({"payoff": {"solvr": {"score": 1}}}, r"payoff names 'solvr', who never speaks \(did you mean 'solver'\?\)"),
        ({"payoff": {"verifier": {"score": 1}}}, "payoff names 'verifier', who never speaks"),
        ({"personas": {"challengr": "x"}}, r"personas names 'challengr', .*\(did you mean 'challenger'\?\)"),
        ({"turns": TURNS[1:]}, r"turns\[0\]: solver is told {query} before anyone has said it"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(**changes)


def test_a_wrong_verdict_is_refused() -> None:
    game = make()
    for move in ("q", "a"):
        game.step(move)
    with pytest.raises(GameError, match=r"has the parts \['score'\], but the payoff pays \['quality', 'score'\]"):
        game.step({"score": 1.0})


def test_a_move_is_a_string() -> None:
    with pytest.raises(GameError, match="challenger_0 must say a string, not NoneType"):
        make().step(None)


# -- views, payoffs, forfeits -----------------------------------------------------------------------------------------


def test_who_sees_what() -> None:
    game = make(SEALED, personas={"solver": "You are terse."})
    assert game.observe("challenger_0") == {"system": "", "user": "Ask."}
    assert game.observe("solver_0") == {"system": "You are terse.", "user": ""}, "not its turn"
    game.step("What is 2+2?\n#### four (secret)")
    assert game.observe("solver_0") == {"system": "You are terse.", "user": "What is 2+2?"}
    assert game.observe("challenger_0")["user"] == ""
    game.step("4")
    expected = {"query": "What is 2+2?", "answer": "4", "reference": "four (secret)"}
    assert game.observe("verifier_0") == expected
    game.observe("verifier_0")["answer"] = "changed"
    assert game.observe("verifier_0") == expected, "an observation is a copy"


@settings(max_examples=60, deadline=None)
@given(query=st.text(st.characters(exclude_characters="f"), max_size=60), secret=st.text("f", min_size=1))
def test_the_sealed_reference_never_reaches_the_solver(query: str, secret: str) -> None:
    game = make(SEALED)
    game.step(f"{query}\n#### {secret}")
    for seat in ("challenger_0", "solver_0"):
        assert secret not in "".join(game.observe(seat).values())
    assert game.case["reference"] == secret


def test_the_payoff_is_a_matrix() -> None:
    """LSP: challenger -0.25 + 0.5 = 0.25, solver 0.25 + 0.5 = 0.75."""
    game = make()
    for move in ("q", "a", {"score": 0.25, "quality": 0.5}):
        game.step(move)
    assert game.rewards == {"challenger_0": 0.25, "solver_0": 0.75, "verifier_0": 0.0}
    assert all(game.terminations.values())


def test_a_nan_is_passed_on_to_whom_it_concerns() -> None:
    game = make(payoff={"challenger": {"score": -1}, "solver": {"quality": 1}})
    for move in ("q", "a", {"score": 1.0, "quality": math.nan}):
        game.step(move)
    assert game.rewards["challenger_0"] == -1 and math.isnan(game.rewards["solver_0"])


@pytest.mark.parametrize("move", ["", " \n\t", "\u2003", "x" * 21, "no reference here"])
def test_what_forfeits(move: str) -> None:
    game = make(SEALED, max_chars=20)
    game.step(move)
    assert game.rewards == {"challenger_0": -1.0, "solver_0": 0.0, "verifier_0": 0.0}
    assert game.infos["challenger_0"] == {"forfeit": True} and game.infos["solver_0"] == {}
    assert all(game.terminations.values())


def test_the_forfeit_is_paid_as_told() -> None:
    game = make(forfeit=-0.5)
    game.step("q")
    game.step("")
    assert game.rewards == {"challenger_0": 0.0, "solver_0": -0.5, "verifier_0": 0.0}


def test_five_personas_in_data() -> None:
    """Five seats of one role, each with its own persona; every one sees what the ones before it said."""
    turns = [
        {"role": f"guest_{n}", "says": f"word{n}", "told": " ".join(f"{{word{m}}}" for m in range(n)) or "Begin."}
        for n in range(5)
    ]
    personas = {"guest": "You are a guest.", **{f"guest_{n}": f"You are guest {n}." for n in range(1, 5)}}
    game = LanguageGame(turns, {"guest": {"score": 1}}, personas=personas, name="table_v0")
    check_game(lambda: LanguageGame(turns, {"guest": {"score": 1}}, personas=personas), games=10)
    panel = Panel(score=lambda cases: [1.0] * len(cases))
    (episode,) = rollout([game], {"guest": Scripted(["hello"]), "verifier": panel})
    assert [turn.seat for turn in episode.turns[:5]] == [f"guest_{n}" for n in range(5)]
    assert [turn.observation["system"] for turn in episode.turns[:2]] == ["You are a guest.", "You are guest 1."]
    assert episode.turns[4].observation["user"] == "hello hello hello hello"
    assert episode.returns == {"guest": 1.0} and episode.game == "table_v0"


# -- branching ---------------------------------------------------------------------------------------------------------


def test_a_copy_goes_its_own_way() -> None:
    game = Countdown()
    game.reset(seed=0)
    game.step("q")
    twin = copy.deepcopy(game)
    assert twin.script is game.script and twin._spaces is game._spaces, "rules are shared"
    twin.step("stop")
    twin.step({"score": 1.0})
    assert (twin.diary, twin.early) == (["q", "stop", "{'score': 1.0}"],) * 2
    assert (game.diary, game.early) == (["q"], ["q"])
    assert game.case["answer"] == "" and game.rewards["solver_0"] == 0 and game.agent_selection == "solver_0"
    game.step("on")
    game.step("and on")
    assert game.agent_selection == "verifier_0" and twin.rewards["solver_0"] == 1


def test_a_game_that_refers_to_itself_can_be_copied() -> None:
    game = Countdown()
    game.reset(seed=0)
    game.self_reference = game  # type: ignore[attr-defined]
    twin = copy.deepcopy(game)
    assert twin.self_reference is twin  # type: ignore[attr-defined]


# -- survival ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(moves=st.lists(st.text(st.characters(exclude_categories=()), max_size=50), min_size=2, max_size=2))
def test_every_string_is_a_legal_move(moves: list[str]) -> None:
    game = make()
    for move in moves:
        if any(game.terminations.values()):
            break
        game.step(move)
    else:
        assert game.observe("verifier_0") == {"query": moves[0], "answer": moves[1], "reference": ""}
        assert game.observation_space("verifier_0").contains(game.observe("verifier_0"))
    if any(not move.strip() for move in moves):
        assert min(game.rewards.values()) == -1


def test_a_thousand_games_of_noise() -> None:
    players: dict[str, Any] = {"challenger": RandomText(60), "solver": RandomText(60)}
    panel = Panel(score=RandomScore(), quality=RandomScore(seed=1))
    episodes = rollout([make(SEALED[:1] + TURNS[1:]) for _ in range(200)], {**players, "verifier": panel}, seed=1)
    episodes += rollout([make() for _ in range(800)], {**players, "verifier": panel}, seed=2)
    assert len(episodes) == 1000
    assert {episode.forfeit for episode in episodes} == {"", "challenger", "solver"}
    for episode in episodes:
        forfeited = bool(episode.forfeit)
        assert forfeited == (episode.verdict == {})
        assert forfeited == (episode.returns.get(episode.forfeit) == -1.0)
        assert all(math.isfinite(value) for value in episode.returns.values())


def test_a_payment_that_would_be_lost_is_refused() -> None:
    class Early(LanguageGame):
        rules_pay = True

        def begin(self, seed: int | None) -> None:
            self.pay("solver_0", 1.0)

    with pytest.raises(GameError, match="a payment before the first move is lost"):
        Early([{"role": "solver", "says": "answer"}]).reset(seed=0)
