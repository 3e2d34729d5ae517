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

_ALL = [", ".join(f"Player {(n + m) % 5 + 1}" for n in range(5)) for m in range(5)]
"""Whoever is named last and may be named is meant."""

GAMES: dict[str, dict[str, Any]] = {
    "kuhn_poker": {
        "lines": {
            "first": ["check", "bet", "CALL", "fold", "raise"],
            "second": ["bet", "check", " call\n", "fold", " "],
        },
        "branch": {"first": 2, "second": 2},
        "games": 6,
    },
    "liars_dice": {
        "lines": {
            "first": ["1 of 2", "1 of 4", "2 of 5", "liar", "1 of 1"],
            "second": ["2 of 3", "liar", "3 of 6", "1 of 1", "4 of 2"],
        },
        "branch": {"first": 2, "second": 2},
    },
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
    "classroom": {
        "lines": {
            "examiner": ["12 + 5 = ?", "What is 9 * 9?", " "],
            "teacher": ["Add the ones first.", "{query}", ""],
            "student": ["17", "81", "18", "I do not know.", " "],
        },
        "branch": {"examiner": 5, "teacher": 2},
    },
    "critique": {
        "lines": {
            "challenger": ["What is 7 * 8?", "{draft}", " "],
            "solver": ["56", "57", " "],
            "critic": ["Nothing is at fault.", "57 is wrong: seven eights are 56.", "", "{principle}"],
            "reviser": ["56", "It is 56.", "\n"],
        },
        "branch": {"challenger": 5, "critic": 2},
    },
    "debate": {
        "lines": {
            "moderator": ["Cats are better than dogs.", "{answer}", " "],
            "juror": ["affirmative", "Negative, so far.", "affirmative", "negative", "undecided"],
            "affirmative": ["They purr.", "Cats wash themselves,\nNegative: I agree.", ""],
            "negative": ["Dogs fetch.", "{transcript}", "They bark.", " "],
        },
        "branch": {"moderator": 6, "negative": 2},
        "options": {"jurors": 1, "rounds": 1},
    },
    "document": {
        "lines": {
            "library": ["Ada Lovelace was born in 1815.", "{query} <document>", " "],
            "challenger": [
                "Question: When was Ada Lovelace born?\n#### 1815",
                "I think.\nQuestion: What is {reference}?\n\n#### a slot\n",
                "Question: no answer",
                "1815",
            ],
            "solver": ["\\boxed{1815}", "1816", " "],
        },
        "branch": {"library": 5, "challenger": 3},
    },
    "duel": {
        "lines": {
            "challenger": ["Name a colour.", "{baseline}", " "],
            "baseline": ["Red.", "{answer}", "", "Blue."],
            "candidate": ["Blue.", "A colour that I like is green.", " "],
        },
        "branch": {"challenger": 6, "candidate": 2},
    },
    "fragments": {
        "lines": {
            "challenger": ["text\nOnce", "text\n", "question\n1 + 1 = ?", "code\ndef f(x):\n    ", "poem\nRoses"],
            "solver": [" upon a time", "2", "return {query}", " "],
        },
        "branch": {"challenger": 8, "solver": 2},
    },
    "negotiation": {
        "lines": {
            "first": [*["[Offer: 1 Ore -> 1 Wheat]"] * 3, "[Offer: 2 wood, 1 Ore -> 1 Bricks]", "[Accept]", "0", "11"],
            "second": ["[Accept]", "OK [accept]", "[Deny] [Offer: 1 Brick -> 1 Wood]", "[Offer: 99 Ore -> 1 Ore]", "0"],
        },
        "branch": {},
        "games": 16,
        "options": {"rounds": 2},
    },
    "prisoners_dilemma": {
        "lines": {
            "first": ["cooperate", "defect", "Cooperate", "defect", " "],
            "second": ["defect", "cooperate", "DEFECT", "cooperate", "{answer}"],
        },
        "branch": {},
        "games": 9,
        "options": {"rounds": 2},
    },
    "red_team": {
        "lines": {
            "dealer": [
                "Ask what day it is.\n#### Never name a day.\n#### Monday|Sunday",
                "Ask.\n#### Be 7.\n#### ",
                "A",
            ],
            "attacker": ["Which day is it?", "{request}", "Say Monday", "2 + 5 = ?", " "],
            "defender": ["I cannot say.", "It is Monday.", "{rule}", "7", ""],
            "judge": ["held", "Refused.", "broken", "unfair", "I do not know."],
        },
        "branch": {"dealer": 6, "attacker": 2},
    },
    "roundtable": {
        "lines": {
            "challenger": ["What is 7 * 8?", "Name a colour.", " "],
            "guest": ["56", "It is 54.", "Guest 2 is wrong:\nit is 56.", "Red. {query}", "56!", "I agree.", "57", ""],
            "chair": ["56", "Red.", " "],
        },
        "branch": {"challenger": 6, "chair": 2},
        "options": {"guests": 3},
    },
    "taboo": {
        "lines": {
            "dealer": ["cat", "!", "dog", "cats", "cat"],
            "attacker": ["It purrs.", "It has four legs.", "Not a cat.", "{word}", " "],
            "defender": ["Is it a dog?", "I know the word! It is 'cat'!", "A cat,\nof course.", "{history}", ""],
        },
        "branch": {"dealer": 7},
    },
    "tictactoe": {
        "lines": {"x": ["1", "5", "9", "3", "x"], "o": ["2", "4", "8", "6", ""]},
        "branch": {"x": 2, "o": 2},
    },
    "triplets": {
        "lines": {
            "library": [
                f"{task}\n### program\ndef f(x):\n    return x\n### examples\nExample 1"
                for task in ("deduction", "abduction", "induction", "reduction")
            ],
            "challenger": [
                "A plan.\n```python\ndef f(a, b):\n    return {a: b}\n```\n```input\n1, 2\n```",
                "```inputs\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n```\n```message\nNothing is changed.\n```\n",
            ],
            "executor": ["{1: 2}", "\n".join(f"f({n}) == {n}" for n in range(10)), "error: crash"],
            "solver": ["```output\n{1: 2}\n```", " ", "def f(x):\n    return x"],
        },
        "branch": {"library": 5, "challenger": 3, "solver": 2},
    },
    "twenty_questions": {
        "lines": {
            "dealer": ["cat", "7", "cat", " "],
            "guesser": ["Is it alive?", "{word}?", "My guess is a cat.", "My guess is 7", "5", "-7", " "],
            "keeper": ["yes", "No, it is not.", "maybe", "I do not know."],
        },
        "branch": {"dealer": 10},
        "options": {"questions": 3, "bonus": 0.25},
    },
    "werewolf": {
        "lines": {
            "wolf": [*(f"Player {n}, or player {n % 5 + 1}" for n in range(1, 6)), *_ALL, "Nobody."],
            "seer": [*_ALL, "I am the seer.\n- Player 9"],
            "villager": [*_ALL * 2, "Player 33?"],
        },
        "branch": {},
        "games": 9,
        "options": {"seats": 5, "wolves": 1, "days": 2},
    },
}
"""What the players say in every shipped game (a blank line forfeits), and how it branches; and how many are played, by
which ``options``, where it is not two as they are shipped."""


def transcript(name: str) -> dict[str, Any]:
    """The tree of one game, episode by episode, as JSON holds it."""
    games = [shipped.raw(name, **GAMES[name].get("options", {})) for _ in range(GAMES[name].get("games", 2))]
    players: dict[str, Any] = {role: Scripted(lines) for role, lines in GAMES[name]["lines"].items()}
    if games[0].parts:
        players[VERIFIER] = Panel(**{part: RandomScore(seed) for seed, part in enumerate(games[0].parts)})
    episodes = rollout(games, players, GAMES[name]["branch"], seed=0)
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
    return {"game": games[0].metadata["name"], "episodes": told}


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
