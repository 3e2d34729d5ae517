"""Log-probabilities of completions, with gradient: rows without a hole, and logits for completion tokens only.

A row is its prompt followed at once by its completion, padded on the right. Attention is causal, so padding that comes
last is seen by nobody: no mask, and positions count from 0. Or each distinct prompt is read once, with its completions
beside each other (``models.siblings``). The model's trunk runs once; of its hidden states only
those that predict a completion token reach the head. Where the logits would be many, the head runs in chunks that the
backward pass computes again, so that they never exist at once.

Shape legend: B rows, L positions, T completion tokens of the longest row, N completion tokens of all rows, D hidden
size, V vocabulary.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from models.cache import decode_cache, grows
from models.layout import Rows, lay_out, restrict
from models.native import kernel
from models.sibling_attention import NAME as SIBLINGS
from selfplay.types import Completion

log = logging.getLogger(__name__)

LOGITS = 1 << 26
"""Logits that may exist at once, with their gradient: 128 MiB each in bfloat16. Beyond that, chunks."""
_BLOCK = 1 << 20
"""Logits that are turned into float32 at once: 4 MiB stay in a core's cache."""

_separable: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_sharing: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def states(
    model: PreTrainedModel,
    completions: Sequence[Completion],
    *,
    trunk: Callable[..., Any] | None = None,
    multiple: tuple[int, int] = (1, 1),
    packed: bool = False,
    shared: bool = False,
) -> tuple[Tensor, Rows]:
    """What predicts every completion token, (N, D), and where it stands: hidden states, or, of a model without a head
    of its own, logits (N, V). ``head`` turns either into logits.

    ``trunk`` stands in for the model's own (a compiled one); ``multiple``, ``packed`` and ``shared`` as in ``lay_out``,
    the last for a model that ``can_share`` and runs the attention ``SIBLINGS``.
    """
    rows = lay_out(completions, model.device, multiple, packed, shared)
    inputs: dict[str, Any] = {"input_ids": rows.ids_BL, "use_cache": False}
    if rows.position_BL is not None:
        inputs["position_ids"] = rows.position_BL
    if rows.siblings is not None:
        inputs["siblings"] = rows.siblings
    if has_own_head(model):
        made_BLD = (model.base_model if trunk is None else trunk)(**inputs).last_hidden_state
    else:
        made_BLD = model(**inputs).logits
    return made_BLD.flatten(0, 1).index_select(0, rows.predicts_N), rows


def score(
    model: PreTrainedModel, completions: Sequence[Completion], *, logits: int = LOGITS, **layout: Any
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T) of the completions' tokens at temperature 1, 0 outside the mask (B, T) of real tokens.

    Differentiable unless called under ``torch.no_grad``; precision is the caller's autocast, the result float32.
    ``layout`` as ``states`` takes it; ``logits`` bounds those that exist at once.
    """
    state_ND, rows = states(model, completions, **layout)

    def chunk(state: Tensor, *scored: Tensor) -> Tensor:
        return token_logprobs(head(model, state), *scored)

    size = logits // model.config.get_text_config().vocab_size if has_own_head(model) else len(rows.token_N)
    logp_N = by_chunks(chunk, (state_ND, *rows.scored), max(1, size))
    return rows.placed(logp_N), rows.mask_BT


def head(model: PreTrainedModel, state_ND: Tensor) -> Tensor:
    """Logits (N, V) of what ``states`` gave."""
    return own_head(model, state_ND) if has_own_head(model) else state_ND


def by_chunks(chunk: Callable[..., Tensor], inputs: tuple[Tensor, ...], size: int) -> Tensor:
    """``chunk`` of ``size`` rows of the inputs at a time, computed again for the backward pass; nothing in it may be
    random: no state of a generator is kept."""
    if len(inputs[0]) <= size:
        return chunk(*inputs)
    parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk(*part) for part in parts])
    return torch.cat([checkpoint(chunk, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def has_own_head(model: PreTrainedModel) -> bool:
    """Whether the model is a trunk and a head that can be called apart, tried once per model on four tokens."""
    if model not in _separable:
        _separable[model] = _try_head(model)
        if not _separable[model]:
            log.info("%s has no head of its own: logits are made for prompts, too", type(model).__name__)
    return _separable[model]


def can_share(model: PreTrainedModel) -> bool:
    """Whether the model scores siblings beside each other as it scores them one by one, tried once per model."""
    if model not in _sharing:
        _sharing[model] = grows(decode_cache(model.config)) and has_own_head(model) and _try_siblings(model)
        if not _sharing[model]:
            log.info("%s reads a prompt once for each of its completions", type(model).__name__)
    return _sharing[model]


def known_as(copied: PreTrainedModel, model: PreTrainedModel) -> None:
    """``copied`` is a copy of ``model``: what was tried with the one holds for the other and is not tried again."""
    for tried in (_separable, _sharing):
        if model in tried:
            tried[copied] = tried[model]


def own_head(model: PreTrainedModel, hidden_ND: Tensor) -> Tensor:
    """Logits (N, V) of hidden states, by whatever the model does after its trunk: scaling and soft-capping included.

    The model's ``forward`` runs on a shallow copy whose trunk gives back what it is given. Weights are shared and the
    model itself is not touched, so that another thread may sample from it meanwhile.
    """
    headed = copy.copy(model)
    headed._modules = {**model._modules, model.base_model_prefix: _Echo()}
    return headed(inputs_embeds=hidden_ND[None], use_cache=False).logits.squeeze(0)  # no copy, unlike an index


def token_logprobs(logits_NV: Tensor, token_N: Tensor, allowed_NK: Tensor | None = None) -> Tensor:
    """log softmax(logits)[token], (N,) in float32, over the words of ``allowed_NK`` (``Rows``) where it is given. Keeps
    the logits as they are for the backward pass, and no copy."""
    return _TokenLogprobs.apply(logits_NV, token_N, allowed_NK)  # type: ignore[no-any-return]


class _TokenLogprobs(torch.autograd.Function):
    """The gradient is (onehot - softmax) times the upstream one; both directions go through ``_BLOCK`` logits at a
    time, which is also faster than a log-softmax: nothing of size N x V in float32 leaves the cache."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, token_N: Tensor, allowed_NK: Tensor | None) -> Tensor:
        logp_N = torch.empty(len(token_N), dtype=torch.float32, device=logits_NV.device)
        total_N = torch.empty_like(logp_N)
        for rows in blocks(logits_NV):
            block = _restricted(logits_NV, allowed_NK, rows)
            total_N[rows] = _logsumexp(block)
            logp_N[rows] = block.gather(1, token_N[rows, None]).squeeze(1) - total_N[rows]
        ctx.save_for_backward(logits_NV, token_N, total_N, allowed_NK)
        return logp_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        logits_NV, token_N, total_N, allowed_NK = ctx.saved_tensors
        gradient_NV = torch.empty_like(logits_NV, memory_format=torch.contiguous_format)
        upstream_N = upstream_N.float().contiguous()
        for rows in blocks(logits_NV):
            block = _restricted(logits_NV, allowed_NK, rows)
            _gradient(block, total_N[rows], token_N[rows], upstream_N[rows], gradient_NV[rows])
        return gradient_NV, None, None


