"""Whole next-token distributions of two models for the same tokens, compared a chunk of tokens at a time.

Shape legend: N completion tokens of all rows, V vocabulary, B rows, T completion tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from learners.passes import Passes
from models.engine import Engine
from models.layout import restrict
from models.scoring import LOGITS, by_chunks, head
from selfplay.types import Completion

Measure = Callable[[Tensor, Tensor], Tensor]
"""From the log-probabilities (N, V) of teacher and student to a number per token, (N,)."""

AT_ONCE = LOGITS // 4
"""Logits of each model that may exist at once: a divergence keeps several tensors of their size, in float32."""


def check_same_tokens(student: Engine, teacher: Engine) -> None:
    """Raises ``ValueError`` unless ``teacher`` gives distributions over the student's own tokens."""
    if not isinstance(teacher, Engine):
        raise ValueError(
            f"learner.teacher={getattr(teacher, 'name', teacher)!r} gives no distributions, only words: "
            "seat it and use learner.method=sequence"
        )
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if ours != theirs:
        raise ValueError(
            f"learner.teacher={teacher.name!r} has another tokenizer than {student.name!r} ({len(theirs)} tokens "
            f"against {len(ours)}), and only distributions over the same tokens can be compared: seat the teacher and "
            "use learner.method=sequence"
        )


def compare(
    student: Passes,
    teacher: Passes,
    said: Sequence[Completion],
    shown: Sequence[Completion],
    measure: Measure,
    *,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    at_once: int = AT_ONCE,
) -> Tensor:
    """``measure`` of both models' distributions at every token: (B, T), 0 outside the completions.

    ``shown[i]`` holds the tokens of ``said[i]`` behind the prompt that the teacher is told. Both logits are divided by
    ``temperature``, the teacher's by ``teacher_temperature`` as well. Differentiable in the student; call it within
    ``student.running``. Ids that one of the two models lacks (padding of its embedding) are left out of both.
    """
    state_ND, rows = student.states(said)
    with torch.no_grad(), teacher.running(_width(shown)):
        other_ND, _ = teacher.states(shown)
    sizes = [passes.engine.model.config.get_text_config().vocab_size for passes in (student, teacher)]
    ids = min(sizes)

    def chunk(state: Tensor, other: Tensor, allowed_NK: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            heat = temperature * teacher_temperature
            teacher_NV = _logprobs(teacher.engine, other, ids, heat, allowed_NK).to(state.device)
        return measure(teacher_NV, _logprobs(student.engine, state, ids, temperature, allowed_NK))

    inputs = (state_ND, other_ND) if rows.allowed_NK is None else (state_ND, other_ND, rows.allowed_NK)
    value_N = by_chunks(chunk, inputs, max(1, at_once // max(sizes)))
    return rows.placed(value_N)


@torch.no_grad()
def token_logprobs(
    passes: Passes, shown: Sequence[Completion], *, temperature: float = 1.0, at_once: int = AT_ONCE
) -> Tensor:
    """log softmax(logits / temperature)[token], (B, T), 0 outside the completions, without gradient."""
    model = passes.engine.model
    with passes.running(_width(shown)):
        state_ND, rows = passes.states(shown)
    ids = model.config.get_text_config().vocab_size

    def chunk(state: Tensor, token: Tensor, allowed_NK: Tensor | None = None) -> Tensor:
        return _logprobs(passes.engine, state, ids, temperature, allowed_NK).gather(1, token[:, None]).squeeze(1)

    logp_N = by_chunks(chunk, (state_ND, *rows.scored), max(1, at_once // ids))
    return rows.placed(logp_N)


def _logprobs(engine: Engine, state_ND: Tensor, ids: int, temperature: float, allowed_NK: Tensor | None) -> Tensor:
    """(N, ``ids``) in float32; -inf for words that were not up for choice."""
    with engine.autocast():
        logits_NV = head(engine.model, state_ND)
    allowed_NK = None if allowed_NK is None else allowed_NK.to(logits_NV.device)
    return restrict(logits_NV[:, :ids].float() / temperature, allowed_NK).log_softmax(-1)


def _width(said: Sequence[Completion]) -> int:
    """Positions of the longest of the rows."""
    return max(len(c.prompt_ids) + len(c.token_ids) for c in said)
