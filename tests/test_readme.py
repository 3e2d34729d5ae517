"""The documentation is run: its commands, the files that it tells the reader to write, and its snippets.

A command runs as it is printed, with a few words appended that make it short, in a folder that looks like a checkout.
A line that says that it needs the network or a person is composed and not run; one that takes minutes is marked slow.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import yaml

from envs.game import LanguageGame

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md", "docs/writing-a-verifier.md", "docs/writing-a-game.md", "docs/rescore.md", "docs/sandbox.md",
    "docs/panel.md",
)  # fmt: skip
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
COMPOSED_ONLY = ("needs the network", "needs a person")
IN_TABLE = "in a table"
SLOW = ("takes minutes", IN_TABLE)
SHOWN = {"rescore": "report:", "doctor": "linux-", "list": "sympy_solver", "new": "brevity", "tournament": "standings"}
"""Modes that need no shortening, and what each is sure to print."""
SHORT = ("steps=2", "exam.limit=10", "runtime.threads=1", "runtime.tensorboard=false")


@dataclass(frozen=True)
class Block:
    """One fenced block; ``title`` is the file that the reader is told to write, ``""`` if none."""

    language: str
    title: str
    body: str


@dataclass(frozen=True)
class Document:
    """A page, and a copy of the checkout beside which its reader's files lie."""

    name: str
    tree: Path

    @cached_property
    def text(self) -> str:
        return (ROOT / self.name).read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(language, title, body) for language, title, body in FENCE.findall(self.text)]

    @cached_property
    def commands(self) -> list[str]:
        """Every ``python main.py`` line of a block and of a table's cell, with its remark."""
        lines = [line for block in self.blocks if block.language == "bash" for line in block.body.splitlines()]
        for row in re.findall(r"^\|.*$", FENCE.sub("", self.text), re.MULTILINE):
            remark = f"{IN_TABLE}: {row.replace('#', '')}"
            lines += [f"{command}  # {remark}" for command in re.findall(r"`(python main\.py[^`]*)`", row)]
        return [line.strip() for line in lines if line.startswith("python main.py")]

    def tagged(self, *tags: str) -> list[str]:
        """The commands with one of these remarks."""
        return [command for command in self.commands if any(tag in command for tag in tags)]

    def write_files(self) -> None:
        for block in self.blocks:
            if block.title:
                target = self.tree / block.title
                assert not (ROOT / block.title.split("/")[0]).exists(), f"{block.title} would write into the checkout"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.body, encoding="utf-8")


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Document:
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "runs":
            (tmp_path / entry.name).symlink_to(entry)
    page = Document(str(request.param), tmp_path)
    page.write_files()
    return page


def run(words: list[str], tree: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)[1:]


def setting(words: list[str], key: str, default: str = "") -> str:
    return next((word.partition("=")[2] for word in words if word.startswith(f"{key}=")), default)


def shortened(words: list[str], tree: Path) -> list[str]:
    """The command with what makes it short; a checkpoint that the short run did not reach becomes its newest one."""
    mode = setting(words, "mode", "train")
    if "--help" in words or len(words) == 1 or mode in ("play", *SHOWN):
        return words
    if mode == "pretrain":
        return [*words, "pretrain.steps=2", "pretrain.batch=8"]
    if mode == "eval":
        newest = max((tree / "runs/first/checkpoints").iterdir(), key=lambda folder: int(folder.name)).name
        return [*(re.sub(r"checkpoints/\d+$", f"checkpoints/{newest}", word) for word in words), "exam.limit=10"]
    if setting(words, "resume"):
        return [*words, "steps=3", "runtime.threads=1"]
    return [*words, *SHORT]


