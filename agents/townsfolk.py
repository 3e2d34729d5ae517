"""A plain player of werewolf: it uses what it knows, believes a seer, and guesses otherwise."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfplay.types import Action, Chat

CLAIM = "I am the seer, and {} is a werewolf."
_CLAIMED = re.compile(r"^(?P<who>[^:\n]+): I am the seer, and (?P<wolf>[^\n]+) is a werewolf\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Townsfolk:
    """Reads ``state`` (its role, and what it knows for sure), ``legal_actions`` and the claims in its chat.

    A seer who has found a living wolf says so by day, and votes for it; it looks at somebody whom it does not know. The
    town votes for whoever was claimed last; wolves kill who claimed, and vote for no wolf. Who knows nothing draws a
    legal move by the row's seed, and says nothing of worth. Without a ``state`` it plays as a villager.
    """

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """One move per row, of its chat, its infos and its seed alone."""
        rows = zip(observations, seeds, infos, strict=True)
        return [Action(_move(chat, random.Random(seed), info)) for chat, seed, info in rows]

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One move per row where nobody says what is legal: talk without worth."""
        nothing: dict[str, Any] = {}
        return self.choose(observations, seeds, [nothing] * len(observations))


def _move(chat: Chat, rng: random.Random, info: Mapping[str, Any]) -> str:
    role, *facts = str(info.get("state") or "villager").split("\n")
    known = {fact.partition(" ")[2]: fact.partition(" ")[0] == "wolf" for fact in facts}
    legal = [str(move) for move in info.get("legal_actions") or ()]
    found = [name for name, wolf in known.items() if wolf]
    if not legal:  # the talk
        return CLAIM.format(found[-1]) if role == "seer" and found else "I have nothing to tell."
    claims = [(claim["who"], claim["wolf"]) for claim in _CLAIMED.finditer(chat["user"])]
    if role == "wolf":
        wanted, others = [who for who, _ in claims], [move for move in legal if move not in found]
    elif role == "seer":
        wanted, others = found, [move for move in legal if move not in known]
    else:
        wanted, others = [wolf for _, wolf in claims], legal
    sure = [name for name in wanted if name in legal]
    return sure[-1] if sure else rng.choice(others or legal)
