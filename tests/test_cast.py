"""A cast of personas: who sits where by name, by seed and in pairs, what each is told, the sets we ship, refusals."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from agents.scripted import Scripted
from envs import shipped
from envs.cast import Cast
from envs.game import LanguageGame
from envs.script import GameError
from selfplay.playing import open_tables
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action
from tests.test_house import CONF

SEATS = ("asker_0", "guest_0", "guest_1", "guest_2")
ABC = [{"name": name, "system": f"You are {name}."} for name in ("Ada", "Ben", "Cleo", "Dag")]


def cast(seating: str = "drawn", seats: Any = None, members: Any = None, **more: Any) -> Cast:
    return Cast({"members": members or ABC, "seating": seating, "seats": seats, **more}, SEATS)


def game(personas: dict[str, Any] | None, guests: int = 3) -> LanguageGame:
    turns = [{"role": "asker", "says": "query", "told": "Ask."}]
    turns += [{"role": f"guest_{n}", "says": f"a{n}", "told": "{transcript}"} for n in range(guests)]
    made = LanguageGame(turns, {"guest": {"score": 1}}, personas=personas)
    made.reset(seed=0)
    return made


# -- by name ---------------------------------------------------------------------------------------------------------


def test_by_name_a_seat_comes_before_its_role() -> None:
    named = cast("named", {"guest": "Ben", "guest_1": "Ada"}).seated(5, None)
    assert named == {"guest_0": "Ben", "guest_1": "Ada", "guest_2": "Ben"}, "the asker has no persona"


def test_a_persona_is_told_to_its_own_seat_alone() -> None:
    members = [{"name": "Ada", "system": "You are Ada.", "knows": "The key is 7."}, {"name": "Ben", "system": "B."}]
    made = game({"members": members, "seating": "named", "seats": {"guest_0": "Ada", "guest_1": "Ben"}})
    assert made.observe("guest_0")["system"] == "You are Ada.\n\nThe key is 7."
    assert made.observe("guest_1")["system"] == "B." and made.observe("guest_2")["system"] == ""
    assert made.infos["guest_0"]["persona"] == "Ada" and "persona" not in made.infos["guest_2"]
    for move in ("What?", "seven", "eight"):
        made.step(move)
    assert made.observe("guest_2")["user"] == "Asker: What?\nAda: seven\nBen: eight"
    assert "key is 7" not in str([made.observe(seat) for seat in SEATS if seat != "guest_0"])


def test_texts_by_role_are_no_cast() -> None:
    made = game({"guest": "You are a guest.", "guest_1": "You are late."})
    assert made.cast is None and made.name_of("guest_1") == "Guest 2" and made.name_of("asker_0") == "Asker"
    assert [made.personas[seat] for seat in SEATS] == ["", *("You are a guest.", "You are late.", "You are a guest.")]


# -- by seed ---------------------------------------------------------------------------------------------------------


def test_by_seed_nobody_sits_twice_and_everybody_sits_everywhere() -> None:
    drawn = cast("drawn", ["guest"])
    tables = [drawn.seated(seed, None) for seed in range(400)]
    assert tables == [drawn.seated(seed, 3) for seed in range(400)], "the seed alone"
    assert all(list(table) == list(SEATS[1:]) and len(set(table.values())) == 3 for table in tables)
    counts = Counter((seat, name) for table in tables for seat, name in table.items())
    assert len(counts) == 12 and all(60 < count < 140 for count in counts.values()), "100 each on average"


def test_forks_of_a_game_keep_their_personas_and_other_games_have_their_own() -> None:
    made = game({"members": ABC, "seating": "drawn"})
    players: dict[str, Any] = {"asker": Scripted(["?"]), "guest": Scripted(["x", "y"]), VERIFIER: One()}
    episodes = rollout([made, game({"members": ABC, "seating": "drawn"})], players, {"guest": 2}, seed=8)
    assert [episode.personas for episode in episodes[:8]] == [episodes[0].personas] * 8
    assert len({str(episode.personas) for episode in episodes}) == 2
    for episode in episodes:
        told = {turn.seat: turn.observation["system"] for turn in episode.turns if turn.role != VERIFIER}
        assert told == {seat: f"You are {name}." for seat, name in episode.personas.items()}


class One:
    """Scores everything 1."""

    def act(self, observations: Any, seeds: Any) -> list[Action]:
        return [Action({"score": 1.0})] * len(observations)


def test_a_persona_has_a_player_of_its_own() -> None:
    """By seat before persona before role."""
    players: dict[str, Any] = {"asker": Scripted(["?"]), "guest": Scripted(["role"]), VERIFIER: One()}
    players |= {"Ada": Scripted(["Ada"]), "guest_2": Scripted(["seat"])}
    for seed in range(20):
        (episode,) = rollout([game({"members": ABC, "seating": "drawn"})], players, seed=seed)
        said = {turn.seat: turn.action.move for turn in episode.turns if turn.role == "guest"}
        expected = {seat: "Ada" if episode.personas[seat] == "Ada" else "role" for seat in SEATS[1:3]}
        assert said == {**expected, "guest_2": "seat"}


# -- in pairs --------------------------------------------------------------------------------------------------------


def test_all_ordered_pairs_one_table_after_the_other() -> None:
    pairs = cast("pairs", ["guest_0", "guest_2"])
    met = [tuple(pairs.seated(9, table).values()) for table in range(24)]
    assert met[:12] == met[12:] and set(met) == set(permutations(("Ada", "Ben", "Cleo", "Dag"), 2))
    assert list(pairs.seated(9, 0)) == ["guest_0", "guest_2"]
    assert len({str(pairs.seated(seed, None)) for seed in range(200)}) == 12, "without a table, by the seed"


def test_few_tables_leave_no_pair_out_for_good() -> None:
    """Five tables a rollout and twelve pairs: every rollout has five others, and in time all."""
    made = game({"members": ABC, "seating": "pairs", "seats": ["guest_0", "guest_2"]})
    met = [[tuple(table.personas.values()) for table in open_tables([made] * 5, seed)] for seed in range(40)]
    assert all(len({*pairs}) == 5 for pairs in met) and len({pair for pairs in met for pair in pairs}) == 12


# -- the sets we ship ------------------------------------------------------------------------------------------------

SHIPPED = {file.stem: file for file in sorted((CONF / "personas").glob("*.yaml"))}
PLAYED_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "sixteen": ("roundtable", {"guests": 16}),
    "rivals": ("lsp", {}),
    "critics": ("lsp", {}),
    "village": ("werewolf", {"seats": 8}),
    "council": ("roundtable", {}),
}
"""A set of personas and a game that it was made for."""


@pytest.mark.parametrize("wording", ["full", "short"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_sits_down(name: str, wording: str) -> None:
    node = OmegaConf.create({"wording": wording, **yaml.safe_load(SHIPPED[name].read_text(encoding="utf-8"))})
    personas: Any = OmegaConf.to_container(node.personas, resolve=True)
    played, options = PLAYED_IN[name]
    made = shipped.raw(played, wording=wording, personas=personas, **options)
    made.reset(seed=1, options={"table": 0})
    seated = {seat: str(info["persona"]) for seat, info in made.infos.items() if "persona" in info}
    assert len(seated) == len(set(seated.values())) >= 2
    texts = [made.observe(seat)["system"] for seat in seated]
    assert all(texts) == (wording == "full" or name != "sixteen") and (len(set(texts)) > 1 or not any(texts))
    assert SHIPPED[name].read_text(encoding="utf-8").startswith("# @package _global_\n# ")


def test_sets_have_from_2_to_16_members() -> None:
    sizes = {name: len(yaml.safe_load(file.read_text())["personas"]["members"]) for name, file in SHIPPED.items()}
    assert min(sizes.values()) == 2 and max(sizes.values()) == 16 and SHIPPED.keys() == PLAYED_IN.keys()


# -- refusals --------------------------------------------------------------------------------------------------------

TWICE = [*ABC, {"name": "Ada", "system": "again"}]
MANY = [{"name": f"N{n}", "system": ""} for n in range(17)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"members": TWICE}, "personas.members has 'Ada' twice"),
        ({"members": MANY}, "personas.members must be a list of 1 to 16 personas"),
        ({"members": "Ada"}, "personas.members must be a list of 1 to 16 personas"),
        ({"members": ["Ada"]}, r"personas.members\[0\]='Ada' is not a mapping of name and system"),
        (
            {"members": [{"namee": "Ada"}]},
            r"personas.members\[0\] has an unknown key 'namee' \(did you mean 'name'\?\)",
        ),
        ({"members": [{"name": " "}]}, r"personas.members\[0\] needs a name of one line"),
        ({"members": [{"name": "A\nGame: B"}]}, r"personas.members\[0\] needs a name of one line"),
        ({"members": [{"name": "A\u2028Game: B"}]}, r"personas.members\[0\] needs a name of one line"),
        ({"members": [{"name": "A", "system": 3}]}, r"personas.members\[0\] needs .*texts for system and knows"),
        ({"members": [{"name": "guest"}]}, "personas.members: 'guest' is a role of this game"),
        ({"members": [{"name": "guest_1"}]}, "personas.members: 'guest_1' is a role of this game"),
        ({"seating": "drwan"}, r"personas.seating='drwan' is unknown \(did you mean 'drawn'\?\): named, drawn, pairs"),
        ({"seatign": "drawn"}, r"personas has an unknown key 'seatign' \(did you mean 'seating'\?\)"),
        ({"seating": "named"}, "personas.seating=named needs personas.seats"),
        ({"seating": "named", "seats": ["guest"]}, "personas.seating=named needs personas.seats"),
        ({"seating": "named", "seats": {"gest": "Ada"}}, r"seats names 'gest', who never .*\(did you mean 'guest'\?\)"),
        ({"seating": "named", "seats": {"guest": "Adda"}}, r"guest='Adda' is no persona \(did you mean 'Ada'\?\)"),
        ({"seats": {"guest": "Ada"}}, "with seating=drawn it is a list of roles or seats"),
        ({"seats": ["gest"]}, r"personas.seats names 'gest', who never speaks \(did you mean 'guest'\?\)"),
        ({"members": ABC[:2]}, "personas has 2 members for 4 seats, and nobody sits twice"),
        ({"seating": "pairs"}, "pairs needs two seats and two personas or more, not 4 and 4"),
        ({"seating": "pairs", "seats": ["guest_0", "guest_1"], "members": ABC[:1]}, "not 2 and 1"),
    ],
)
def test_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        cast(**changes)
