"""A run that is killed and resumed ends with the same bytes as one that was not; the same seed gives the same bytes."""

from __future__ import annotations

import random
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


def kill_and_resume(tmp_path: Path, steps: int, kills: int, at_least: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = [*SMALL, EVERY, f"steps={steps}"]
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


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, steps=60, kills=2, at_least=1)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, steps=700, kills=20, at_least=20)


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
