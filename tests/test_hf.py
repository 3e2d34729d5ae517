"""``model=hf`` from the command line: a folder trains, its checkpoint loads in plain transformers, and has moved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers import model_folder

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "model=hf",
    "model.device=cpu",
    "model.dtype=float32",
    "wording=short",
    "lr=0.01",
    "max_tokens=6",
    "max_chars=64",
    "branch.challenger=3",
    "branch.solver=3",
    "steps=2",
    "env=lsp",
    "runtime.threads=1",
    "runtime.tensorboard=false",
]


@pytest.mark.parametrize("style", ["qwen2", "llama"])
def test_a_folder_trains_saves_and_reloads(style: str, tmp_path: Path) -> None:
    """A fresh Qwen2-style and a Llama-style model, with their own chat templates, in the whole of main.py."""
    source, run = model_folder(style), tmp_path / "run"
    command = [sys.executable, "main.py", *WORDS, f"model.path={source}", f"run_dir={run}"]
    # A random model cannot judge or be judged on mathematics: a coin pays, which is signal enough to move.
    told = subprocess.run([*command, "verifier=random"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["finished"] and summary["tokens"] > 0

    saved = run / "checkpoints" / "2"
    model, before = (AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (saved, source))
    tokenizer = AutoTokenizer.from_pretrained(saved)
    moved = [bool((a != b).any()) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert any(moved), "nothing was learned"
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1 = ?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=4, do_sample=False)
    assert out.shape[1] > ids["input_ids"].shape[1]
