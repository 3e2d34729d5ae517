"""A run writes where its time went: the phases of every step, their rates, and a share of the roofline for each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from selfplay.record import read

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["experiment=lsp", "branch.challenger=4", "branch.solver=2", "exam.limit=5", "steps=2", "runtime.threads=1"]
PHASES = {"generate", "judge", "update", "evaluate", "other"}


def test_the_timings_of_a_run(tmp_path: Path) -> None:
    """Language Self-Play judges with a frozen copy of the model: its work is that of ``judge``, and of no other."""
    done = subprocess.run(
        [sys.executable, "main.py", *SMALL, f"run_dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    zero, *steps = read(tmp_path / "timings.jsonl")
    assert zero["evaluate"] > 0 and zero["generate"] == zero["tokens_per_second"] == 0
    tokens = [row["num_tokens"] for row in read(tmp_path / "metrics.jsonl")[1:]]
    for row, sampled in zip(steps, (tokens[0], tokens[1] - tokens[0]), strict=True):
        phases = PHASES & set(row)
        assert sum(row[name] for name in phases) == pytest.approx(row["total"])
        assert row["tokens_per_second"] == pytest.approx(sampled / row["total"])
        for name in ("generate", "update"):
            assert row[f"{name}_tokens_per_second"] == pytest.approx(sampled / row[name])
        for name in ("generate", "judge", "update"):
            assert row[f"roofline/{name}"] > 0
        assert "roofline/other" not in row
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "seconds" not in text and "roofline" not in text, "metrics are free of the clock"
    assert "roofline: generate" in done.stdout
