"""What is said in games of triplets, as several tests say it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from envs import shipped
from envs.game import LanguageGame

DOUBLE = "def f(x):\n    return x * 2"
SECRET_INPUTS = [f"{n}{n}{n}" for n in range(1, 10)] + ["'ab'"]


def opening(task: str) -> str:
    return f"{task}\n### program\n{DOUBLE}\n### examples\nExample 1\nsomething old"


def proposal(program: str = "def f(a, b):\n    return a * b", text: str = "6, 7") -> str:
    return f"A plan.\n```python\n{program}\n```\n\n```input\n{text}\n```\n"


def proposed_inputs(inputs: list[str]) -> str:
    lines = "\n".join(inputs)
    return f"```inputs\n{lines}\n```\n```message\nIt makes twice as much.\n```"


@cache
def _made(wording: str) -> LanguageGame:
    return shipped.raw("triplets", wording=wording)


def fresh(wording: str = "full") -> LanguageGame:
    """A game of triplets; the configuration is read once."""
    return deepcopy(_made(wording))


def play(*moves: str, wording: str = "full") -> LanguageGame:
    """A game in which these moves were made."""
    game = fresh(wording)
    game.reset(seed=0)
    for move in moves:
        game.step(move)
    return game


def told(game: LanguageGame) -> str:
    return game.observe(game.agent_selection)["user"]
