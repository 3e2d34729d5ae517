"""Whole next-token distributions of two models for the same tokens, compared a chunk of tokens at a time.

What predicts a token is kept as the trunk's hidden state; logits exist for as many tokens at once as memory allows, and
the backward pass makes them again. Shape legend: N completion tokens of all rows, D hidden size, V vocabulary, B rows,
T completion tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from learners.passes import Passes
from models.engine import Engine
from models.scoring import LOGITS, has_own_head, lay_out, own_head
from models.sibling_attention import NAME as SIBLINGS
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
    state_ND, mask_BT = _states(student, said)
    with torch.no_grad(), teacher.running(_width(shown)):
        other_ND, _ = _states(teacher, shown)
    sizes = [passes.engine.model.config.get_text_config().vocab_size for passes in (student, teacher)]
    ids = min(sizes)

    def chunk(state: Tensor, other: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_NV = _logprobs(teacher.engine, other, ids, temperature * teacher_temperature)
        return measure(teacher_NV.to(state.device), _logprobs(student.engine, state, ids, temperature))

    value_N = _by_chunks(chunk, (state_ND, other_ND), max(1, at_once // max(sizes)))
    return value_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, value_N)


@torch.no_grad()
def token_logprobs(
    passes: Passes, shown: Sequence[Completion], *, temperature: float = 1.0, at_once: int = AT_ONCE
) -> Tensor:
    """log softmax(logits / temperature)[token], (B, T), 0 outside the completions, without gradient."""
    model = passes.engine.model
    with passes.running(_width(shown)):
        state_ND, mask_BT = _states(passes, shown)
    ids = model.config.get_text_config().vocab_size
    token_N = torch.tensor([token for c in shown for token in c.token_ids], device=model.device)

    def chunk(state: Tensor, token: Tensor) -> Tensor:
        return _logprobs(passes.engine, state, ids, temperature).gather(1, token[:, None]).squeeze(1)

    logp_N = _by_chunks(chunk, (state_ND, token_N), max(1, at_once // ids))
    return logp_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, logp_N)


def _by_chunks(chunk: Callable[..., Tensor], inputs: tuple[Tensor, ...], size: int) -> Tensor:
    """``chunk`` of ``size`` rows of the inputs at a time, computed again for the backward pass; nothing in it may be
    random."""
    if len(inputs[0]) <= size:
        return chunk(*inputs)
    parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk(*part) for part in parts])
    return torch.cat([checkpoint(chunk, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def _states(passes: Passes, said: Sequence[Completion]) -> tuple[Tensor, Tensor]:
    """What predicts every completion token, (N, D), and the mask (B, T): hidden states, or, of a model without a head
    of its own, logits."""
    engine, model = passes.engine, passes.engine.model
    attention = model.config._attn_implementation
    rows = lay_out(said, model.device, packed=attention.startswith("flash"), shared=attention == SIBLINGS)
    inputs: dict[str, Any] = {"input_ids": rows.ids_BL, "use_cache": False}
    if rows.position_BL is not None:
        inputs["position_ids"] = rows.position_BL
    if rows.siblings is not None:
        inputs["siblings"] = rows.siblings
    _count(engine, said)
    with engine.autocast():
        own = has_own_head(model)
        made_BLD = model.base_model(**inputs).last_hidden_state if own else model(**inputs).logits
    return made_BLD.flatten(0, 1).index_select(0, rows.predicts_N), rows.mask_BT


def _logprobs(engine: Engine, state_ND: Tensor, ids: int, temperature: float) -> Tensor:
    """(N, ``ids``) in float32."""
    with engine.autocast():
        logits_NV = own_head(engine.model, state_ND) if has_own_head(engine.model) else state_ND
    return (logits_NV[:, :ids].float() / temperature).log_softmax(-1)


def _count(engine: Engine, said: Sequence[Completion]) -> None:
    """Tell the engine's counter of work, as every pass does."""
    spoken, prompted = fmean(len(c.token_ids) for c in said), fmean(len(c.prompt_ids) for c in said)
    again = prompted - sum(map(len, {c.prompt_ids for c in said})) / len(said)
    (engine.work.train if torch.is_grad_enabled() else engine.work.score)(len(said), prompted + spoken, spoken, again)


def _width(said: Sequence[Completion]) -> int:
    """Positions of the longest of the rows."""
    return max(len(c.prompt_ids) + len(c.token_ids) for c in said)
