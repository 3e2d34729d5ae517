"""Tic-tac-toe by self-play: the model against perfect and random play in the course of ``experiment=tictactoe``.

    python -m benchmarks.tictactoe --seeds 0 1 2 --jobs 2

Every so many steps the model plays ``--games`` games in each seat against ``minimax``, which plays any of the best
moves, and against any legal move at random. Nobody wins against ``minimax``: a draw is the best there is. Columns are
shares of the games in both seats; the JSON has them for each seat.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from statistics import fmean
from typing import TYPE_CHECKING, Any

from agents.minimax import Minimax
from agents.random_legal import RandomLegal
from benchmarks.games import learn
from benchmarks.report import Report, parser
from selfplay.rollout import rollout

if TYPE_CHECKING:
    from selfplay.table import Table

COLUMNS = {
    "seed": ("seed", ""),
    "step": ("step", ""),
    "draws": ("draws with minimax", ".2f"),
    "not_lost": ("not lost at random", ".2f"),
    "won": ("won at random", ".2f"),
    "seconds": ("CPU, s", ".0f"),
}
RIVALS = {"minimax": Minimax(), "random": RandomLegal()}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--seeds", nargs="+", type=int, default=[0])
    line.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    line.add_argument("--steps", type=int, help="of every run; without it the experiment's own")
    line.add_argument("--every", type=int, default=50, help="steps between two looks")
    line.add_argument("--games", type=int, default=100, help="in each seat, against each rival")
    line.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of main.py")
    options = line.parse_args(words)
    report = Report("tictactoe", "Tic-tac-toe by self-play", COLUMNS, options)
    more = [*options.set, *([f"steps={options.steps}"] if options.steps else [])]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        asked = [pool.submit(run, seed, more, options.every, options.games) for seed in options.seeds]
        for future in asked:
            for row in future.result():
                report.add(**row)
    report.finish()


def run(seed: int, more: Sequence[str], every: int, games: int) -> list[dict[str, Any]]:
    """One run: a row for every look at it."""
    rows: list[dict[str, Any]] = []

    def look(step: int, table: Table, last: bool, seconds: float) -> None:
        if step % every == 0 or last:
            found = {
                name: [results(table, rival, seat, games, step) for seat in "xo"] for name, rival in RIVALS.items()
            }
            rows.append(
                {
                    "seed": seed,
                    "step": step,
                    "draws": fmean(share["drawn"] for share in found["minimax"]),
                    "not_lost": fmean(share["drawn"] + share["won"] for share in found["random"]),
                    "won": fmean(share["won"] for share in found["random"]),
                    "seconds": seconds,
                    "by_seat": {name: dict(zip("xo", shares, strict=True)) for name, shares in found.items()},
                }
            )

    learn(["experiment=tictactoe", f"seed={seed}", *more], look)
    return rows


def results(table: Table, rival: Any, seat: str, games: int, seed: int) -> dict[str, float]:
    """The shares of games that the model wins and draws in one seat."""
    players = {"x": rival, "o": rival, seat: table.players[seat]}
    played = rollout([deepcopy(table.game) for _ in range(games)], players, seed=seed)
    earned = [episode.seats[f"{seat}_0"] for episode in played]
    return {"won": fmean(value > 0 for value in earned), "drawn": fmean(value == 0 for value in earned)}


if __name__ == "__main__":
    sys.exit(main())
