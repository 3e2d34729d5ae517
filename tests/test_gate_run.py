"""Runs with a data gate, opponents from a pool, phases and two models: resumed, they end with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "env=lsp",
    "verifier=sympy_solver",
    "branch.challenger=6",
    "branch.solver=3",
    "exam.path=null",
    "runtime.threads=1",
    "runtime.tensorboard=false",
    "runtime.checkpoint_every=2",
]
GATE = 'gate={_target_: selfplay.gate.Gate, band: "(0, 1)", archive: {_target_: selfplay.archive.Archive}}'
AGAIN = "+gate.again={_target_: verifiers.sympy_solver.SympySolver}"
PHASES = ["learner=phases", "learner.plan=[{roles: [solver], steps: 2}, {roles: [challenger, solver], steps: 1}]"]
POOL = ["+agent@seats.challenger=pool", "seats.challenger.every=1", "seats.challenger.role=challenger"]
TWO = [
    "learner=team",
    "+learner@learner.learners.challenger=policy_gradient",
    "+learner@learner.learners.solver=policy_gradient",
    "learner.learners.solver.engine=${twin}",
    "+agent@seats.solver=llm",
    "seats.solver.engine=${twin}",
]


def run(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def resumed(folder: Path, *words: str) -> Path:
    """A run of four steps; one that stopped after two and went on has left the same."""
    run(*SMALL, *words, "steps=4", f"run_dir={folder / 'whole'}")
    run(*SMALL, *words, "steps=2", f"run_dir={folder / 'parts'}")
    run(f"resume={folder / 'parts'}", "steps=4")
    for log in (folder / "whole").glob("*.jsonl"):
        if log.name != "timings.jsonl":
            assert log.read_bytes() == (folder / "parts" / log.name).read_bytes(), log.name
    ends = [folder / name / "checkpoints" / "4" for name in ("whole", "parts")]
    one, other = ({str(f.relative_to(end)): f.read_bytes() for f in end.rglob("*") if f.is_file()} for end in ends)
    assert one.keys() == other.keys()
    assert [name for name in one if name != "manifest.json" and one[name] != other[name]] == []
    return folder / "whole"


@pytest.mark.parametrize(
    "words",
    [pytest.param([GATE, AGAIN, *PHASES], id="phases", marks=pytest.mark.slow), pytest.param([GATE, *POOL], id="pool")],
)
def test_a_gated_run_resumes_to_the_same_bytes(tmp_path: Path, words: list[str]) -> None:
    folder = resumed(tmp_path, *words)
    decisions = [json.loads(line) for line in (folder / "gate.jsonl").read_text().splitlines()]
    assert [row["step"] for row in decisions] == [step for step in (1, 2, 3, 4) for _ in range(6)]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in metrics[1:]:
        admitted = sum(d["admitted"] for d in decisions if d["step"] == row["step"])
        assert row["gate/effective_proposals"] == admitted
    state = {part.name for part in (folder / "checkpoints" / "4" / "state").iterdir()}
    assert "gate" in state


@pytest.mark.slow
def test_a_second_model_that_learns_alone_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """The Challenger stays what it was; the one learner trains the Solver's copy."""
    folder = resumed(tmp_path, "+agent@seats.solver=llm", "seats.solver.engine=${twin}", "learner.engine=${twin}")
    end = folder / "checkpoints" / "4"
    start = (ROOT / "models" / "tiny" / "model.safetensors").read_bytes()
    assert (end / "model.safetensors").read_bytes() == start
    assert (end / "state/model.learner/model.safetensors").read_bytes() != start


def test_two_models_in_one_run_resume_to_the_same_bytes(tmp_path: Path) -> None:
    folder = resumed(tmp_path, *TWO)
    end = folder / "checkpoints" / "4"
    start = (ROOT / "models" / "tiny" / "model.safetensors").read_bytes()
    one, other = ((end / place / "model.safetensors").read_bytes() for place in ("", "state/model.solver"))
    assert one != other and start not in (one, other), "both have learnt, and apart"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"grad_norm/challenger", "grad_norm/solver"} <= set(metrics[1])


def test_a_gate_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    words = [*SMALL, "gate=band", "steps=1", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "sparring: gate=band is no gate: write gate={_target_: selfplay.gate.Gate, " in done.stderr
