"""What the game loop itself costs per turn: scripted players, so that no model hides it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.scripted import Scripted
from envs.game import LanguageGame
from selfplay.credit import advantages
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Action


class _Judge:
    def act(self, observations: Sequence[Any], seeds: Sequence[int]) -> list[Action]:
        return [Action({"score": seed % 2}) for seed in seeds]


def measure(games: int, personas: int) -> float:
    """Seconds per turn of ``games`` leaves with ``personas`` speakers, credit included; the best of three."""
    turns = [{"role": f"p{chr(97 + n)}", "says": f"s{n}", "told": "{s0}" if n else "go"} for n in range(personas)]
    game = LanguageGame(turns, {turn["role"]: {"score": 1.0} for turn in turns})
    seats: dict[str, Any] = dict.fromkeys((turn["role"] for turn in turns), Scripted(("one", "two")))
    best = float("inf")
    for attempt in range(3):
        started = time.perf_counter()
        episodes = rollout([game], {**seats, VERIFIER: _Judge()}, {"pa": games}, seed=attempt)
        advantages(episodes)
        best = min(best, time.perf_counter() - started)
    return best / (games * (personas + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [
        {"games": games, "personas": personas, "us_per_turn": 1e6 * measure(games, personas)}
        for games in (64, 512, 4096)
        for personas in (2, 5, 16)
    ]
    for row in rows:
        print(f"{row['games']:>5} games  {row['personas']:>2} personas  {row['us_per_turn']:6.1f} us per turn")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
