"""A round robin: who meets whom, who plays by what, which games are told, and whole ones from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from envs.game import LanguageGame
from selfplay.entrants import Entrant, short_names
from selfplay.matches import Match
from selfplay.rating import Rating
from selfplay.record import Stopwatch
from selfplay.seating import number_of_games, seatings
from selfplay.tales import most_telling, tell, write_tales
from selfplay.tournament import Tournament
from selfplay.types import VERIFIER, Action, Chat, Episode, Turn
from verifiers.panel import Panel

ROOT = Path(__file__).resolve().parent.parent
TURNS = [
    {"role": "dealer", "says": "query"},
    {"role": "one", "says": "one", "told": "{query}"},
    {"role": "other", "says": "answer", "told": "{query}{one}"},
]
PAYOFF = {"one": {"score": 1.0}, "other": {"score": -1.0}}


@dataclass(frozen=True)
class Says:
    """Says its words, and what its seed draws; remembers the sizes of its calls and what it was told."""

    words: str
    calls: Any

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        self.calls.append([dict(chat) for chat in observations])
        return [Action(f"{self.words} {seed % 97}") for seed in seeds]


def longer(cases: Sequence[Any]) -> list[float]:
    """1 where the first has said more, -1 where the other has."""
    return [
        float((len(case["one"]) > len(case["answer"])) - (len(case["one"]) < len(case["answer"]))) for case in cases
    ]


def small(entrants: Sequence[Entrant], games: int = 3, game: Any = None, dealer: Any = None) -> Tournament:
    env = {"_target_": "envs.game.LanguageGame", "turns": TURNS, "payoff": PAYOFF}
    cfg = OmegaConf.create({"env": env, "allow": [], "max_turns": 100})
    others = {"dealer": dealer or Says("q", []), VERIFIER: Panel(score=longer)}
    game = game or LanguageGame(TURNS, PAYOFF)
    return Tournament(cfg, game, ["one_0", "other_0"], entrants, others, games, 7)


def play(tournament: Tournament) -> list[Episode]:
    told: list[int] = []
    episodes = tournament.play(Stopwatch(), told.append)
    assert told == sorted(told) and told[-1] == len(episodes) == tournament.total
    return episodes


# -- who meets whom ----------------------------------------------------------------------------------------------------


def test_at_two_seats_every_ordered_pair_meets() -> None:
    found = list(seatings(["Ada", "Bob", "Cyd"], ["x_0", "o_0"], 4, seed=1))
    assert len(found) == number_of_games(3, 2, 4) == 24
    met = Counter((seated["x_0"], seated["o_0"]) for _, seated in found)
    assert set(met.values()) == {4} and len(met) == 6
    assert Counter(deal for deal, _ in found) == dict.fromkeys(range(4), 6)


@pytest.mark.parametrize("entrants", [2, 3, 7])
def test_at_more_seats_everybody_sits_everywhere_as_often(entrants: int) -> None:
    names, seats = [f"p{n}" for n in range(entrants)], ["a_0", "a_1", "b_0"]
    found = list(seatings(names, seats, 5, seed=1))
    assert len(found) == number_of_games(entrants, 3, 5)
    for seat in seats:
        assert Counter(seated[seat] for _, seated in found) == dict.fromkeys(names, 5)
    assert found == list(seatings(names, seats, 5, seed=1))
    if entrants > 3:
        assert found != list(seatings(names, seats, 5, seed=2))
        assert all(len(set(seated.values())) == 3 for _, seated in found)


def test_checkpoints_have_short_names() -> None:
    assert short_names(["runs/a/checkpoints/100", "runs/a/checkpoints/200"]) == ["step 100", "step 200"]
    assert short_names(["runs/a/checkpoints/100", "runs/b/checkpoints/100"]) == ["a step 100", "b step 100"]
    assert short_names(["models/tiny"]) == ["tiny"]


# -- who plays ---------------------------------------------------------------------------------------------------------


def test_everybody_plays_their_own_seats_in_one_batch() -> None:
    """Six pairings of three games; Bob and Cyd play by one agent, and share its calls."""
    alone, shared, dealt = [], [], []
    ada, pair = Says("Ada", alone), Says("two", shared)
    entrants = [Entrant("Ada", ada), Entrant("Bob", pair), Entrant("Cyd", pair)]
    episodes = play(small(entrants, dealer=Says("q", dealt)))
    for episode in episodes:
        said = {turn.seat: turn.action.move.split()[0] for turn in episode.turns if turn.role in ("one", "other")}
        assert said == {seat: "Ada" if name == "Ada" else "two" for seat, name in episode.personas.items()}
    assert [len(call) for call in dealt] == [18], "one call for all tables"
    assert [len(call) for call in alone] == [6, 6] and [len(call) for call in shared] == [12, 12]


def test_games_of_one_deal_begin_alike() -> None:
    """The dealer says the same whoever plays, and something else in another deal."""
    episodes = play(small([Entrant("Ada", Says("a", [])), Entrant("Bob", Says("b", []))]))
    dealt = [episode.case["query"] for episode in episodes]
    assert dealt[:3] == dealt[3:] and len(set(dealt)) == 3


def test_equal_players_come_out_equal() -> None:
    tournament = small([Entrant("Ada", Says("a", [])), Entrant("Bob", Says("a", []))], games=20)
    matches = [match for match in tournament.results(play(tournament)) if match is not None]
    won = Counter(one if r else other for match in matches for one, other, r in match.results() if r != 0.5)
    assert won["Ada"] == won["Bob"] > 0


def test_a_persona_is_told_who_it_is_and_nobody_else() -> None:
    told: list[Any] = []
    agent, other = Says("x", told), Says("y", [])
    members = {
        name: {"name": name, "system": f"I am {name}.", "knows": f"Secret of {name}."} for name in ("Ada", "Bob")
    }
    entrants = [Entrant(name, agent, member) for name, member in members.items()] + [Entrant("plain", other)]
    episodes = play(small(entrants, games=1))
    assert len(episodes) == 6
    for episode in episodes:
        for turn in episode.turns:
            name = episode.personas.get(turn.seat)
            if turn.role != VERIFIER:
                expected = f"I am {name}.\n\nSecret of {name}." if name in members else ""
                assert turn.observation["system"] == expected
                assert "Secret" not in turn.observation["user"]


# -- which games are told ----------------------------------------------------------------------------------------------


def ended(seats: dict[str, float], personas: dict[str, str], turns: int = 2) -> Episode:
    said = tuple(Turn("one", "one_0", {}, Action(f"word {n}"), 0) for n in range(turns))
    return Episode(said, {}, {}, {"score": 1.0}, seats=seats, personas=personas)


def test_the_most_telling_games(tmp_path: Path) -> None:
    """Cyd beats Ada, 20 above, and Bob, 10 above: the first is the upset. Of two forfeits that of the best is told."""
    ratings = {"Ada": Rating(40.0), "Bob": Rating(30.0), "Cyd": Rating(20.0)}
    names = {"one_0": "Cyd", "other_0": "Ada"}

    def against(name: str, mine: float, forfeiter: str = "") -> Match:
        return Match((("Cyd",), (name,)), (mine, 0.0), forfeiter)

    games = [
        (ended({"one_0": 1.0, "other_0": 0.0}, {**names, "other_0": "Bob"}), against("Bob", 1.0)),
        (ended({"one_0": 1.0, "other_0": 0.0}, names), against("Ada", 1.0)),
        (ended({"one_0": -1.0, "other_0": 0.0}, names), against("Ada", -1.0, "Cyd")),
        (ended({"one_0": 0.0, "other_0": -1.0}, names), against("Ada", 1.0, "Ada")),
        (ended({"one_0": 0.0, "other_0": 0.0}, names, turns=9), None),
    ]
    tales = most_telling(games, ratings)
    assert [tale.title for tale in tales] == [
        "An upset: Cyd beats Ada, who is rated 20.0 higher",
        "A forfeit: Ada broke the rules",
        "The longest game: 9 turns",
    ]
    assert [tale.episode for tale in tales] == [games[1][0], games[3][0], games[4][0]]
    assert tell(games[1][0]) == [
        "Cyd as one_0, Ada as other_0",
        "Cyd: word 0",
        "Cyd: word 1",
        "verdict: score 1",
        "paid: Cyd +1  Ada +0",
    ]
    nasty = ended({"one_0": 0.0}, {"one_0": "Cyd"}, turns=0)
    nasty.turns = (Turn("one", "one_0", {}, Action("# title\n\ud83d"), 0),)
    written = write_tales(most_telling([(nasty, None)], ratings), tmp_path).read_text(encoding="utf-8")
    assert "    Cyd: # title\n      \\ud83d\n" in written, "words are indented text"
    assert most_telling([], ratings) == []


# -- from the command line ---------------------------------------------------------------------------------------------


def run(*commands: Sequence[str]) -> tuple[list[int], str, str]:
    """Exit codes, output and errors of commands that share a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.run_commands"],
        cwd=ROOT,
        input=json.dumps([["mode=tournament", *words] for words in commands]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout, done.stderr


def test_a_tournament_of_players(tmp_path: Path) -> None:
    """The perfect player loses to nobody, a shallow one beats chance; the same seed gives the same bytes."""
    players = (
        "tournament.players={best: minimax, shallow: {_target_: agents.minimax.Minimax, depth: 2}, dice: random_legal}"
    )
    words = ["env=tictactoe", players, "tournament.games=6", "seed=3"]
    codes, shown, _ = run([*words, f"run_dir={tmp_path}/a"], [*words, f"run_dir={tmp_path}/b"])
    assert codes == [0, 0] and shown.count("3 entrants, 36 games") == 2
    told = json.loads((tmp_path / "a" / "standings.json").read_text(encoding="ascii"))
    places = {place["name"]: place for place in told["places"]}
    assert list(places) == ["best", "shallow", "dice"] and places["best"]["lost"] == 0
    assert places["best"]["interval"][0] > places["dice"]["rating"]
    assert told["games"]["best"] == {"shallow": 12, "dice": 12}
    metrics = json.loads((tmp_path / "a" / "metrics.jsonl").read_text(encoding="ascii"))
    assert metrics["episodes"] == 36 and metrics["rating/best"] == places["best"]["rating"]
    assert set(places["best"]["reward"]) == {"x", "o"} and metrics["reward/x/best"] == places["best"]["reward"]["x"]
    for name in ("standings.json", "metrics.jsonl", "episodes.jsonl", "transcripts.md", "standings.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_tournament_of_checkpoints_and_personas(tmp_path: Path) -> None:
    """A judged game in which both seats are paid: a checkpoint, the model of the run, and two personas of it."""
    cast = "++env.personas={members: [{name: Ada, system: A}, {name: Bob, system: B, sampling: {temperature: 0.5}}]}"
    members = ["env=lsp", "verifier=length", "tournament.games=2", cast]
    players = ["tournament.players=[llm]", f"tournament.checkpoints=[{ROOT / 'models' / 'tiny'}]"]
    codes, shown, errors = run([*members, *players, f"run_dir={tmp_path}/a"])
    assert codes == [0] and "4 entrants, 24 games" in shown, errors
    told = json.loads((tmp_path / "a" / "standings.json").read_text(encoding="ascii"))
    assert {place["name"] for place in told["places"]} == {"llm", "tiny", "Ada", "Bob"}
    assert told["wins"]["llm"]["tiny"] == told["wins"]["tiny"]["llm"], "one model, and the same deals"
    rows = [json.loads(line) for line in (tmp_path / "a" / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and set(rows[0]["personas"]) == {"challenger_0", "solver_0"}


WRONG = {
    "tournament.players=[minimax]": "a tournament needs two entrants, and 'minimax' alone has entered",
    "tournament.players=[]": "and nobody has entered",
    "tournament.players=[minmax,random_legal]": "there is no agent 'minmax' (did you mean minimax?)",
    "tournament.players=[llm,llm]": "tournament.players has 'llm' twice",
    "tournament.players=3": "tournament.players=3 is neither a list of agents nor",
    "tournament.players={x: llm, b: llm}": "tournament.players.x has the name of a role of this game",
    "tournament.players={verifier: llm, b: llm}": "tournament.players.verifier has the name of a role of this game",
    "tournament.players={a: {checkpoint: docs}, b: llm}": "tournament.players.a: docs is not a checkpoint",
    "tournament.players={a: {checkpoint: models/tiny, temperatures: 2}, b: llm}": "(did you mean temperature?)",
    "tournament.players={a: {checkpiont: x}, b: llm}": "tournament.players.a says neither _target_ nor checkpoint",
    "tournament.checkpoints=[docs]": "tournament.checkpoints: docs is not a checkpoint, for it holds no weights",
    "tournament.checkpoints=docs": "tournament.checkpoints='docs' is not a list of folders",
    "tournament.games=0": "tournament.games=0: everybody plays at least one game",
    "tournament.seats=[y]": "tournament.seats names 'y', who is not paid",
    "tournament.seats=[x]": "only x_0 competes: name more of them in tournament.seats",
    "+tournament.gmaes=3": "tournament.gmaes is unknown (did you mean games?)",
    "resume=somewhere": "a tournament is not resumed",
}


def test_wrong_words_are_told_in_a_sentence(tmp_path: Path) -> None:
    where = f"run_dir={tmp_path}/x"
    codes, _, errors = run(
        *(["env=tictactoe", word, where] for word in WRONG), ["env=code", "tournament.players=[llm,human]", where]
    )
    told = [line for line in errors.splitlines() if line.startswith("sparring: ")]
    assert codes == [2] * (len(WRONG) + 1) and not (tmp_path / "x").exists()
    for line, expected in zip(told, [*WRONG.values(), "two seats that are paid, and here only solver_0"], strict=True):
        assert expected in line


def test_a_run_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    """Its newest checkpoint is named."""
    from selfplay.compose import ConfigError
    from selfplay.entrants import find_entrants

    for step in (9, 10):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    cfg = OmegaConf.create(
        {
            "tournament": {"players": None, "checkpoints": [str(tmp_path)]},
            "model": {"_target_": "models.load"},
            "agent": {"_target_": "agents.llm.LLM", "engine": "${model}"},
            "env": {},
        }
    )
    with pytest.raises(ConfigError, match=r"did you mean .*checkpoints/10\?"):
        find_entrants(cfg, SimpleNamespace(roles=(), possible_agents=[]))