def _logsumexp(block_NV: Tensor) -> Tensor:
    run = kernel("logsumexp", block_NV)
    if run is None:
        return block_NV.float().logsumexp(-1)
    total_N = block_NV.new_empty(len(block_NV), dtype=torch.float32)
    run(block_NV.contiguous(), total_N, *block_NV.shape)
    return total_N


def _gradient(block_NV: Tensor, total_N: Tensor, token_N: Tensor, upstream_N: Tensor, out_NV: Tensor) -> None:
    """Of the tokens' log-probabilities, into ``out_NV``: upstream (onehot - softmax)."""
    run = kernel("logprob_gradients", block_NV, out_NV)
    if run is not None:
        run(block_NV.contiguous(), total_N, token_N.contiguous(), upstream_N, out_NV, *block_NV.shape)
        return
    gradient = block_NV.float().sub(total_N[:, None]).exp_().mul_(-upstream_N[:, None])
    out_NV.copy_(gradient.scatter_add_(1, token_N[:, None], upstream_N[:, None]))


class _Said(BaseModelOutputWithPast):
    """A trunk's output of hidden states; whatever else a family's own output has is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Echo(nn.Module):
    """In the trunk's place: hidden states in, the same hidden states out."""

    def forward(self, input_ids: Any = None, *_: Any, inputs_embeds: Tensor | None = None, **__: Any) -> _Said:
        return _Said(last_hidden_state=inputs_embeds)  # type: ignore[arg-type]


@torch.no_grad()
def _try_head(model: PreTrainedModel) -> bool:
    if model.base_model is model or model.base_model_prefix not in model._modules:
        return False
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    whole = model(input_ids=ids, use_cache=False).logits[0]
    try:
        apart = own_head(model, model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        log.info("%s cannot take hidden states (%s)", type(model).__name__, error)
        return False
    return apart.shape == whole.shape and torch.allclose(apart, whole, atol=1e-3, rtol=1e-3, equal_nan=True)


@torch.no_grad()
def _try_siblings(model: PreTrainedModel) -> bool:
    """Two prompts with two completions each: a layer that mixes positions, or lets attention know nothing of its
    siblings, gives itself away."""
    size = model.config.get_text_config().vocab_size
    said = [
        Completion("", (p, 1 + p, 2)[: 3 - p], (3 + t, 4, 5 + p, 6), (), "stop") for p in range(2) for t in range(2)
    ]
    said = [replace(c, prompt_ids=_within(c.prompt_ids, size), token_ids=_within(c.token_ids, size)) for c in said]
    alone = torch.cat([score(model, [c])[0] for c in said])
    loaded = model.config._attn_implementation
    try:
        model.set_attn_implementation(SIBLINGS)
        together, _ = score(model, said, shared=True)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        log.info("%s cannot attend among siblings (%s)", type(model).__name__, error)
        return False
    finally:
        model.set_attn_implementation(loaded)
    return torch.allclose(alone, together, atol=1e-4, rtol=1e-4)


def _within(ids: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(token % size for token in ids)


def _restricted(logits_NV: Tensor, allowed_NK: Tensor | None, rows: slice) -> Tensor:
    return restrict(logits_NV[rows], None if allowed_NK is None else allowed_NK[rows])


def floats(logits_NV: Tensor, allowed_NK: Tensor | None, rows: slice) -> Tensor:
    """A block of the logits in float32, -inf for words that were not up for choice; never to be changed in place."""
    return _restricted(logits_NV, allowed_NK, rows).float()


def blocks(logits_NV: Tensor) -> list[slice]:
    """Rows of the logits, so many at a time as are turned into float32 at once."""
    step = max(1, _BLOCK // logits_NV.shape[1])
    return [slice(start, start + step) for start in range(0, logits_NV.shape[0], step)]
