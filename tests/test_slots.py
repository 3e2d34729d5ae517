"""A misspelt slot is told before anybody plays, with the nearest spelling; what a game fills is let pass."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from selfplay.compose import ConfigError, build, register_resolvers, resolved
from verifiers.slots import check_slots

ROOT = Path(__file__).resolve().parent.parent
SLOTS = ("query", "answer", "reference", "baseline")
PAIRWISE = {"_target_": "verifiers.pairwise.Pairwise"}


@pytest.mark.parametrize("against", ["siblings", "reference", "baseline"])
def test_what_the_game_fills_can_be_read(against: str) -> None:
    check_slots({**PAIRWISE, "against": against}, SLOTS)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (
            {**PAIRWISE, "against": "baselne"},
            r"^verifier\.against=baselne is no slot of this game \(did you mean baseline\?\): "
            "use siblings, query, answer, reference, baseline$",
        ),
        ({**PAIRWISE, "against": "sibling"}, r"\(did you mean siblings\?\)"),
        ({"_target_": "verifiers.length.Length", "slot": "answr"}, r"^verifier\.slot=answr .*mean answer\?"),
        ({"_target_": "verifiers.format.Format", "slot": "draft"}, r"^verifier\.slot=draft is no slot of this game"),
        ({"_target_": "verifiers.novelty.Novelty", "slot": "quert"}, r"mean query\?"),
        ({"_target_": "verifiers.syntax.Syntax", "slot": "code"}, r"^verifier\.slot=code"),
        ({"_target_": "verifiers.preference.Preference"}, r"^verifier\.against=rival is no slot"),  # its default
    ],
)
def test_a_slot_that_no_case_has(node: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_slots(node, SLOTS)


def test_members_of_a_panel_are_named() -> None:
    panel = {"_target_": "verifiers.panel.Panel", "score": {**PAIRWISE, "against": "rival"}}
    with pytest.raises(ConfigError, match=r"^verifier\.score\.against=rival"):
        check_slots(panel, SLOTS)
    with pytest.raises(ConfigError, match=r"^gate\.again\.against=rival"):
        check_slots({"_target_": "selfplay.gate.Gate", "again": panel["score"]}, SLOTS, "gate")


def test_a_users_own_verifier_is_not_imported() -> None:
    check_slots({"_target_": "no_such_package.Mine", "slot": "anything"}, SLOTS)
    assert "no_such_package" not in sys.modules


def test_every_setting_called_so_is_held_against_the_game() -> None:
    """Whichever shipped verifier has a setting ``slot`` or ``against``: none of them is forgotten."""
    for file in (ROOT / "conf" / "verifier").glob("*.yaml"):
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
        package, _, name = str(node.get("_target_", "")).rpartition(".")
        for key in {"slot", "against"} & set(node):
            assert key in getattr(import_module(package), name).slot_keys, file.name


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_the_experiments_read_what_their_games_fill(name: str) -> None:
    register_resolvers()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose("config", [f"experiment={name}"])
    game = build(cfg.env)
    check_slots(resolved(cfg.verifier), game.slots)
    check_slots(resolved(cfg.gate or {}), game.slots, "gate")


def test_a_run_says_so_before_its_first_step(tmp_path: Path) -> None:
    words = ["env=duel", "verifier=pairwise", "verifier.against=baselne", f"run_dir={tmp_path / 'run'}", "steps=1"]
    done = subprocess.run(
        [sys.executable, "main.py", *words, "runtime.threads=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "sparring: verifier.against=baselne is no slot of this game (did you mean baseline?)" in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
