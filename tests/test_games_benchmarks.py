"""Self-play that is looked at: the chances that a benchmark reads are those by which the model picks, and its runs are
those of main.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import kuhn, tictactoe
from benchmarks.games import chances, learn
from benchmarks.runs import LEAN, checkpoint, command
from envs import shipped
from models import load
from selfplay.exploitability import STATES, exploitability
from selfplay.table import Table
from tests.helpers import chat, shared_engine


def test_chances_are_those_of_the_choice() -> None:
    """Of 2,000 choices among moves of one, two and five letters each comes as often as it is said to, within 0.04."""
    engine, moves = shared_engine(), ["b", "bb", "check", "call"]
    told = chat("Q")
    (found,) = chances(engine, [told], [moves])
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    chosen = engine.choose([told] * 2000, [moves] * 2000, temperature=1.0, seeds=range(2000))
    texts = [completion.text for completion in chosen]
    for move in moves:
        assert texts.count(move) / 2000 == pytest.approx(found[move], abs=0.04)


def test_each_row_has_moves_of_its_own() -> None:
    told, legal = [chat("J"), chat("K"), chat("J")], [["c", "b"], ["f"], ["b", "k"]]
    found = chances(shared_engine(), told, legal)
    assert [list(row) for row in found] == legal and found[1] == {"f": pytest.approx(1)}
    assert found[0] == pytest.approx(chances(shared_engine(), told[:1], legal[:1])[0], abs=1e-5)


@pytest.mark.parametrize("wording", ["full", "short"])
def test_every_state_is_asked_for(wording: str) -> None:
    game = shipped.raw("kuhn_poker", wording=wording)
    asked = kuhn.questions(game)
    assert tuple(asked) == STATES and len({told["user"] for told, _ in asked.values()}) == 12
    words = ["check", "bet", "fold", "call"] if wording == "full" else ["c", "b", "f", "k"]
    assert [asked[state][1] for state in ("K", "Kb")] == [words[:2], words[2:]]
    assert kuhn.policy(shared_engine(), asked).keys() == set(STATES)


@pytest.mark.slow
def test_kuhn(tmp_path: Path) -> None:
    kuhn.main(["--seeds", "0", "--jobs", "1", "--steps", "4", "--set", "games=16", "--json", str(tmp_path / "x.json")])
    (row,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert row["steps"] == 4 and len(row["curve"]) == 1 and row["start"] != row["last"]
    assert row["average"] == pytest.approx(exploitability(row["policy"])) == pytest.approx(row["nash_conv"] / 2)


@pytest.mark.slow
def test_a_run_is_that_of_main(tmp_path: Path) -> None:
    words, found = ["experiment=kuhn_poker", "seed=5", "steps=2", "games=16"], list[dict[str, dict[str, float]]]()

    def look(step: int, table: Table, last: bool, seconds: float) -> None:
        found.append(kuhn.policy(table.engine, kuhn.questions(table.game)))

    learn(words, look)
    command(*words, f"run_dir={tmp_path / 'run'}", *LEAN)
    kept = load(str(checkpoint(tmp_path / "run")), dtype="float32", device="cpu")
    again = kuhn.policy(kept, kuhn.questions(shipped.raw("kuhn_poker", wording="short")))
    assert found[0] != found[1] != found[2]
    assert again == {state: pytest.approx(chances, abs=1e-6) for state, chances in found[2].items()}


@pytest.mark.slow
def test_tictactoe(tmp_path: Path) -> None:
    words = ["--steps", "2", "--every", "2", "--games", "6", "--set", "games=8", "--json", str(tmp_path / "x.json")]
    tictactoe.main(["--seeds", "0", "--jobs", "1", *words])
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [row["step"] for row in rows] == [0, 2]
    for row in rows:
        assert row["by_seat"]["minimax"]["x"]["won"] == row["by_seat"]["minimax"]["o"]["won"] == 0
        assert 0 <= row["draws"] <= 1 and row["won"] <= row["not_lost"] <= 1