def fault(command: str, tree: Path) -> str | None:
    """What is wrong with what the command did, or None."""
    words = words_of(command)
    before = {file: file.stat().st_mtime_ns for file in tree.glob("runs/**/summary.json")}
    done = run(shortened(words, tree), tree)
    if done.returncode:
        return f"{command}\nended with {done.returncode}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    mode = setting(words, "mode", "train")
    if mode == "eval":
        return None if "eval/heldout_accuracy" in done.stdout else f"{command}\nprinted no score: {done.stdout}"
    if mode in SHOWN:
        return None if SHOWN[mode] in done.stdout else f"{command}\nshowed no {SHOWN[mode]!r}: {done.stdout}"
    if mode == "play":
        return None if "returns" in done.stdout else f"{command}\nshowed no game: {done.stdout}"
    if mode == "pretrain":
        saved = tree / setting(words, "run_dir") / "model.safetensors"
        return None if saved.is_file() else f"{command}\nsaved no {saved}"
    if "--help" in words or len(words) == 1:
        return None if "python main.py" in done.stdout else f"{command}\nprinted no usage: {done.stdout}"
    fresh = [file for file in tree.glob("runs/**/summary.json") if before.get(file) != file.stat().st_mtime_ns]
    wanted = len(setting(words, "seed").split(",")) if "-m" in words else 1
    steps = 3 if setting(words, "resume") else 2
    summaries = [json.loads(file.read_text(encoding="utf-8")) for file in fresh]
    if len(summaries) != wanted or not all(s["finished"] and s["steps"] == steps for s in summaries):
        return f"{command}\nleft {len(summaries)} summaries of {wanted}: {summaries}"
    return None


@pytest.mark.parametrize(
    "document",
    [page if page == "README.md" else pytest.param(page, marks=pytest.mark.slow) for page in DOCUMENTS],
    indirect=True,
)
def test_commands_run(document: Document) -> None:
    """In the order of the page, for a later one may go on from an earlier one's run."""
    later = document.tagged(*COMPOSED_ONLY, *SLOW)
    quick = [command for command in document.commands if command not in later]
    assert quick or "```bash" not in document.text, f"{document.name} shows no command"
    faults = [fault(command, document.tree) for command in quick]
    assert not any(faults), "\n\n".join(filter(None, faults))


def test_commands_that_need_more_compose(document: Document) -> None:
    """What needs the network or a person; and what the slow test runs, so that a misspelling is found at once."""
    faults: list[str] = []
    for command in document.tagged(*COMPOSED_ONLY, *SLOW):
        words = [word.replace("0,1,2", "0") for word in words_of(command) if word != "-m"]
        done = run([*words, "--cfg", "job"], document.tree)
        if done.returncode or "mode:" not in done.stdout:
            faults.append(f"{command}\n{done.stdout[-800:]}{done.stderr[-800:]}")
    assert not faults, "\n\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md"], indirect=True)
def test_commands_that_take_minutes(document: Document) -> None:
    slow = [command for command in document.tagged(*SLOW) if command not in document.tagged(*COMPOSED_ONLY)]
    assert slow, f"{document.name} shows no command that takes minutes"
    faults = [fault(command, document.tree) for command in slow]
    assert not any(faults), "\n\n".join(filter(None, faults))


def test_python_snippets_run(document: Document) -> None:
    for block in document.blocks:
        if block.language == "python":
            done = run(["-c", block.body], document.tree)
            assert done.returncode == 0, f"{document.name}:\n{block.body}\n{done.stderr[-1500:]}"


def test_yaml_snippets_are_games(document: Document) -> None:
    """A snippet with turns and a payoff and no file name is the ``env`` node of a game."""
    for block in document.blocks:
        if block.language == "yaml":
            node = yaml.safe_load(block.body)
            assert isinstance(node, dict), block.body
            if not block.title and "turns" in node:
                LanguageGame(**{key: value for key, value in node.items() if key != "_target_"})


def pages() -> list[str]:
    return ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing, f"{page} links to {missing}"


def test_the_file_map_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## The code")[1].split("## ")[0]
    for line in text.splitlines():
        row = re.match(r"\| `(\w+)/` \| (.*) \|$", line)
        if row and row[1] != "docs":
            for name in re.findall(r"`([\w/]+(?:\.py|/))`", row[2]):
                assert (ROOT / row[1] / name).exists(), f"README's file map: there is no {row[1]}/{name}"


def test_every_verifier_and_experiment_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for group in ("verifier", "experiment"):
        for choice in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"{group}={choice.stem}" in text, f"the README does not show {group}={choice.stem}"
