"""Every kernel of ours beside the operators of torch that it takes the place of: same call, same numbers, in turns.

    python -m benchmarks.kernels --dtype bfloat16 --rows 128 --positions 4096

Both sides are the code of a run: only ``models.native`` answers one of them that there are no kernels. Decoding attends
in four layers in turn, eight times over: in a run, too, a layer's keys were last read a token ago.
"""

from __future__ import annotations

import copy
import itertools
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from benchmarks.report import Report, parser
from benchmarks.timing import interleaved
from models import native
from models.cache import GrowingLayer
from models.fused import adopt_fused
from models.prompts import Prompts
from models.rotary import rotated
from models.sampling import say, uniforms
from models.scoring import token_logprobs
from models.sibling_weights import score_gradients, score_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = {
    "what": ("what", ""),
    "shape": ("shape", ""),
    "dtype": ("dtype", ""),
    "torch": ("torch, ms", ".3f"),
    "kernel": ("kernel, ms", ".3f"),
    "ratio": ("torch / kernel", ".1f"),
}
Call = Callable[[], object]


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    line.add_argument("--rows", type=int, default=128, help="of a decoding step")
    line.add_argument("--positions", type=int, default=4096, help="of a training pass")
    line.add_argument("--width", type=int, default=128, help="of a hidden state; heads have a quarter of it")
    line.add_argument("--vocab", type=int, nargs="+", default=[512, 32_000])
    line.add_argument("--repeats", type=int, default=30)
    options = line.parse_args(words)
    torch.set_num_threads(options.threads)
    report = Report("kernels", "Kernels beside the operators of torch (medians)", COLUMNS, options)
    if native.compiled() is None:
        report.note("no kernels on this machine: without a C compiler there is nothing to compare")
        report.finish()
        return
    torch.manual_seed(0)
    for dtype, make in itertools.product(options.dtype, (decoding, drawing, siblings, logprobs, norm, gate, rotary)):
        for what, shape, ours, theirs in make(DTYPES[dtype], options):
            seconds = interleaved({"kernel": ours, "torch": _by_torch(theirs)}, options.repeats, warmup=2)
            report.add(what=what, shape=shape, dtype=dtype, ratio=seconds["torch"] / seconds["kernel"],
                       **{side: 1e3 * spent for side, spent in seconds.items()})  # fmt: skip
    report.finish()


Rows = list[tuple[str, str, Call, Call]]


