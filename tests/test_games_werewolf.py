"""Werewolf: what the seed deals, who hears what, nights and votes worked by hand, who is paid, and no secret leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.random_legal import RandomLegal
from agents.scripted import RandomText
from agents.townsfolk import Townsfolk
from envs import werewolf
from envs.script import GameError
from envs.werewolf import Werewolf
from selfplay.rollout import rollout
from selfplay.table import copies
from selfplay.testing import check_agent, check_game
from selfplay.types import Episode
from tests.test_house import ROOT
from tests.villages import SEATS, all_against, make, name, night, talk, vote, who

# -- what is dealt ---------------------------------------------------------------------------------------------------


def test_the_seed_deals_the_roles() -> None:
    game, deals = make(), set[tuple[str, ...]]()
    for seed in range(30):
        game.reset(seed=seed)
        deals.add(tuple(game.dealt[seat] for seat in SEATS))
    assert all(sorted(deal) == ["seer", *["villager"] * 4, "wolf", "wolf"] for deal in deals)
    assert len(deals) > 10 and make(3).dealt == make(3).dealt
    assert sorted(make(seats=5, wolves=1).dealt.values()) == ["seer", "villager", "villager", "villager", "wolf"]


def test_players_are_seated_by_their_dealt_roles() -> None:
    assert make().roles == ("wolf", "seer", "villager"), "seats.player and branch.player would reach nobody"


def test_everybody_is_told_its_own_role_and_wolves_know_one_another() -> None:
    game = make()
    pack = ", ".join(map(name, who(game, "wolf")))
    for seat in SEATS:
        role = game.dealt[seat]
        assert game.infos[seat]["role"] == role
        told = {"wolf": f"a werewolf. The werewolves: {pack}.", "seer": "the seer.", "villager": "a villager."}[role]
        assert game.heard.by(seat, role) == f"You are {name(seat)}, {told}"


# -- night and day ---------------------------------------------------------------------------------------------------


def test_the_last_word_of_the_wolves_counts() -> None:
    game = make()
    (first, second), (seer,), (victim, other, *_) = (who(game, role) for role in ("wolf", "seer", "villager"))
    assert game.waiting == (first,)
    assert game.infos[first]["legal_actions"] == [name(seat) for seat in SEATS if game.dealt[seat] != "wolf"]
    game.step(name(other))
    assert set(game.waiting) == {second, seer}, "the last wolf and the seer at once"
    assert f"{name(first)}: {name(other)}" in game.observe(second)["user"]
    assert name(other) not in game.observe(seer)["user"]
    assert game.infos[seer]["legal_actions"] == [name(seat) for seat in SEATS if seat != seer]
    game.step(f"Rather {name(victim)}.")
    game.step(f"I look at {name(first)}!")
    assert game.living == [seat for seat in SEATS if seat != victim] == list(game.waiting)
    for seat in game.living:
        told = game.observe(seat)["user"]
        assert f"{name(victim)} was killed, and was: villager." in told
        assert ("You have looked at" in told) == (seat == seer)
    assert f"You have looked at {name(first)}: a werewolf." in game.observe(seer)["user"]
    assert game.infos[seer]["state"] == f"seer\nwolf {name(first)}"
    assert game.infos[second]["state"] == f"wolf\nwolf {name(first)}\nwolf {name(second)}"


def test_who_is_dead_speaks_no_more_and_cannot_be_named() -> None:
    game = make()
    victim, seer = who(game, "villager")[0], who(game, "seer")[0]
    night(game, victim, victim)
    assert f"You have looked at {name(victim)}: not a werewolf." in game.observe(seer)["user"]
    talk(game)
    assert victim not in game.waiting and game.observe(victim)["user"] == ""
    assert all(name(victim) not in game.infos[seat]["legal_actions"] for seat in game.waiting)
    game.step(name(victim))
    assert game.infos[game.possible_agents[int(victim == SEATS[0])]]["forfeit"] and not game.waiting[1:]


def test_by_day_all_talk_at_once_or_in_turn() -> None:
    for in_turn in (False, True):
        game = make(in_turn=in_turn)
        night(game, who(game, "villager")[0], who(game, "wolf")[0])
        first, second = game.living[:2]
        assert game.waiting == ((first,) if in_turn else tuple(game.living))
        game.step("I slept badly.")
        assert ("I slept badly." in game.observe(second)["user"]) == in_turn
        for _ in range(5):
            game.step("So did I.")
        assert f"{name(first)}: I slept badly." in game.observe(second)["user"], "heard before the vote"


def test_votes_are_secret_and_most_of_them_put_out() -> None:
    game = make()
    wolf = who(game, "wolf")[0]
    night(game, who(game, "villager")[0], wolf)
    talk(game)
    before = {seat: game.heard.by(seat, game.role_in(seat)) for seat in SEATS}
    ballots = all_against(game, wolf)
    voters = list(game.living)
    vote(game, *ballots)
    assert wolf not in game.living and len(game.living) == 5
    for seat, ballot in zip(voters, ballots, strict=True):
        news = game.heard.by(seat, game.role_in(seat)).removeprefix(before[seat]).strip().split("\n")
        assert news == [f"{name(seat)}: {name(ballot)}", f"The votes are counted. {name(wolf)} is out, and was: wolf."]


def test_a_tie_puts_nobody_out() -> None:
    game = make()
    night(game, who(game, "villager")[0], who(game, "wolf")[0])
    talk(game)
    a, b, c, *_ = game.living
    vote(game, b, a, a, b, c, c)
    assert len(game.living) == 6 and "a tie" in game.heard.by(a, game.role_in(a))


def test_a_sentence_names_the_last_living_one_in_it() -> None:
    game = make()
    wolf, other = who(game, "wolf")
    a, b = who(game, "villager")[:2]
    game.step(f"Not {name(a)} and never {name(other)}.\nI take {name(b).upper()}, {name(wolf)} and I.")
    assert game.case[f"victim_{wolf[-1]}"] == name(b)
    game.step(f"{name(b)}0")
    assert game.infos[other]["forfeit"], "Player 30 is nobody"


# -- who wins --------------------------------------------------------------------------------------------------------


def play(game: Werewolf, nights: Sequence[str], days: Sequence[str | None]) -> dict[str, float]:
    """Nights with victims by role, then days by the role that is put out (None: a tie); what every seat earned."""
    for victim, out in zip(nights, [*days, "end"], strict=True):
        night(game, who(game, victim)[0], who(game, "wolf")[0])
        if out == "end":
            break
        talk(game)
        living = list(game.living)
        ballots = [living[n - 1] for n in range(len(living))] if out is None else all_against(game, who(game, out)[0])
        vote(game, *ballots)
    return {seat: game.rewards[seat] for seat in SEATS}


def test_the_town_wins_when_no_wolf_lives() -> None:
    game = make(lose=-0.5)
    night(game, who(game, "villager")[0], who(game, "wolf")[0])
    for last in (False, True):
        talk(game)
        vote(game, *all_against(game, who(game, "wolf")[0]))
        if not last:
            night(game, who(game, "villager")[0], who(game, "wolf")[0])
    assert {seat: game.rewards[seat] for seat in SEATS} == {
        seat: -0.5 if game.dealt[seat] == "wolf" else 1.0 for seat in SEATS
    }, "the dead of the town have won, too"
    assert not any(game.terminations[seat] is False for seat in SEATS)


def test_the_wolves_win_when_they_are_as_many_as_the_others() -> None:
    """Seven seats: a night, a day, a night leave 4, of whom 2 are wolves."""
    game = make()
    earned = play(game, ["villager", "seer"], ["villager"])
    assert earned == {seat: 1.0 if game.dealt[seat] == "wolf" else -1.0 for seat in SEATS}


def test_after_the_last_day_nobody_has_won() -> None:
    game = make(days=1)
    night(game, who(game, "villager")[0], who(game, "wolf")[0])
    talk(game)
    a, b, c, *_ = game.living
    vote(game, b, a, a, b, c, c)
    assert all(game.terminations.values()) and set(game.rewards.values()) == {0.0}


def test_a_payoff_may_name_the_teams() -> None:
    game = make(payoff={"town": {"score": 2.0}, "wolf": {"score": 3.0}})
    assert game.parts == ("score",)
    play(game, ["villager", "seer"], ["villager"])
    assert game.agent_selection == "verifier_0"
    game.step({"score": 1.0})
    assert {game.dealt[seat]: game.rewards[seat] for seat in SEATS} == {"seer": 2.0, "villager": 2.0, "wolf": 3.0}


# -- opponents, noise, refusals --------------------------------------------------------------------------------------


def games(players: dict[str, Any], number: int = 200) -> list[Episode]:
    return rollout(copies(make(), number), players, seed=1)


def test_roles_are_those_that_were_dealt() -> None:
    for episode in games({"wolf": RandomLegal(), "seer": RandomLegal(), "villager": RandomLegal()}, 20):
        assert set(episode.returns) == {"wolf", "seer", "villager"} and not episode.forfeit
        assert episode.returns["seer"] == episode.returns["villager"] == -episode.returns["wolf"]
        assert {turn.role for turn in episode.turns} <= {"wolf", "seer", "villager"}


def test_a_town_that_listens_wins_more_often() -> None:
    def wins(town: Any) -> float:
        played = games({"wolf": RandomLegal(), "seer": town, "villager": town})
        return sum(episode.returns["seer"] > 0 for episode in played) / len(played)

    assert wins(Townsfolk()) > 2 * wins(RandomLegal())
    check_agent(Townsfolk())


def test_wolves_kill_who_claims_to_be_the_seer() -> None:
    told = {"system": "", "user": "Player 2: I am the seer, and Player 3 is a werewolf."}
    info = {"state": "wolf\nwolf Player 3\nwolf Player 4", "legal_actions": ["Player 1", "Player 2"]}
    moves = Townsfolk().choose([told] * 9, range(9), [info] * 9)
    assert {action.move for action in moves} == {"Player 2"}
    villager = {"state": "villager", "legal_actions": ["Player 1", "Player 3"]}
    assert Townsfolk().choose([told], [0], [villager])[0].move == "Player 3"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wording", ["full", "short"])
def test_pettingzoo_accepts_it(wording: str) -> None:
    check_game(lambda: werewolf.raw_env(wording=wording), games=20)
    check_game(lambda: werewolf.env(seats=5, wolves=1, in_turn=True, wording=wording), games=5)


def test_noise_never_breaks_it() -> None:
    noise = RandomText(60)
    assert {episode.forfeit for episode in games({"wolf": noise, "seer": noise, "villager": noise})} == {"wolf"}
    mixed = games({"wolf": RandomLegal(), "seer": noise, "villager": noise})
    assert all(episode.forfeit or episode.returns["wolf"] for episode in mixed)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seats": 4}, "seats=4 wolves=2 days=5: it takes 5 to 8 seats, fewer wolves than others, and a day"),
        ({"seats": 9}, "seats=9"),
        ({"wolves": 0}, "wolves=0"),
        ({"seats": 6, "wolves": 3}, "fewer wolves than others"),
        ({"days": 0}, "days=0"),
        ({"turns": [{"role": "player", "says": "x"}]}, "werewolf has four turns of the role 'player'"),
        ({"news": {"wolf": "x"}}, "news.seer is missing: what is said then?"),
        ({"news": {"woolf": "x"}}, r"news.woolf is unknown \(did you mean 'wolf'\?\)"),
        ({"payoff": {"tonw": {"score": 1}}}, r"payoff names 'tonw', who never speaks \(did you mean 'town'\?\)"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        make(**changes)


def test_news_have_their_own_fields() -> None:
    news = {**dict.fromkeys(("wolf", "seer", "villager", "is_wolf", "no_wolf", "killed", "out", "tie"), "x")}
    with pytest.raises(GameError, match=r"news.villager has the field \{wolves\}: there is name"):
        make(news={**news, "villager": "The wolves: {wolves}"})
    with pytest.raises(GameError, match=r"news.tie has the field \{name\}: there is none"):
        make(news={**news, "tie": "{name}"})


def test_the_embedded_model_plays_it(tmp_path: Path) -> None:
    """By legal moves alone: no forfeit, and every dealt role has its own metrics."""
    words = ["env=werewolf", "personas=village", "agent.moves=choose", "steps=2", "games=3", "exam.path=null"]
    words += ["learner.credit=rae_ema", "learner.kl=none", "runtime.threads=1", "runtime.tensorboard=false"]
    command = [sys.executable, "main.py", *words, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {f"reward/{role}" for role in ("wolf", "seer", "villager")} <= steps[1].keys()
