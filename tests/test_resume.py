"""A run that is killed and resumed ends with the same bytes as one that was not; the same seed gives the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfplay.checkpoint import latest, verify

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "experiment=lsp",
    "branch.challenger=4",
    "branch.solver=2",
    "exam.limit=5",
    "exam.every=3",
    "runtime.threads=1",
]
EVERY = "runtime.checkpoint_every=2"
PIPELINE = ["pipeline=true", "learner.importance_cap=2.0"]  # first turns that were played ahead are state, too


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "main.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(*words: str) -> None:
    child = start(*words)
    _, told = child.communicate(timeout=300)
    assert child.returncode == 0, told.decode()


def remains(folder: Path, steps: int) -> dict[str, bytes]:
    """What has to be the same: both clock-free logs, the weights and the optimizer's state."""
    files = [folder / "metrics.jsonl", folder / "episodes.jsonl"]
    files += sorted((folder / "checkpoints" / str(steps)).rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def played_ahead(folder: Path) -> int:
    """How many first turns of the step after it a checkpoint holds."""
    body = json.loads((folder / "state" / "pipeline" / "openings.json").read_text(encoding="ascii"))
    assert (body["seed"] is None) == (not body["openings"])
    return len(body["openings"])


def kill_and_resume(tmp_path: Path, steps: int, kills: int, at_least: int, *words: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = [*SMALL, EVERY, f"steps={steps}", *words]
    finish(*settings, f"run_dir={whole}")
    started = time.monotonic()
    finish(*SMALL, "steps=1", f"run_dir={tmp_path / 'short'}")
    life, rng = time.monotonic() - started, random.Random(steps)  # mostly start-up: some lives end before any step
    killed = 0
    child = start(*settings, f"run_dir={broken}")
    while killed < kills:
        try:
            child.wait(timeout=rng.uniform(0.6, 1.15) * life)
            break  # it came to its end before we came to ours
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.communicate()
            killed += 1
        if (broken / "checkpoints").is_dir():
            for step in (broken / "checkpoints").glob("[0-9]*"):
                verify(step)  # 0 unreadable: whatever carries a step's name is whole
        again = [f"resume={broken}"] if (broken / "config.yaml").is_file() else [*settings, f"run_dir={broken}"]
        child = start(*again)
    _, told = child.communicate(timeout=300)
    assert child.returncode in (0, 2), told.decode()
    assert killed >= at_least, f"the run ended after {killed} kills: give it more steps"
    checkpoint = latest(broken / "checkpoints")
    assert checkpoint is not None and checkpoint.step == steps
    assert remains(broken, steps) == remains(whole, steps)


@pytest.mark.parametrize("words", [[], pytest.param(PIPELINE, marks=pytest.mark.slow)], ids=["plain", "pipeline"])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, words: list[str]) -> None:
    kill_and_resume(tmp_path, 60, 2, 1, *words)


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], [*PIPELINE, "cohorts=2"]], ids=["plain", "pipeline"])
def test_twenty_kills(tmp_path: Path, words: list[str]) -> None:
    kill_and_resume(tmp_path, 700, 20, 20, *words)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["lsp", "grpo"])  # grpo: a data set asks, whose cursor runs one step ahead
def test_a_run_that_is_asked_to_stop_keeps_what_was_played_ahead(tmp_path: Path, experiment: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = [*SMALL, f"experiment={experiment}", *PIPELINE, "exam.path=null", "steps=60"]
    finish(*settings, f"run_dir={whole}")
    child, metrics = start(*settings, f"run_dir={broken}"), broken / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 4):
        assert child.poll() is None and time.monotonic() < deadline, "the run did not come to its third step"
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=120)
    assert child.returncode == 0, told.decode()
    stopped = latest(broken / "checkpoints")
    assert stopped is not None and 3 <= stopped.step < 60 and played_ahead(stopped.path) == 4
    finish(f"resume={broken}")
    assert remains(broken, 60) == remains(whole, 60)


@pytest.mark.slow
def test_a_finished_run_goes_on(tmp_path: Path) -> None:
    """Its last step played nothing ahead, so the first step after it asks with the weights that are there by then."""
    settings = [*SMALL, *PIPELINE, "exam.path=null"]
    finish(*settings, "steps=2", f"run_dir={tmp_path / 'one'}")
    assert played_ahead(tmp_path / "one" / "checkpoints" / "2") == 0
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in ("one", "two"):
        finish(f"resume={tmp_path / name}", "steps=4", "runtime.checkpoint_every=1")
        assert played_ahead(tmp_path / name / "checkpoints" / "3") == 4
    assert remains(tmp_path / "one", 4) == remains(tmp_path / "two", 4)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        finish(*SMALL, "steps=2", f"run_dir={tmp_path / name}")
    assert remains(tmp_path / "one", 2) == remains(tmp_path / "two", 2)


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(*SMALL, "steps=1", f"run_dir={folder}")
    child = start(f"resume={folder}", "seed=5", "steps=2")
    _, told = child.communicate(timeout=120)
    assert child.returncode == 2
    assert b"seed cannot change" in told
    finish(f"resume={folder}", "steps=2")
    assert (folder / "checkpoints" / "2" / "manifest.json").is_file()
