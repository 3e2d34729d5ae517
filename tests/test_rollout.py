"""The loop: how the tree branches, who shares a call, when the verifier speaks, and that a replay is exact."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scripted import RandomText, Sampled, Scripted
from envs import lsp
from envs.game import LanguageGame
from selfplay import cohort
from selfplay.rollout import RolloutError, role_of, rollout
from selfplay.seeds import derive
from selfplay.types import VERIFIER, Action, Episode
from verifiers.panel import Panel

WIDE = {"challenger": 32, "solver": 8}


@dataclass
class Counting:
    """Says numbers drawn from its seeds, and notes how many rows every call had. Equal to any of the same name."""

    name: str
    blank: float = 0.0
    calls: list[int] = field(default_factory=list, compare=False)

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        self.calls.append(len(observations))
        return [Action("" if random.Random(seed).random() < self.blank else f"{self.name} {seed}") for seed in seeds]


class Judge(Panel):
    """A panel of one part that notes its calls: the score is whether the answer's number is even."""

    def __init__(self) -> None:
        super().__init__(score=lambda cases: [float(case["answer"][-1] in "02468") for case in cases])
        self.calls: list[int] = []

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        self.calls.append(len(observations))
        return super().act(observations, seeds)


def story(episode: Episode) -> object:
    """Everything an episode says, without the numbers of its groups."""
    turns = [(turn.seat, turn.observation, turn.action) for turn in episode.turns]
    return turns, dict(episode.returns), episode.case, episode.verdict, episode.forfeit, episode.game


def test_the_shape_of_the_tree() -> None:
    """32 queries with 8 answers each are 256 leaves; 32 challenger turns are shared by 8 leaves each."""
    episodes = rollout([lsp.raw_env()], {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}, WIDE)
    assert len(episodes) == 256
    asked, answered = [e.turns[0] for e in episodes], [e.turns[1] for e in episodes]
    assert [turn.role for turn in episodes[0].turns] == ["challenger", "solver", VERIFIER]
    assert len(set(asked)) == 32 and len(set(answered)) == 256
    for i in range(32):
        block = range(8 * i, 8 * i + 8)
        assert all(asked[j] is asked[8 * i] for j in block), "the leaves of one query stand together and share its turn"
        assert len({answered[j].group for j in block}) == 1
    assert len({turn.group for turn in asked}) == 1
    assert len({turn.group for turn in answered}) == 32
    assert len({turn.action.move for turn in asked}) == 32 and len({turn.action.move for turn in answered}) == 256
    assert len({id(e.case) for e in episodes}) == 256
    for episode in episodes:
        assert episode.case["query"] == episode.turns[0].action.move == episode.turns[1].observation["user"]
        assert episode.case["answer"] == episode.turns[1].action.move
        assert episode.returns["solver"] == episode.verdict["score"] == -episode.returns["challenger"]


def test_equal_agents_share_a_call_and_the_verifier_is_called_once() -> None:
    one, judge = Counting("m"), Judge()
    rollout([lsp.raw_env() for _ in range(3)], {"challenger": one, "solver": one, VERIFIER: judge}, {"solver": 4})
    assert one.calls == [3, 12] and judge.calls == [12]

    turns = [{"role": f"guest_{n}", "says": f"w{n}"} for n in range(2)]
    first, second = LanguageGame(turns, {"guest": {"score": 0}}), LanguageGame(turns[::-1], {"guest": {"score": 0}})
    players = {"guest_0": Counting("m"), "guest_1": Counting("m"), VERIFIER: Panel(score=lambda cases: [0.0, 0.0])}
    rollout([first, second], players)
    calls = (players["guest_0"].calls, players["guest_1"].calls)
    assert calls == ([2], [2]), "equal but not identical agents in two seats: one call a tick, to the one met first"

    players = {"guest_0": Counting("a"), "guest_1": Counting("b"), VERIFIER: Panel(score=lambda cases: [0.0, 0.0])}
    rollout([first, second], players)
    assert (players["guest_0"].calls, players["guest_1"].calls) == ([1, 1], [1, 1])


def test_the_verifier_waits_for_the_longest_game() -> None:
    """One table ends after two turns and one after four: all cases still reach the verifier in one call."""
    payoff = {"solver": {"score": 1}}
    short = [{"role": "solver", "says": "answer"}]
    games = [LanguageGame(short * n, payoff) for n in (1, 3)]
    judge = Judge()
    episodes = rollout(games, {"solver": Counting("s"), VERIFIER: judge}, {"solver": 2})
    assert judge.calls == [2 + 8] and [len(e.turns) for e in episodes] == [2] * 2 + [4] * 8


