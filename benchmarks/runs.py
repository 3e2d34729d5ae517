"""Runs of ``main.py`` in folders of their own: one that is done is not done again, one that was broken off goes on.

A run has one thread, no episodes and no event files. Beside its folder stands what it was asked for, so that a folder
is never taken for a run of other settings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfplay.record import read

ROOT = Path(__file__).resolve().parent.parent
LEAN = ("runtime.threads=1", "runtime.tensorboard=false", "runtime.episodes_every=1000000")
"""One thread a run, so that several run at once; nothing written that nobody reads."""


def complete(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """The summary of the run in ``folder``, which is begun by ``words`` or gone on with where need be.

    Raises ``SystemExit`` where the folder belongs to a run of other words, and where ``main.py`` fails.
    """
    asked, told = " ".join(words), folder.with_name(f"{folder.name}.words")
    if told.is_file() and told.read_text(encoding="utf-8") != asked:
        raise SystemExit(
            f"{folder} holds a run of other settings: choose another --runs, or delete it\n"
            f"  there: {told.read_text(encoding='utf-8')}\n  asked: {asked}"
        )
    if not _done(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(asked, encoding="utf-8")
        begun = (folder / "config.yaml").is_file()
        command(f"resume={folder}", LEAN[0]) if begun else command(*words, f"run_dir={folder}", *LEAN)
        if not _done(folder):
            raise SystemExit(f"{folder} was stopped before its end: the same command goes on with it")
    return _summary(folder)


@contextmanager
def workers(jobs: int) -> Generator[ThreadPoolExecutor]:
    """So many runs at once; after the first that fails nothing new is begun."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def command(*words: str) -> None:
    """``python main.py`` with these words; ``SystemExit`` with the end of what it said where it fails."""
    done = subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"main.py {' '.join(words)}\n{done.stdout[-500:]}{done.stderr[-2000:]}")


def checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run, to load as a model."""
    found = [child for child in (folder / "checkpoints").glob("*") if child.name.isdecimal()]
    if not found:
        raise SystemExit(f"{folder} has no checkpoint")
    return max(found, key=lambda child: int(child.name))


def tokens(folder: Path) -> float:
    """Sampled tokens, or where the model learns another one's words, those."""
    rows = read(folder / "metrics.jsonl")
    return float(rows[-1].get("num_tokens") or 0) or sum(float(row.get("distill/tokens") or 0) for row in rows)


def _done(folder: Path) -> bool:
    """A run that was stopped has a summary, too, which says so."""
    return (folder / "summary.json").is_file() and _summary(folder)["finished"]


def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
