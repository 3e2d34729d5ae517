"""The README's table of verifiers is run: three training steps of the embedded model for every row."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat_server import ChatServer, embedded

pytestmark = pytest.mark.xdist_group("the table of verifiers")  # one process: they share a server and trained models
ROOT = Path(__file__).resolve().parent.parent
WANTED = (
    "selfjudge", "reward_model", "sympy_solver", "code_executor", "constitution", "majority", "remote", "external",
    "lsp", "panel",
)  # fmt: skip
SHORT = ("model=tiny", "steps=3", "exam.path=null", "runtime.threads=1", "runtime.tensorboard=false")
BRANCHES = ("branch.challenger=8", "branch.solver=4")
RULES = "none"
"""The row of no verifier: a game of other roles, whose rules pay."""


def rows() -> list[list[str]]:
    """The words of every command of the table that starts with "Judge"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("| Judge | Command |")[1].split("\n\n")[0]
    return [shlex.split(command)[2:] for command in re.findall(r"`(python main\.py[^`]*)`", table)]


def choice(words: list[str]) -> str:
    return next(word.partition("=")[2] for word in words if word.startswith("verifier="))


def test_the_table_shows_every_verifier() -> None:
    shown = {choice(words) for words in rows()}
    choices = {file.stem for file in (ROOT / "conf" / "verifier").glob("*.yaml")}
    assert shown >= set(WANTED) and shown == choices, f"missing {choices - shown}, unknown {shown - choices}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run folder of every row, by what the row says."""
    folder = tmp_path_factory.mktemp("table")
    brevity = (
        'class Brevity:\n    def __call__(self, cases):\n        return [float(len(c["answer"]) < 3) for c in cases]\n'
    )
    (folder / "my_pkg.py").write_text(brevity, encoding="utf-8")
    runs = {" ".join(words): folder / str(number) for number, words in enumerate(rows())}
    with ChatServer(embedded()) as server:
        there = [f"verifier.base_url={server.url}"]
        commands = [
            [
                *words,
                *(there if choice(words) == "remote" else []),
                *(() if choice(words) == RULES else BRANCHES),
                *SHORT,
                f"run_dir={runs[' '.join(words)]}",
            ]
            for words in rows()
        ]
        done = subprocess.run(
            [sys.executable, "-m", "tests.run_commands"],
            cwd=ROOT, input=json.dumps(commands), capture_output=True, text=True, timeout=900, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    codes = json.loads(done.stdout.splitlines()[-1])
    failed = [words for words, code in zip(runs, codes, strict=True) if code]
    assert not failed, f"{failed}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return runs


@pytest.mark.parametrize("words", [" ".join(words) for words in rows()])
def test_a_row_trains_and_its_verifier_scores(words: str, ran: dict[str, Path]) -> None:
    """It ran its three steps, and nothing was counted as a failure of the verifier."""
    summary = json.loads((ran[words] / "summary.json").read_text(encoding="utf-8"))
    assert summary["finished"] is True and summary["steps"] == 3
    metrics = [json.loads(line) for line in (ran[words] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for kind in ("timeouts", "memory", "died", "raised", "wrong_count", "not_a_number", "infra"):
        assert not any(step.get(name) for step in metrics for name in step if name.endswith(f"/{kind}")), kind
    scored = any(name.startswith("rewards/") for step in metrics for name in step)
    assert scored != (choice(words.split()) == RULES), "a case was scored where there is no verifier, or none was"
