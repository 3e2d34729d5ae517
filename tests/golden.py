"""Golden transcripts: one per shipped game, played by scripted players, committed as JSON and re-played by a test.

Re-record after a change that is meant: ``python -m tests.golden --write`` (``make golden``), and read the diff.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agents.scripted import Scripted
from envs import shipped
from selfplay.rollout import rollout
from selfplay.types import VERIFIER
from verifiers.panel import Panel
from verifiers.random_score import RandomScore

FOLDER = Path(__file__).parent / "golden"

GAMES: dict[str, dict[str, Any]] = {
    "lsp": {
        "lines": {
            "challenger": ["What is 7 * 8?", "Solve x + 5 = 12.", "Name a colour.", " ", "{answer} <|im_end|>"],
            "solver": ["56", "x = 7", "I cannot tell.", "", "\ud800 \u202e"],
        },
        "branch": {"challenger": 4, "solver": 3},
    },
    "code": {
        "lines": {
            "challenger": [
                'Write one(), which returns 1.\n#### {"function": "one", "inputs": [[]], "outputs": [1]}',
                "A task without tests.\n#### ",
                "No tests at all.",
                " ",
            ],
            "solver": ["```python\ndef one():\n    return 1\n```", "1", " ", "def one(): return {answer}"],
        },
        "branch": {"challenger": 4, "solver": 3},
    },
}
"""What the players say in every shipped game (a blank line forfeits), and how it branches."""


def transcript(name: str) -> dict[str, Any]:
    """The tree of one game, episode by episode, as JSON holds it."""
    game = shipped.raw(name)
    players: dict[str, Any] = {role: Scripted(lines) for role, lines in GAMES[name]["lines"].items()}
    players[VERIFIER] = Panel(**{part: RandomScore(seed) for seed, part in enumerate(game.parts)})
    episodes = rollout([game, shipped.raw(name)], players, GAMES[name]["branch"], seed=0)
    told = [
        {
            "turns": [
                {"seat": t.seat, "group": t.group, "observation": dict(t.observation), "move": t.action.move}
                for t in episode.turns
            ],
            "returns": dict(episode.returns),
            "case": dict(episode.case),
            "verdict": dict(episode.verdict),
            "forfeit": episode.forfeit,
        }
        for episode in episodes
    ]
    return {"game": game.metadata["name"], "episodes": told}


def text(name: str) -> str:
    """The file's content: ASCII, so that odd characters show in a diff."""
    return json.dumps(transcript(name), indent=1, ensure_ascii=True) + "\n"


def main(words: list[str]) -> int:
    """Write the transcripts, or say which differ."""
    if words not in ([], ["--write"]):
        print("usage: python -m tests.golden [--write]", file=sys.stderr)
        return 2
    differing = 0
    for name in GAMES:
        file = FOLDER / f"{name}.json"
        if words:
            FOLDER.mkdir(exist_ok=True)
            file.write_text(text(name), encoding="utf-8")
            print(f"wrote {file}")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text(name):
            differing += 1
            print(f"{file} differs from what is played now")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