@settings(max_examples=12, deadline=None)
@given(tables=st.integers(1, 5), ask=st.integers(1, 4), answer=st.integers(1, 4), seed=st.integers(0, 2**62))
def test_batched_is_solo(tables: int, ask: int, answer: int, seed: int) -> None:
    """A table's transcript is the same to the byte whatever the number of tables, forfeits and noise included."""
    branch = {"challenger": ask, "solver": answer}
    players = {"challenger": RandomText(30), "solver": Counting("s", 0.2), VERIFIER: Judge()}
    together = [story(e) for e in rollout([lsp.raw_env() for _ in range(tables)], players, branch, seed=seed)]
    alone = [story(e) for e in rollout([lsp.raw_env()], players, branch, seed=seed)]
    assert together[: len(alone)] == alone
    again = [story(e) for e in rollout([lsp.raw_env() for _ in range(tables)], players, branch, seed=seed)]
    assert again == together


def test_seeds_differ_between_tables_turns_and_runs() -> None:
    players = {"challenger": Counting("x"), "solver": Counting("x"), VERIFIER: Judge()}
    said: list[str] = []
    for seed in (0, 1):
        episodes = rollout([lsp.raw_env() for _ in range(3)], players, {"challenger": 3, "solver": 3}, seed=seed)
        said += {turn.action.move for e in episodes for turn in e.turns if turn.role != VERIFIER}
    assert len(set(said)) == len(said) == 2 * 3 * (3 + 9)


def test_forfeits_stop_a_branch_and_are_marked() -> None:
    players = {"challenger": Scripted([""]), "solver": Counting("s"), VERIFIER: Judge()}
    episodes = rollout([lsp.raw_env()], players, {"challenger": 3, "solver": 8})
    assert [(e.forfeit, dict(e.returns), e.verdict, e.case, len(e.turns)) for e in episodes] == [
        ("challenger", {"challenger": -1.0, "solver": 0.0}, {}, {}, 1)
    ] * 3


def test_a_role_earns_the_mean_of_its_seats() -> None:
    """Two guests, of whom the second forfeits: (0 - 1) / 2 = -0.5."""
    game = LanguageGame([{"role": "guest_0", "says": "a"}, {"role": "guest_1", "says": "b"}], {"guest": {"score": 1}})
    (episode,) = rollout([game], {"guest_0": Scripted(["x"]), "guest_1": Scripted([" "]), VERIFIER: Judge()})
    assert episode.returns == {"guest": -0.5} and episode.forfeit == "guest"


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_an_empty_seat() -> None:
    with pytest.raises(RolloutError, match="nobody sits in the seat 'solver_0': the seats taken are challenger"):
        rollout([lsp.raw_env()], {"challenger": Counting("c")})
    with pytest.raises(RolloutError, match="nobody sits in the seat 'challenger_0': the seats taken are none"):
        rollout([lsp.raw_env()], {})
    with pytest.raises(RolloutError, match="nobody sits in the seat 'verifier_0'"):
        rollout([lsp.raw_env()], {"challenger": Counting("c"), "solver": Counting("s")})


def test_an_agent_may_be_falsy() -> None:
    class Memory(list[str]):
        """A player that starts without memories, so that ``bool(player)`` is False."""

        def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
            return [Action("hello") for _ in observations]

    assert len(rollout([lsp.raw_env()], {"challenger_0": Memory(), "solver": Memory(), VERIFIER: Judge()})) == 1


def test_a_seat_goes_before_its_role() -> None:
    players = {"challenger": Scripted(["role"]), "challenger_0": Scripted(["seat"]), "solver": Scripted(["2"])}
    (episode,) = rollout([lsp.raw_env()], {**players, VERIFIER: Judge()})
    assert episode.case["query"] == "seat"


def test_a_wrong_count() -> None:
    class Mute:
        def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
            return []

    with pytest.raises(RolloutError, match="Mute gave 0 actions for 2 observations"):
        rollout([lsp.raw_env(), lsp.raw_env()], {"challenger": Mute()})


