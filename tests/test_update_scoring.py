"""Rows without a hole, logits where they are needed, chunks, packing: the same log-probabilities and gradients as one
plain forward pass per completion, over seven families, tied and untied."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from models import scoring, siblings
from models.scoring import can_share, has_own_head, lay_out, own_head, score, token_logprobs
from models.sibling_attention import NAME as SIBLINGS
from models.siblings import beside
from selfplay.types import Completion

VOCABULARY = 61
SHAPE: dict[str, Any] = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, initializer_range=0.3, pad_token_id=None, bos_token_id=None, eos_token_id=1,
)  # fmt: skip
WINDOW: dict[str, Any] = dict(sliding_window=8, layer_types=["sliding_attention", "full_attention"], head_dim=8)
CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, SHAPE),
    "qwen2": (Qwen2Config, SHAPE),
    "qwen3": (Qwen3Config, SHAPE | {"head_dim": 8}),
    "gemma2": (Gemma2Config, SHAPE | WINDOW | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "gemma3": (Gemma3TextConfig, SHAPE | WINDOW),
    "granite": (GraniteConfig, SHAPE | {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "cohere": (CohereConfig, SHAPE | {"logit_scale": 0.25}),
    "gpt2": (GPT2Config, {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
    "gpt_neox": (GPTNeoXConfig, SHAPE | {"max_position_embeddings": 64}),
}  # fmt: skip
FAMILIES = [
    (name, tied) for name in CONFIGS for tied in ((True, False) if name in ("llama", "qwen2", "gpt2") else (True,))
]
SHARING = {"llama", "qwen2", "qwen3", "granite", "cohere", "gpt2", "gpt_neox"}
"""The families without windows and without soft-capped attention."""
SIZES = [(3, 5), (7, 1), (1, 9), (12, 4), (3, 5), (12, 1), (3, 2), (4, 1)]
"""Tokens of the prompt and of the completion, per row; prompts of the same length are the same."""


@cache
def shared_model(name: str, tied: bool) -> PreTrainedModel:
    kind, options = CONFIGS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Auto.from_config(kind(**options, tie_word_embeddings=tied)).eval()


@cache
def completions() -> list[Completion]:
    draw = torch.Generator().manual_seed(3)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, VOCABULARY, (count,), generator=draw).tolist())

    prompts = {length: ids(length) for length, _ in SIZES}
    return [Completion("", prompts[length], ids(said), (), "stop") for length, said in SIZES]


def plain(model: PreTrainedModel) -> list[Tensor]:
    """One unpadded pass of the model per completion, every logit, a log-softmax: nothing shared with the scorer."""
    found = []
    for c in completions():
        logits = model(input_ids=torch.tensor([[*c.prompt_ids, *c.token_ids]])).logits[0].log_softmax(-1)
        start = len(c.prompt_ids) - 1
        found.append(torch.stack([logits[start + t, token] for t, token in enumerate(c.token_ids)]))
    return found


def gradients(model: PreTrainedModel, rows: list[Tensor]) -> dict[str, Tensor]:
    """Of a loss that weighs every token differently."""
    model.zero_grad(set_to_none=True)
    sum((row * torch.linspace(-1, 2, len(row))).sum() for row in rows).backward()  # type: ignore[union-attr]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: PreTrainedModel, logp_BT: Tensor, mask_BT: Tensor) -> None:
    rows = [logp_T[mask_T] for logp_T, mask_T in zip(logp_BT, mask_BT, strict=True)]
    assert [len(row) for row in rows] == [said for _, said in SIZES] and not logp_BT[~mask_BT].any()
    found, expected = gradients(model, rows), plain(model)
    for row, other in zip(rows, expected, strict=True):
        torch.testing.assert_close(row, other, atol=1e-5, rtol=1e-5)
    wanted = gradients(model, expected)
    assert found.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for g in wanted.values())
    assert largest > 0.1, "there is a gradient to compare"
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).abs().max()) < 3e-5 * largest, name


@pytest.mark.parametrize(("name", "tied"), FAMILIES)
@pytest.mark.parametrize(
    "how",
    [{}, {"logits": 4 * VOCABULARY}, {"multiple": (4, 16)}, {"packed": True}],
    ids=["padded", "chunked", "rounded", "packed"],
)
def test_the_same_as_one_plain_pass_per_completion(name: str, tied: bool, how: dict[str, Any]) -> None:
    model = shared_model(name, tied)
    assert has_own_head(model), "none of these families needs the logits of a prompt"
    assert_same(model, *score(model, completions(), **how))


@pytest.mark.parametrize(("name", "tied"), FAMILIES)
@pytest.mark.parametrize("how", [{}, {"multiple": (4, 16)}, {"logits": 4 * VOCABULARY}], ids=["", "rounded", "chunked"])
@pytest.mark.parametrize("waste", [1.0, 1.5, 100.0])
def test_a_prompt_is_read_once_for_all_of_its_completions(
    name: str, tied: bool, how: dict[str, Any], waste: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings, "_WASTE", waste)
    model = shared_model(name, tied)
    assert can_share(model) is (name in SHARING)
    if name in SHARING:
        loaded = model.config._attn_implementation
        model.set_attn_implementation(SIBLINGS)
        found = score(model, completions(), shared=True, **how)
        model.set_attn_implementation(loaded)
        assert_same(model, *found)


def test_siblings_beside_each_other() -> None:
    """Prompts [5 6] twice and [7]: read once each, with [8] and [3 4] behind the first; the first token of a
    completion is predicted at the end of its prompt. The last position is padding."""
    said = [
        Completion("", (5, 6), (8, 9), (), "stop"),
        Completion("", (7,), (1,), (), "stop"),
        Completion("", (5, 6), (3, 4, 2), (), "stop"),
    ]
    kin = beside(said, torch.device("cpu"))
    assert kin.ids_N.tolist() == [5, 6, 8, 3, 4, 7, 0] and kin.position_N.tolist() == [0, 1, 2, 2, 3, 0, 0]
    assert kin.predicts_C.tolist() == [1, 2, 5, 1, 3, 4]
    first, second = kin.blocks
    assert first.prompt_UP.tolist() == [[0, 1]] and first.said_UGT.tolist() == [[[2, 6], [3, 4]]]
    assert second.prompt_UP.tolist() == [[5]] and second.said_UGT.shape == (1, 1, 0)
    assert len(beside(said, torch.device("cpu"), 16).ids_N) == 16


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_model_without_a_head_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared_model(name, True)
    monkeypatch.setitem(scoring._separable, model, False)
    assert_same(model, *score(model, completions()))


def test_what_happens_after_the_head_is_kept() -> None:
    """Gemma 2 caps its logits: the head is the model's own, and the bare embedding would be something else."""
    model = shared_model("gemma2", True)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        logits, bare = own_head(model, hidden), model.get_output_embeddings()(hidden)
        torch.testing.assert_close(logits, model(input_ids=ids).logits[0])
    assert bare.abs().max() > 3.5 and logits.abs().max() <= 3.0
    assert type(model.base_model).__name__ == "Gemma2Model", "the model was not touched"


