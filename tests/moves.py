"""What the tests of legal moves share: how likely a move is by plain passes over the tree of all moves, and games that
are one choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.engine import Engine
from selfplay.types import Action, Completion, Episode, Turn
from tests.helpers import chat
from tests.test_policy_gradient import say

MOVES = ["5", "50", "505", "check", "call", "raise"]
"""Prefixes of each other, a fork behind a common letter, and one that stands alone."""


def tokens(engine: Engine, move: str) -> tuple[int, ...]:
    return engine.encode(chat(""), move).token_ids  # the end of sequence included


def steps(engine: Engine, told: dict[str, str], moves: Sequence[str], move: str, heat: float = 1.0) -> list[Tensor]:
    """Of every token of ``move`` its log-probability among what some move goes on with: plain, unpadded passes."""
    prompt, own = engine.encode(told, move).prompt_ids, tokens(engine, move)
    found: list[Tensor] = []
    for t, token in enumerate(own):
        rivals = sorted({tokens(engine, m)[t] for m in moves if tokens(engine, m)[:t] == own[:t]})
        logits = engine.model(input_ids=torch.tensor([[*prompt, *own[:t]]])).logits[0, -1]
        found.append((logits[rivals] / heat).log_softmax(-1)[rivals.index(token)])
    return found


@torch.no_grad()
def chances(engine: Engine, told: dict[str, str], moves: Sequence[str], heat: float = 1.0) -> dict[str, float]:
    return {move: math.exp(sum(map(float, steps(engine, told, moves, move, heat)))) for move in moves}


def pick(
    engine: Engine, asked: Sequence[str], legal: Sequence[Sequence[str]], heat: float = 1.0, first: int = 0
) -> list[Completion]:
    seeds = range(first, first + len(asked))
    return engine.choose([chat(text) for text in asked], legal, temperature=heat, seeds=seeds)


def mixed(engine: Engine) -> list[Completion]:
    """Moves that were chosen, and free words beside them, some behind the same prompts."""
    asked = ["one", "two", "one", "three", "two", "one"]
    return [*pick(engine, asked, [MOVES, MOVES[:4], MOVES] * 2, heat=2.0), *say(engine, asked[:3], 1)]


def slope(engine: Engine, value: Tensor) -> dict[str, Tensor]:
    named = [(name, p) for name, p in engine.model.named_parameters() if p.requires_grad]
    return dict(zip([name for name, _ in named], torch.autograd.grad(value, [p for _, p in named]), strict=True))


BANDIT = ["left", "right"]


def game(engine: Engine, seed: int = 1, moves: Sequence[str] = BANDIT, count: int = 16) -> list[Episode]:
    """A bandit: one turn of ``moves``, of which the first pays 0, the last 1, and the others something between."""
    said = pick(engine, ["Choose."] * count, [moves] * count, first=1_000 * seed)
    turns = [
        Turn("solver", "solver_0", chat("Choose."), Action(one.text, one if one.token_ids else None), 0) for one in said
    ]
    return [
        Episode((t,), {"solver": moves.index(t.action.move) / max(len(moves) - 1, 1)}, {}, {}, game="bandit_v0")
        for t in turns
    ]
