"""A user's own verifier and game, by each of the three ways in, really trained with; and what may not come in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfplay.compose import ConfigError, build

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "tests" / "plugin"
PERSONAS = ["engineer", "poet", "sceptic", "child", "host"]

BESIDE_YOU = '''
class Brevity:
    """Reward short answers: 1 for 1 to `limit` characters, else 0."""

    def __init__(self, limit=200):
        self.limit = limit

    def __call__(self, cases):
        return [float(0 < len(case["answer"].strip()) <= self.limit) for case in cases]
'''

QUICK = (
    "model=tiny",
    "steps=2",
    "exam.limit=5",
    "exam.final_samples=1",
    "runtime.threads=1",
    "runtime.tensorboard=false",
)


def sparring(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``python main.py <words>`` in the checkout, with ``path`` where Python looks for packages."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "main.py", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


def train(path: Path, run: Path, *words: str) -> list[dict[str, Any]]:
    """The episodes of two steps that have to succeed."""
    done = sparring(path, *words, *QUICK, f"run_dir={run}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Warning" not in done.stderr, done.stderr
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["finished"] is True and summary["steps"] == 2
    lines = (run / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    episodes = [json.loads(line) for line in lines]
    assert {episode["step"] for episode in episodes} == {1, 2}
    return episodes


def check_brevity(episodes: list[dict[str, Any]], limit: int) -> None:
    """Every verdict is the one that brevity gives: counted here again, from the record."""
    judged = [episode for episode in episodes if episode["verdict"]]
    assert judged
    for episode in judged:
        assert episode["verdict"] == {"score": float(0 < len(episode["case"]["answer"].strip()) <= limit)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin, built and installed by pip into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(PLUGIN)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return target


def test_first_rung_a_class_beside_you(tmp_path: Path) -> None:
    (tmp_path / "my_verifier.py").write_text(BESIDE_YOU, encoding="utf-8")
    words = ("verifier=custom", "verifier._target_=my_verifier.Brevity", "+verifier.limit=1")
    episodes = train(tmp_path, tmp_path / "run", *words, "branch.challenger=2", "branch.solver=2")
    check_brevity(episodes, 1)


def test_second_rung_a_folder_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "my_verifier.py").write_text(BESIDE_YOU, encoding="utf-8")
    choice = tmp_path / "my_conf" / "verifier" / "curt.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: my_verifier.Brevity\nlimit: 2\n", encoding="utf-8")
    words = (f"--config-dir={tmp_path / 'my_conf'}", "verifier=curt")
    episodes = train(tmp_path, tmp_path / "run", *words, "branch.challenger=2", "branch.solver=2")
    check_brevity(episodes, 2)


def test_third_rung_an_installed_package_with_a_game_of_five_personas(installed: Path, tmp_path: Path) -> None:
    """Verifier and game both come by the entry point; five personas of one model play, and the model changes."""
    run = tmp_path / "run"
    episodes = train(installed, run, "env=salon", "verifier=brevity", "verifier.limit=1", "branch.asker=1")
    check_brevity(episodes, 1)
    whole = [episode for episode in episodes if episode["verdict"]]
    for episode in whole:
        assert [turn["role"] for turn in episode["turns"]] == ["asker", *PERSONAS, "verifier"]
        assert episode["returns"] == {"asker": 0.0, **dict.fromkeys(PERSONAS, episode["verdict"]["score"])}
        told = {turn["role"]: turn["observation"] for turn in episode["turns"]}
        assert len({told[persona]["system"] for persona in PERSONAS}) == 5
        assert episode["case"]["wondered"] in told["host"]["user"]
    assert set(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["seats"] or {}) == set()
    before, after = (next((run / "checkpoints" / step).rglob("model.safetensors")) for step in ("0", "2"))
    assert before.read_bytes() != after.read_bytes()


def test_a_plugin_does_not_replace_what_is_built_in(installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    rival = site / "sparring_brevity" / "conf" / "verifier" / "sympy_solver.yaml"
    rival.write_text("_target_: sparring_brevity.Brevity\nlimit: 7\n", encoding="utf-8")
    done = sparring(site, "--cfg", "job", "verifier=sympy_solver")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["verifier"]["_target_"] == "verifiers.sympy_solver.SympySolver"
    done = sparring(site, "--cfg", "job", "verifier=brevity")
    assert yaml.safe_load(done.stdout)["verifier"] == {"_target_": "sparring_brevity.Brevity", "limit": 200}


def test_a_foreign_target_is_refused_in_one_sentence(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    words = ("verifier=custom", "verifier._target_=os.system", f"+verifier.command='touch {touched}'")
    done = sparring(tmp_path, *QUICK, f"run_dir={tmp_path / 'run'}", *words)
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("sparring: _target_='os.system' is neither ours,") and "allow=[os]" in said
    assert "Traceback" not in done.stderr and not touched.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "shutil.rmtree",
        "hydra.utils.instantiate",
        "torch.load",
        "selfplay.runs.time.strftime",  # through a module of ours into what it imports
        "models.loading.Path.home",
    ],
)
def test_only_what_may_be_called_is_called(target: str) -> None:
    for node in ({"_target_": target}, {"_target_": "verifiers.panel.Panel", "score": [{"_target_": target}]}):
        with pytest.raises(ConfigError, match="so it is not called"):
            build(node)
