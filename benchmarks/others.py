"""Other people's games through main.py: random players, twice from one seed, and a few steps of training.

python -m benchmarks.others --only textarena --episodes 50
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Report, parser

ROOT = Path(__file__).resolve().parent.parent
TEXTARENA = (
    "2048-v0-ultra-easy", "Bandit-v0", "Blackjack-v0", "FrozenLake-v0", "GuessTheNumber-v0", "Mastermind-v0",
    "Minesweeper-v0", "Secretary-v0", "TowerOfHanoi-v0", "Battleship-v0", "Breakthrough-v0", "ConnectFour-v0",
    "GameOfPureStrategy-v0", "HighSociety-v0", "IteratedMatchingPennies-v0", "IteratedPrisonersDilemma-v0",
    "IteratedRockPaperScissors-v0", "KuhnPoker-v0", "LiarsDice-v0", "Nim-v0", "Othello-v0", "PigDice-v0-short",
    "SimpleNegotiation-v0", "SimpleTak-v0", "Snake-v0", "TicTacToe-v0", "TruthAndDeception-v0",
    "ThreePlayerIPD-v0", "SecretMafia-v0",
)  # fmt: skip
ALONE = TEXTARENA[:9]
PLAYERS = {"ThreePlayerIPD-v0": 3, "SecretMafia-v0": 6, **dict.fromkeys(ALONE, 1)}
OPENSPIEL = (
    "kuhn_poker", "leduc_poker", "liars_dice(numdice=1)", "tic_tac_toe", "connect_four", "breakthrough", "goofspiel",
    "matrix_pd", "hanabi", "hearts", "backgammon", "bargaining",
)  # fmt: skip
GYM = (
    "chain_sum", "leg_counting", "gcd", "basic_arithmetic", "spell_backward", "number_sorting", "countdown", "sudoku",
    "knights_knaves", "simple_equations", "caesar_cipher", "maze",
)  # fmt: skip
STOCK = ("connect_four_v3", "tictactoe_v3", "rps_v2", "leduc_holdem_v4", "texas_holdem_v4", "hanabi_v5")
TRAINED = {
    "textarena": (["env.game=TicTacToe-v0-train"], ["env.game=Nim-v0-train"]),
    "openspiel": (["env.game=kuhn_poker", "agent.moves=choose"], ["env.game=tic_tac_toe", "agent.moves=choose"]),
    "reasoning_gym": (["env.task=chain_sum"], ["env.task=leg_counting"]),
    "pettingzoo": (
        ["env.id=classic/rps_v2", "agent.moves=choose"],
        ["env.id=classic/tictactoe_v3", "agent.moves=choose"],
    ),
}
Rows = list[dict[str, Any]]
COLUMNS = {
    "library": ("library", ""),
    "game": ("game", ""),
    "episodes": ("episodes", ""),
    "turns": ("turns each", ".1f"),
    "forfeits": ("forfeits", ".0%"),
    "truncated": ("cut", ".0%"),
    "same": ("same bytes twice", ""),
    "trained": ("steps trained", ""),
    "tokens": ("tokens", ".0f"),
}
QUIET = ["exam.path=null", "runtime.tensorboard=false"]


def groups(library: str, first: int | None) -> list[tuple[str, list[str], list[str]]]:
    """What one sweep can play: the key that names a game, the names, and the words that all of them share."""
    if library == "textarena":
        names = TEXTARENA[:first]
        counts = sorted({PLAYERS.get(name, 2) for name in names})
        same = [(count, [name for name in names if PLAYERS.get(name, 2) == count]) for count in counts]
        return [("env.game", chosen, [f"env.players={count}"]) for count, chosen in same]
    if library == "openspiel":
        return [("env.game", [f"'{name}'" for name in OPENSPIEL[:first]], [])]
    if library == "reasoning_gym":
        return [
            ("env.task", list(GYM[:first]), ["branch.challenger=1", "branch.solver=1", "seats.solver=random_legal"])
        ]
    return [("env.id", [f"classic/{name}" for name in STOCK[:first]], [])]


def run(words: Sequence[str], folder: Path) -> str:
    """Run main.py, every job of a sweep into its own folder of ``folder``; "" or the last line of what went wrong."""
    command = [sys.executable, "main.py", "-m", *words, *QUIET, f"run_dir={folder}/${{hydra:job.num}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]


def play(library: str, group: tuple[str, list[str], list[str]], episodes: int, seed: int, folder: Path) -> Rows:
    """``episodes`` games of random players, twice, each time in a fresh process with its own hashes of strings."""
    key, names, shared = group
    words = [f"env={library}", "learner=frozen", "steps=1", f"games={episodes}", f"seed={seed}", *shared]
    words += [f"{key}={','.join(names)}", *([] if library == "reasoning_gym" else ["agent=random_legal"])]
    errors = [run(words, folder / str(number)) for number in range(2)]
    rows: Rows = []
    for job, name in enumerate(names):
        logs = [folder / str(number) / str(job) / "episodes.jsonl" for number in range(2)]
        found = _compared([log.read_bytes() if log.is_file() else b"" for log in logs], " ".join(filter(None, errors)))
        rows.append({"library": library, "game": name.strip("'"), **found})
    return rows


def _compared(texts: Sequence[bytes], error: str) -> dict[str, Any]:
    if not all(texts):
        return {"same": f"failed: {error}"}
    episodes = [json.loads(line) for line in texts[0].splitlines()]
    return {
        "episodes": len(episodes),
        "turns": sum(len(episode["turns"]) for episode in episodes) / len(episodes),
        "forfeits": sum(bool(episode["forfeit"]) for episode in episodes) / len(episodes),
        "truncated": sum(bool(episode.get("truncated")) for episode in episodes) / len(episodes),
        "same": "yes" if len(set(texts)) == 1 else "no",
    }


def train(library: str, words: Sequence[str], steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """A few steps of policy gradient on the embedded model."""
    chosen = [f"env={library}", f"steps={steps}", f"seed={seed}", "max_tokens=8", *words]
    chosen += ["branch.solver=4"] if library == "reasoning_gym" else ["games=8", "learner.credit=role_mean"]
    if error := run(chosen, folder):
        return {"trained": f"failed: {error}"}
    rows = [json.loads(line) for line in (folder / "0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"trained": rows[-1]["step"], "tokens": rows[-1]["num_tokens"]}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--only", nargs="+", choices=TRAINED, default=list(TRAINED))
    line.add_argument("--episodes", type=int, default=50)
    line.add_argument("--steps", type=int, default=5)
    line.add_argument("--first", type=int, help="the first so many games of each library")
    line.add_argument("--seed", type=int, default=0)
    options = line.parse_args(words)
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    report = Report("others", "Other people's games, by random players and in training", COLUMNS, options)
    with tempfile.TemporaryDirectory() as place:
        for library in options.only:
            for number, group in enumerate(groups(library, options.first)):
                folder = Path(place, library, str(number))
                for row in play(library, group, options.episodes, options.seed, folder):
                    report.add(**row)
            for number, chosen in enumerate(TRAINED[library][: options.first]):
                found = train(library, chosen, options.steps, options.seed, Path(place, library, f"trained{number}"))
                report.add(library=library, game=chosen[0].partition("=")[2], **found)
    report.finish()


if __name__ == "__main__":
    main()