def decoding(dtype: torch.dtype, options: Namespace) -> Rows:
    """One query per row over a prompt of 48 tokens that eight rows share, and 63 tokens of its own."""
    rows, width, layers = options.rows, options.width // 4, 4
    prompts = max(1, rows // 8)
    query = torch.randn(rows, 4, 1, width, dtype=dtype)
    before = [(torch.randn(prompts, 4, 48, width, dtype=dtype),) * 2 for _ in range(layers)]
    shared = Prompts(before, None, torch.arange(rows).div(8, rounding_mode="floor").clamp(max=prompts - 1))

    def step(by_feature: str) -> Call:
        caches = []
        for _ in range(layers):
            cache = GrowingLayer(by_feature)
            cache.take(*[[torch.randn(rows, 4, 63, width, dtype=dtype)] for _ in range(2)])
            caches.append(cache)

        def attend() -> None:
            with torch.inference_mode():
                for layer, cache in [*enumerate(caches)] * 8:
                    shared.attend(layer, query, cache.keys, cache.values, None, 0.2)

        return attend

    theirs = step("values" if dtype == torch.bfloat16 else "")
    return [("decoding attention, 4 layers, 8 steps", f"{rows} x 4 x {width}, 48 + 63", step("keys"), theirs)]


def drawing(dtype: torch.dtype, options: Namespace) -> Rows:
    """A token of every row, and its log-probability; logits are float32 whatever the model's precision."""
    if dtype != torch.float32:
        return []
    chance = uniforms(range(options.rows), 1)[:, 0]
    made: Rows = []
    for words in options.vocab:
        logits = 3 * torch.randn(options.rows, words)
        call = _call(partial(say, logits, chance, 1.0, 1.0))
        made.append(("drawing a token", f"{options.rows} x {words}", call, call))
    return made


def siblings(dtype: torch.dtype, options: Namespace) -> Rows:
    """Softmax of the scores of completions and its gradient, eight of 127 tokens to a prompt of 48."""
    count = max(1, options.positions // (48 + 8 * 127))
    shape = 4 * count, 8, 127
    before, own = torch.randn(*shape, 48, dtype=dtype), torch.randn(*shape, 127, dtype=dtype)
    up, out = (torch.randn(*shape, options.width // 4, dtype=dtype) for _ in range(2))

    def both() -> None:
        weight = score_weights(before.clone(), own.clone(), None)
        score_gradients(weight, (before.clone(), own.clone()), up, out)

    call = _call(both)
    return [("softmax among siblings, both ways", f"{shape[0]} x 8 x 127, 48 + 127", call, call)]


def logprobs(dtype: torch.dtype, options: Namespace) -> Rows:
    made: Rows = []
    for words in options.vocab:
        rows = min(options.positions, (1 << 24) // words)
        logits = torch.randn(rows, words, dtype=dtype, requires_grad=True)
        token = torch.randint(words, (rows,))
        call = _trained(partial(token_logprobs, logits, token), [logits])
        made.append(("log-probabilities, both ways", f"{rows} x {words}", call, call))
    return made


def norm(dtype: torch.dtype, options: Namespace) -> Rows:
    theirs = LlamaRMSNorm(options.width).to(dtype)
    return _module("RMSNorm", theirs, dtype, options)


def gate(dtype: torch.dtype, options: Namespace) -> Rows:
    config = LlamaConfig(hidden_size=options.width, intermediate_size=3 * options.width, hidden_act="silu")
    return _module("gated layer", LlamaMLP(config).to(dtype), dtype, options)


def rotary(dtype: torch.dtype, options: Namespace) -> Rows:
    theirs = getattr(apply_rotary_pos_emb, "__wrapped__", apply_rotary_pos_emb)
    made: Rows = []
    for rows, positions in ((options.rows, 1), (1, options.positions)):
        q, k = (torch.randn(rows, positions, 4, options.width // 4, dtype=dtype).transpose(1, 2) for _ in range(2))
        cos, sin = torch.randn(2, rows, positions, options.width // 4, dtype=dtype)
        calls = [_call(partial(turn, q, k, cos, sin), torch.inference_mode()) for turn in (rotated, theirs)]
        made.append(("rotary embedding", f"{rows} x {positions} x 4 x {options.width // 4}", *calls))
    return made


def _module(what: str, theirs: torch.nn.Module, dtype: torch.dtype, options: Namespace) -> Rows:
    """A decoding step's call, and a training pass's both ways."""
    ours = torch.nn.Sequential(copy.deepcopy(theirs))
    adopt_fused(ours)
    made: Rows = []
    for rows, positions in ((options.rows, 1), (1, options.positions)):
        x = torch.randn(rows, positions, options.width, dtype=dtype, requires_grad=positions > 1)
        shape = f"{rows} x {positions} x {options.width}"
        if positions == 1:
            calls = [_call(partial(module, x), torch.inference_mode()) for module in (ours, theirs)]
            made.append((what, shape, *calls))
        else:
            calls = [_trained(partial(module, x), [x, *module.parameters()]) for module in (ours, theirs)]
            made.append((f"{what}, both ways", shape, *calls))
    return made


def _call(run: Call, context: AbstractContextManager[object] | None = None) -> Call:
    def call() -> object:
        with context or nullcontext():
            return run()

    return call


def _trained(run: Callable[[], Tensor], leaves: list[Tensor]) -> Call:
    def call() -> None:
        out = run()
        torch.autograd.grad(out, leaves, torch.ones_like(out))

    return call


def _by_torch(run: Call) -> Call:
    def call() -> object:
        with patch.object(native, "compiled", lambda: None):
            return run()

    return call


if __name__ == "__main__":
    sys.exit(main())
