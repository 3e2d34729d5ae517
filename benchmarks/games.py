"""Runs of a game that somebody looks at after every step, and the policy of a model among legal moves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir

from benchmarks.runs import ROOT
from selfplay.compose import register_resolvers
from selfplay.refill import play_step
from selfplay.seeds import derive
from selfplay.types import Chat, Completion

if TYPE_CHECKING:
    from selfplay.table import Table

Look = Callable[[int, "Table", bool, float], None]
"""Called with the number of steps taken, from 0, with those who sit at the table, whether it was the last step, and the
processor's seconds of all of them."""


def learn(words: Sequence[str], look: Look) -> float:
    """The self-play of ``python main.py <words>``, step by step and in one thread, with ``look`` between the steps and
    nothing written; the processor's seconds that playing and learning took, what is looked at left out."""
    from main import seat_players
    from models.loading import forget

    forget()  # the run before this one has trained its model
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[*words, "runtime.threads=1"])
    table, spent = seat_players(cfg), 0.0
    options: dict[str, Any] = {"cohorts": 1, "max_turns": cfg.max_turns, "watch": _unwatched, "pipeline": None}
    for step in range(cfg.steps + 1):
        look(step, table, step == cfg.steps, spent)
        if step < cfg.steps:
            began = time.process_time()
            table.begin_step()
            seed = derive(cfg.seed, "step", step + 1)
            table.learn(play_step(table, cfg.branch, seed=seed, next_seed=None, **options)[0])
            spent += time.process_time() - began
    return spent


def _unwatched(phase: str) -> AbstractContextManager[None]:
    return nullcontext()


def chances(engine: Any, chats: Sequence[Chat], legal: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """With what chance ``engine.choose`` picks each of the moves ``legal[i]`` after each chat, at temperature 1."""
    import torch

    asked: list[Completion] = []
    for chat, moves in zip(chats, legal, strict=True):
        said = [engine.encode(chat, move) for move in moves]
        ids = [one.token_ids for one in said]
        for one in said:
            fork = [
                sorted({other[t] for other in ids if other[:t] == one.token_ids[:t]}) for t in range(len(one.token_ids))
            ]
            allowed = tuple(map(tuple, fork))
            asked.append(Completion(one.text, one.prompt_ids, one.token_ids, (), "stop", allowed))
    with torch.no_grad():
        logp_BT, mask_BT = engine.logprobs(asked)
    found = iter((logp_BT * mask_BT).sum(-1).tolist())
    return [{move: math.exp(next(found)) for move in moves} for moves in legal]
