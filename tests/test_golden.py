"""Every shipped game still plays the transcript that was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import envs
from envs import shipped
from tests import golden

OTHERS = {"openspiel", "pettingzoo", "reasoning_gym", "textarena"}
"""Other people's games: their libraries hold their transcripts."""


def test_every_shipped_game_has_a_transcript() -> None:
    games = {file.stem for file in shipped.FOLDER.glob("*.yaml")}
    assert games - OTHERS == set(envs.NAMES) and games >= OTHERS
    assert set(envs.NAMES) == set(golden.GAMES) == {file.stem for file in golden.FOLDER.glob("*.json")}


@pytest.mark.parametrize("name", golden.GAMES)
def test_replayed(name: str) -> None:
    recorded = json.loads((golden.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    played = json.loads(golden.text(name))
    assert played["game"] == recorded["game"] and len(played["episodes"]) == len(recorded["episodes"])
    for now, then in zip(played["episodes"], recorded["episodes"], strict=True):
        assert now == then, "if this is meant: python -m tests.golden --write, and read the diff"


@pytest.mark.parametrize("name", golden.GAMES)
def test_the_transcript_shows_something(name: str) -> None:
    episodes = golden.transcript(name)["episodes"]
    assert {episode["forfeit"] for episode in episodes} == {"", *golden.GAMES[name]["lines"]}
    assert len({str(episode["returns"]) for episode in episodes}) >= 3


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert golden.main([]) == 0 and golden.main(["--wriet"]) == 2
    monkeypatch.setattr(golden, "FOLDER", tmp_path / "golden")
    assert golden.main([]) == 1 and "differs" in capsys.readouterr().out
    assert golden.main(["--write"]) == 0 and golden.main([]) == 0
