"""Many personas of one model at a round table: how full the batches are, and what the loop costs a turn.

python -m benchmarks.personas --personas 2 4 8 16 --games 8

The same games are played twice by the embedded model: once as they are, where equal players share a batch, once with
every seat asked alone, as if it had a model of its own. "calls" are those of the engine, and the batch is the rows of a
call. The loop's own cost is that of scripted players who say some lines each, the credit included, best of the repeats.
"Loads" counts how often `main.py experiment=roundtable` with as many guests loads the model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import models
from agents.llm import LLM
from agents.scripted import Scripted
from benchmarks.report import Report, parser
from envs import shipped
from selfplay.credit import advantages
from selfplay.rollout import rollout
from selfplay.table import copies
from selfplay.types import VERIFIER, Action, Completion

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "personas": ("personas", ""),
    "games": ("games", ""),
    "calls": ("calls", ""),
    "batch": ("mean batch", ".1f"),
    "alone": ("asked alone", ".1f"),
    "fuller": ("times fuller", ".1f"),
    "us_per_turn": ("loop, us per turn", ".1f"),
    "loads": ("loads", ""),
}
WORDS = " ".join(f"word{n % 37}" for n in range(60))


class Counted:
    """An engine, and the rows of every call that it has answered."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.rows = engine, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, chats: Sequence[Any], **how: Any) -> list[Completion]:
        self.rows += [len(chats)] if chats else []
        return self._engine.generate(chats, **how)


class Judge:
    """Plays a verdict by the seed alone."""

    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return [Action({"score": float(seed % 2)}) for seed in seeds]


def table(personas: int, games: int, wording: str) -> list[Any]:
    """Round tables of so many guests, with a chair that says what it likes."""
    return copies(shipped.raw("roundtable", wording=wording, guests=personas, adopts=False), games)


def batches(engine: Any, personas: int, games: int, alone: bool) -> list[int]:
    """The rows of every call of the engine in one rollout."""
    envs = table(personas, games, "short")
    counted = Counted(engine)
    seats = [seat for seat in envs[0].possible_agents if not seat.startswith(VERIFIER)]
    # Other sampling makes other players: unequal ones do not share a call.
    players: dict[str, Any] = {
        seat: LLM(counted, max_tokens=8, top_p=1.0 - alone * n / 1e6) for n, seat in enumerate(seats)
    }
    players["challenger_0"] = Scripted(
        ("What is 12 + 5?", "9 times 9?", "70 - 52 = ?")
    )  # a data set, as in the experiment
    rollout(envs, {**players, VERIFIER: Judge()}, seed=1)
    return counted.rows


def overhead(personas: int, games: int, repeats: int) -> float:
    """CPU seconds of the loop for a turn, the verifier's among them: one thread, and nothing else runs in it."""
    best = float("inf")
    for attempt in range(repeats):
        envs = table(personas, games, "full")
        players = dict.fromkeys(envs[0].roles, Scripted((WORDS, WORDS.upper())))
        began = time.process_time()
        episodes = rollout(envs, {**players, VERIFIER: Judge()}, seed=attempt)
        advantages(episodes)
        best = min(best, (time.process_time() - began) / sum(len(episode.turns) for episode in episodes))
    return best


def loads(personas: int) -> int:
    """How often a run of one step loads the model."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "main.py", "experiment=roundtable", f"env.guests={personas}", "games=1", "steps=1",
            "exam.path=null", f"run_dir={folder}/run", "runtime.threads=1",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return sum(line.startswith("loaded ") for line in done.stdout.splitlines())


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--personas", nargs="+", type=int, default=[2, 4, 8, 16])
    line.add_argument("--games", type=int, default=8)
    line.add_argument("--repeats", type=int, default=3)
    options = line.parse_args(words)
    import torch

    torch.set_num_threads(options.threads)
    report = Report("personas", "Personas of one model at a round table", COLUMNS, options)
    engine = models.load("tiny", dtype="float32", device="cpu")
    for personas in options.personas:
        shared, alone = (batches(engine, personas, options.games, apart) for apart in (False, True))
        report.add(
            personas=personas, games=options.games, calls=len(shared), batch=fmean(shared), alone=fmean(alone),
            fuller=fmean(shared) / fmean(alone), us_per_turn=1e6 * overhead(personas, options.games, options.repeats),
            loads=loads(personas),
        )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    sys.exit(main())