def test_a_game_that_does_not_end() -> None:
    class Endless(LanguageGame):
        def next_line(self) -> Any:
            return self.script[0]

    endless = Endless([{"role": "solver", "says": "answer"}], {"solver": {"score": 1}})
    (cut,) = rollout([endless], {"solver": Counting("s")}, max_turns=7)
    assert cut.truncated and len(cut.turns) == 7 and cut.returns == {"solver": 0.0} and not cut.verdict
    players = {"challenger": Counting("c"), "solver": Counting("s"), VERIFIER: Judge()}
    (ended,) = rollout([lsp.raw_env()], players, max_turns=2)
    assert not ended.truncated and ended.verdict  # a verdict is no turn of a player
    with pytest.raises(RolloutError, match="max_turns=0: a game that is cut before its first turn is none"):
        rollout([lsp.raw_env()], players, max_turns=0)


def test_too_many_branches_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty turns, each in two ways, are a million games."""
    monkeypatch.setattr(cohort, "MOST", 100)
    turns = [{"role": "guest", "says": f"said_{number}", "told": "Speak."} for number in range(20)]
    with pytest.raises(RolloutError, match=r"branch\.guest=2 make more than 100 games"):
        rollout([LanguageGame(turns, {"guest": {"score": 1}})], {"guest": Counting("g")}, {"guest": 2})


@pytest.mark.parametrize("ways", [0, -1])
def test_no_branch_is_refused(ways: int) -> None:
    with pytest.raises(RolloutError, match=f"branch.solver={ways}: a game has at least one branch"):
        rollout([lsp.raw_env()], {"challenger": Counting("c"), "solver": Counting("s")}, {"solver": ways})


def test_role_of() -> None:
    assert [role_of(seat) for seat in ("solver_0", "the_poet_12", "solver", "a_1_2")] == [
        "solver",
        "the_poet",
        "solver",
        "a_1",
    ]


# -- stock PettingZoo --------------------------------------------------------------------------------------------------


def play_by_hand(env: Any, agents: dict[str, Any], seed: int) -> dict[str, float]:
    """The loop of PettingZoo's own documentation: the summed reward of every seat."""
    env.reset(seed=seed)
    earned: dict[str, float] = {}
    for name in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        earned[name] = earned.get(name, 0.0) + float(reward)
        env.step(None if terminated or truncated else agents[name].act([observation], [0])[0].move)
    return earned


def test_by_hand_and_by_rollout_pay_the_same() -> None:
    players: dict[str, Any] = {"challenger_0": Scripted(["What?"]), "solver_0": Scripted(["12"]), "verifier_0": Judge()}
    by_hand = play_by_hand(lsp.env(), players, 0)
    (episode,) = rollout([lsp.env()], players)
    assert by_hand == {"challenger_0": -1.0, "solver_0": 1.0, "verifier_0": 0.0}
    assert episode.returns == {"challenger": -1.0, "solver": 1.0}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stock_environments_play_unchanged(seed: int) -> None:
    """PettingZoo's generated games: seats that come and go, moves that are numbers, rewards on the way. What a role
    earns is what the loop by hand adds up for its seats."""
    from pettingzoo.test.example_envs import generated_agents_env_action_mask_info_v0, generated_agents_env_v0

    for stock in (generated_agents_env_v0, generated_agents_env_action_mask_info_v0):
        env: Any = stock.raw_env(max_cycles=12)
        (episode,) = rollout([env], _Players(env), seed=seed)
        assert len(episode.turns) > 10 and episode.verdict == {} and episode.case == {} and episode.forfeit == ""
        assert episode.game == env.metadata["name"] and all(isinstance(turn.action.move, int) for turn in episode.turns)
        (again,) = rollout([env], _Players(env), seed=seed)
        assert [turn.action.move for turn in again.turns] == [turn.action.move for turn in episode.turns]
        assert again.returns == episode.returns

        by_hand: Any = stock.raw_env(max_cycles=12)
        earned = play_by_hand(by_hand, _Players(by_hand), derive(derive(seed, "table", 0), "reset") % 2**32)
        roles = {role: [pay for seat, pay in earned.items() if role_of(seat) == role] for role in map(role_of, earned)}
        assert episode.returns == {role: pytest.approx(sum(pays) / len(pays)) for role, pays in roles.items()}


class _Players(dict[str, Any]):
    """Whoever takes a seat plays, by one fixed seed, in the action space that the environment has for it."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env

    def __contains__(self, seat: object) -> bool:
        return True

    def __getitem__(self, seat: str) -> Any:
        return _Fixed(Sampled(self.env.action_space(seat)))


@dataclass(frozen=True)
class _Fixed:
    sampled: Sampled

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return self.sampled.act(observations, [7] * len(seeds))
