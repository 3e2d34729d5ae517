"""What the tests of distillation share: a game with a teacher's lesson in it, and gradients of plain formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from learners.distill import Distill
from models.engine import Engine
from selfplay.types import VERIFIER, Action, Completion, Episode, Turn
from tests.helpers import chat, make_engine
from tests.test_policy_gradient import say

QUESTIONS = ["one", "a longer question", "why?", "one"]
LESSONS = ["1", "an answer of a teacher", "so", "1"]
METHODS: dict[str, dict[str, Any]] = {
    "sequence": {"text": "lesson"},
    "gkd": {"text": "lesson"},
    "on_policy": {},
}


def teacher(seed: int = 5) -> Engine:
    """Another model with the same tokenizer."""
    return make_engine(seed=seed).snapshot()


def games(
    said: list[Completion | None], scores: list[float] | None = None, moves: list[str] | None = None
) -> list[Episode]:
    """A game per question: a teacher's lesson in a slot, and the Solver's turn with or without its own tokens."""
    made: list[Episode] = []
    for i, (question, lesson) in enumerate(zip(QUESTIONS, LESSONS, strict=True)):
        own = said[i]
        move = own.text if own else (moves or LESSONS)[i]
        asked = Turn("challenger", "challenger_0", chat("Ask."), Action(question), 0)
        answered = Turn("solver", "solver_0", chat(question), Action(move, own), 1 + i)
        verdict = {"score": scores[i] if scores else 1.0}
        judged = Turn(VERIFIER, "verifier_0", {}, Action(verdict), 9 + i)
        case = {"query": question, "answer": move, "reference": "", "lesson": lesson}
        returns = {"challenger": 0.0, "solver": verdict["score"]}
        made.append(Episode((asked, answered, judged), returns, case, verdict, game="distill_v0"))
    return made


def own(engine: Engine, seed: int = 1) -> list[Episode]:
    return games(list(say(engine, QUESTIONS, seed)))


def make(method: str, engine: Engine, tutor: Engine | None = None, **options: Any) -> Distill:
    tutor = None if method == "sequence" else tutor or teacher()
    return Distill(engine, tutor, **{"method": method, "lr": 1e-3, **METHODS[method], **options})


def tables(engine: Engine, said: Completion) -> Tensor:
    """The whole distributions (T, V) behind a completion, by an unpadded pass of the plain model."""
    ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
    start = len(said.prompt_ids) - 1
    return engine.model(input_ids=ids).logits[0, start : start + len(said.token_ids)]


def slope(engine: Engine, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in engine.model.named_parameters() if p.requires_grad}
    found = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    return found
