"""Whole distributions of two models, compared a chunk of tokens at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from learners.distributions import check_same_tokens, compare, token_logprobs
from learners.divergences import forward_kl, reverse_kl
from learners.passes import Passes
from models import scoring
from tests.distilling import QUESTIONS, slope, tables, teacher
from tests.helpers import make_engine
from tests.test_policy_gradient import assert_close, say


@pytest.mark.parametrize("style", ["llama", "gemma3"])
@pytest.mark.parametrize("at_once", [1, 3 * 300, 1 << 24])
def test_chunks_change_nothing(style: str, at_once: int) -> None:
    """From one token at a time to all: values and gradients; Gemma's head caps its logits."""
    engine, tutor = make_engine(style), make_engine(style, seed=5).snapshot()
    said = say(engine, QUESTIONS, 1)
    expected = torch.cat(
        [reverse_kl(tables(tutor, c).log_softmax(-1), tables(engine, c).log_softmax(-1)) for c in said]
    )
    passes, others = Passes(engine, share=False), Passes(tutor)
    with passes.running(64):
        found_BT = compare(passes, others, said, said, reverse_kl, at_once=at_once)
        got = slope(engine, found_BT.sum())
    lengths = [len(c.token_ids) for c in said]
    found = torch.cat([row[:length] for row, length in zip(found_BT, lengths, strict=True)])
    assert torch.allclose(found, expected, atol=1e-5)
    assert_close(got, slope(engine, expected.sum()), 1e-5)
    scored_BT = token_logprobs(others, said, at_once=at_once)
    with torch.no_grad():
        assert torch.allclose(scored_BT, tutor.logprobs(said)[0], atol=1e-5)


def test_few_logits_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call of a head makes more than was allowed, forward or backward."""
    engine, tutor = make_engine(), teacher()
    made, head = [], scoring.own_head

    def look(model: Any, state_ND: Tensor) -> Tensor:
        made.append(len(state_ND))
        return head(model, state_ND)

    monkeypatch.setattr(scoring, "own_head", look)
    said, vocabulary = say(engine, QUESTIONS, 1), engine.model.config.vocab_size
    passes = Passes(engine)
    with passes.running(64):
        compare(passes, Passes(tutor), said, said, forward_kl, at_once=4 * vocabulary).sum().backward()
    tokens = sum(len(c.token_ids) for c in said)
    assert max(made) == 4 and sum(made) == 4 * tokens, "both models, forward and again for the backward pass"


def test_padding_of_an_embedding_is_left_out() -> None:
    """A teacher whose embedding was padded gives some of its mass to ids that are no tokens."""
    engine, tutor = make_engine(tied=False), make_engine(tied=False, seed=5)
    said = say(engine, QUESTIONS, 1)
    passes = Passes(engine)
    with torch.no_grad(), passes.running(64):
        before = compare(passes, Passes(tutor), said, said, reverse_kl)
        tutor.model.resize_token_embeddings(tutor.model.config.vocab_size + 7)
        after = compare(passes, Passes(tutor), said, said, reverse_kl)
    check_same_tokens(engine, tutor)
    assert torch.allclose(before, after, atol=1e-5)
