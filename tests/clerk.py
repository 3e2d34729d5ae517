"""A judge whose replies are written down, for verdicts that no real model can be made to give on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from selfplay.types import Case, Completion


class Clerk:
    """Stands in a model's place: says ``text`` to everything, or what the function makes of prompt and seed.

    ``room`` bounds prompt characters and ``max_tokens`` together; ``chances`` answers ``choices`` in their order.
    """

    def __init__(self, text: str | Callable[[str, int], str], room: int = 10**9, chances: Sequence[float] = ()) -> None:
        self.text, self.room, self.chances = text, room, chances
        self.prompts: list[str] = []
        self.seeds: list[int] = []

    def fits(self, chats: Sequence[dict[str, str]], max_tokens: int) -> list[bool]:
        return [len(chat["user"]) + max_tokens <= self.room for chat in chats]

    def generate(self, chats: Sequence[dict[str, str]], **sampling: Any) -> list[Completion]:
        assert len(chats) == len(sampling["seeds"])
        self.prompts += [chat["user"] for chat in chats]
        self.seeds += sampling["seeds"]
        said = [
            self.text if isinstance(self.text, str) else self.text(chat["user"], seed)
            for chat, seed in zip(chats, sampling["seeds"], strict=True)
        ]
        return [Completion(text, (), (), (), "stop") for text in said]

    def choices(self, chats: Sequence[dict[str, str]], replies: Sequence[str]) -> list[list[float]]:
        self.prompts += [chat["user"] for chat in chats]
        assert len(replies) == len(self.chances)
        return [[math.log(chance) if chance else -math.inf for chance in self.chances] for _ in chats]


def case(query: str, answer: str, reference: str = "") -> Case:
    return {"query": query, "answer": answer, "reference": reference}


def verdict(calculation: str = "1+0+1+0+1+1+0=4", score: object = 4) -> str:
    """A verdict in the rubric's full form."""
    return f"A fair answer.\n<calculation>{calculation}</calculation>\n<score>{score}</score>"
