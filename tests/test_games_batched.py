"""Every shipped game plays the same beside others as alone, and in cohorts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from agents.scripted import Scripted
from envs import shipped
from selfplay.rollout import rollout
from selfplay.types import VERIFIER, Episode
from tests import golden
from verifiers.panel import Panel


def seats(name: str, parts: tuple[str, ...]) -> dict[str, Any]:
    """Scripted players, and verifiers that go by the case alone: a batch has no say in them."""
    players: dict[str, Any] = {role: Scripted(lines) for role, lines in golden.GAMES[name]["lines"].items()}
    judges = {part: lambda cases, n=n: [len(str(case)) % (7 + n) / 9 for case in cases] for n, part in enumerate(parts)}
    return {**players, VERIFIER: Panel(**judges)} if judges else players


def told(episodes: list[Episode]) -> list[Any]:
    return [
        ([(t.seat, t.observation, t.action.move, t.group) for t in e.turns], e.case, e.verdict, e.returns, e.forfeit)
        for e in episodes
    ]


@pytest.mark.parametrize("wording", ["full", "short"])
@pytest.mark.parametrize("name", golden.GAMES)
def test_batched_is_solo(name: str, wording: str) -> None:
    game = shipped.raw(name, wording=wording)
    branch = golden.GAMES[name]["branch"]
    alone = rollout([deepcopy(game)], seats(name, game.parts), branch, seed=9)
    together = rollout([deepcopy(game) for _ in range(4)], seats(name, game.parts), branch, seed=9)
    cohorts = rollout([deepcopy(game) for _ in range(4)], seats(name, game.parts), branch, seed=9, cohorts=2)
    assert told(together)[: len(alone)] == told(alone)
    assert told(cohorts) == told(together) and len(together) > len(alone)