def test_a_head_that_cannot_be_called_apart_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A model that adds something to its logits that the hidden states do not tell."""
    model = copy.deepcopy(shared_model("llama", True))
    inner = model.forward

    def forward(input_ids: Any = None, **options: Any) -> Any:
        out = inner(input_ids=input_ids, **options)
        if input_ids is not None:
            out.logits = out.logits + torch.nn.functional.one_hot(input_ids, VOCABULARY)
        return out

    model.forward = forward  # type: ignore[method-assign]
    with caplog.at_level("INFO"):
        assert not has_own_head(model)
    assert "has no head of its own" in caplog.text


def test_logits_are_made_for_completion_tokens_only() -> None:
    """28 completion tokens in eight rows; in chunks of 10, never more than 10."""
    model, seen = shared_model("llama", False), []
    assert has_own_head(model)
    handle = model.get_output_embeddings().register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape)))
    score(model, completions())
    score(model, completions(), logits=10 * VOCABULARY)
    handle.remove()
    assert seen == [(1, 28, VOCABULARY), (1, 10, VOCABULARY), (1, 10, VOCABULARY), (1, 8, VOCABULARY)]


def test_token_logprobs() -> None:
    """softmax([0, log 3]) = [1/4, 3/4]: log-probability of the second -0.28768, gradient [-1/4, 1/4] times 2."""
    logits = torch.tensor([[0.0, 1.0986123]], requires_grad=True)
    logp = token_logprobs(logits, torch.tensor([1]))
    assert logp.item() == pytest.approx(-0.28768, abs=5e-6)
    (2 * logp).sum().backward()
    assert logits.grad is not None and logits.grad.tolist()[0] == pytest.approx([-0.5, 0.5], abs=1e-6)


def test_token_logprobs_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(23, 11, generator=draw, requires_grad=True)
    token, weight = torch.randint(0, 11, (23,), generator=draw), torch.randn(23, generator=draw)
    monkeypatch.setattr(scoring, "_BLOCK", 50)
    found = token_logprobs(logits, token)
    (found * weight).sum().backward()
    ours, logits.grad = logits.grad, None
    expected = logits.log_softmax(-1).gather(1, token[:, None]).squeeze(1)
    (expected * weight).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, logits.grad)


def test_the_layout() -> None:
    """Prompts [5 6], [7] and completions [8 9], [1]: the last token of a row is not read, the others predict."""
    said = [Completion("", (5, 6), (8, 9), (), "stop"), Completion("", (7,), (1,), (), "stop")]
    rows = lay_out(said, torch.device("cpu"))
    assert rows.ids_BL.tolist() == [[5, 6, 8], [7, 0, 0]] and rows.position_BL is None
    assert rows.predicts_N.tolist() == [1, 2, 3] and rows.token_N.tolist() == [8, 9, 1]
    assert rows.mask_BT.tolist() == [[True, True], [True, False]]
    rows = lay_out(said, torch.device("cpu"), packed=True)
    assert rows.ids_BL.tolist() == [[5, 6, 8, 7]] and rows.position_BL is not None
    assert rows.position_BL.tolist() == [[0, 1, 2, 0]] and rows.predicts_N.tolist() == [1, 2, 3]
    assert lay_out(said, torch.device("cpu"), (4, 8)).ids_BL.shape == (4, 8)
    with pytest.raises(ValueError, match="a completion has an empty prompt: nothing predicts its first token"):
        lay_out([Completion("", (), (1,), (), "stop")], torch.device("cpu"))
