"""``model=vllm`` from the command line: a folder trains by vLLM's words, twice to the same end, and its checkpoint
loads in plain transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.vllm.small import folder

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = [
    "env=lsp",
    "verifier=random",  # a random model cannot judge or be judged on mathematics: a coin pays, which is signal enough
    "model=vllm",
    "model.device=cpu",
    "model.dtype=float32",
    "model.vllm.max_model_len=256",
    "model.vllm.kv_cache_gib=0.25",
    "wording=short",
    "lr=0.01",
    "max_tokens=6",
    "max_chars=64",
    "branch.challenger=3",
    "branch.solver=3",
    "steps=2",
    "runtime.threads=1",
    "runtime.tensorboard=false",
]


def train(run: Path, *more: str) -> str:
    """Train into ``run``; what the run said on its standard error."""
    command = [sys.executable, "main.py", *WORDS, f"model.path={folder('llama', True)}", f"run_dir={run}", *more]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
    return told.stderr


def test_a_folder_trains(tmp_path: Path) -> None:
    train(tmp_path / "one")
    train(tmp_path / "two")
    summary = json.loads((tmp_path / "one/summary.json").read_text(encoding="utf-8"))
    assert summary["finished"] and summary["tokens"] > 0
    before = load_file(folder("llama", True) / "model.safetensors")
    one, two = (load_file(tmp_path / run / "checkpoints/2/model.safetensors") for run in ("one", "two"))
    assert one.keys() == before.keys()
    assert any(bool((one[name] != before[name]).any()) for name in one), "nothing was learned"
    for name in one:
        assert torch.equal(one[name], two[name]), "one seed, one end"


def test_a_wrong_key_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "main.py", *WORDS, f"model.path={folder('llama', True)}", f"run_dir={tmp_path}"]
    told = subprocess.run([*command, "+model.vllm.max_len=9"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1 and "model.vllm.max_len is unknown (did you mean max_model_len?)" in told.stderr


@pytest.mark.parametrize("judge", ["selfjudge"])
def test_the_model_judges_itself(judge: str, tmp_path: Path) -> None:
    """The reference is a frozen copy in the same process, which plays without vLLM."""
    train(tmp_path / "run", f"verifier={judge}", "steps=1", "judge_tokens=4")
