"""What the game loop itself costs per turn: scripted players, so that no model hides it.

python -m benchmarks.loop_overhead --games 64 512 4096 --personas 2 5 16
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from agents.scripted import Scripted
from benchmarks.report import Report, parser
from envs.game import LanguageGame
from selfplay.credit import advantages
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action

COLUMNS = {
    "games": ("games", ""),
    "personas": ("personas", ""),
    "us_per_turn": ("us per turn", ".1f"),
    "seconds": ("one rollout, s", ".3f"),
}


class _Judge:
    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return [Action({"score": seed % 2}) for seed in seeds]


def measure(games: int, personas: int, repeats: int = 3) -> float:
    """Seconds of a rollout with ``games`` leaves and ``personas`` speakers, credit included; the best of some."""
    turns = [{"role": f"p{chr(97 + n)}", "says": f"s{n}", "told": "{s0}" if n else "go"} for n in range(personas)]
    game = LanguageGame(turns, {turn["role"]: {"score": 1.0} for turn in turns})
    seats: dict[str, Any] = dict.fromkeys((turn["role"] for turn in turns), Scripted(("one", "two")))
    best = float("inf")
    for attempt in range(repeats):
        started = time.perf_counter()
        episodes = rollout([game], {**seats, VERIFIER: _Judge()}, {"pa": games}, seed=attempt)
        advantages(episodes)
        best = min(best, time.perf_counter() - started)
    return best


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--games", nargs="+", type=int, default=[64, 512, 4096])
    line.add_argument("--personas", nargs="+", type=int, default=[2, 5, 16])
    line.add_argument("--repeats", type=int, default=3)
    options = line.parse_args(words)
    report = Report("loop_overhead", "The loop without a model (best of the repeats)", COLUMNS, options)
    for games in options.games:
        for personas in options.personas:
            seconds = measure(games, personas, options.repeats)
            turns = games * (personas + 1)  # the verifier's among them
            report.add(games=games, personas=personas, us_per_turn=1e6 * seconds / turns, seconds=seconds)
    report.finish()


if __name__ == "__main__":
    sys.exit(main())
