"""A game of eight lines by somebody who has read no code of ours: it plays and trains from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from envs.game import LanguageGame
from selfplay.testing import check_game
from tests.test_house import ROOT

GAME = ROOT / "tests" / "plugin" / "sparring_brevity" / "conf" / "env" / "twins.yaml"
QUICK = ("steps=2", "exam.limit=4", "exam.final_samples=1", "runtime.threads=1", "runtime.tensorboard=false")


@pytest.mark.filterwarnings("ignore")
def test_it_has_eight_lines_and_keeps_the_contract() -> None:
    assert len(GAME.read_text(encoding="utf-8").splitlines()) == 8
    node = OmegaConf.create({"personas": None, "env": yaml.safe_load(GAME.read_text(encoding="utf-8"))})
    settings = OmegaConf.to_container(node.env, resolve=True)
    assert isinstance(settings, dict) and settings.pop("_target_") == "envs.game.LanguageGame"
    check_game(lambda: LanguageGame(**settings), games=10)  # type: ignore[arg-type]


def test_it_trains_from_the_command_line(tmp_path: Path) -> None:
    """From a folder of the stranger's own, with a verifier of ours; both twins are told the same, and paid."""
    (tmp_path / "conf" / "env").mkdir(parents=True)
    shutil.copy(GAME, tmp_path / "conf" / "env")
    run = tmp_path / "run"
    words = ["env=twins", "verifier=sympy_solver", "+branch.asker=8", "+branch.twin=2", *QUICK, f"run_dir={run}"]
    command = [sys.executable, "main.py", f"--config-dir={tmp_path / 'conf'}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = (run / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    episodes = [json.loads(line) for line in lines]
    judged = [episode for episode in episodes if episode["verdict"]]
    assert judged, "nobody was judged"
    for episode in judged:
        first, second = (turn["observation"]["user"] for turn in episode["turns"][1:3])
        assert first == second == episode["case"]["query"]
        score = episode["verdict"]["score"]
        assert episode["returns"] == {"asker": None if score is None else -score, "twin": score}
    before, after = (next((run / "checkpoints" / step).rglob("model.safetensors")) for step in ("0", "2"))
    assert before.read_bytes() != after.read_bytes(), "the model has learnt"
