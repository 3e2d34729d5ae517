"""The exact entropy as a bonus, against a plain softmax: values and gradients, in chunks of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from learners.entropy import logprobs_and_entropies, with_entropies
from learners.passes import Passes
from models import scoring
from tests.distilling import QUESTIONS, slope, tables
from tests.helpers import make_engine
from tests.test_policy_gradient import assert_close, say


def plain(logits_NV: Tensor, token_N: Tensor) -> tuple[Tensor, Tensor]:
    """The same by autograd alone."""
    table_NV = logits_NV.float().log_softmax(-1)
    return table_NV.gather(1, token_N[:, None]).squeeze(1), -(table_NV.exp() * table_NV).sum(-1)


def test_by_hand() -> None:
    """pi = (.7, .3): H = -.7 log .7 - .3 log .3 = .610864. Its gradient on the first logit is -pi_1 (log pi_1 + H) =
    -.7 (-.356675 + .610864) = -.177932, towards the middle; that of log pi_1 is 1 - .7."""
    logits = torch.tensor([[0.7, 0.3]]).log().requires_grad_()
    logp, found = logprobs_and_entropies(logits, torch.tensor([0]))
    assert (logp.item(), found.item()) == (pytest.approx(-0.356675, abs=1e-6), pytest.approx(0.610864, abs=1e-6))
    assert torch.autograd.grad(found, logits)[0][0].tolist() == pytest.approx([-0.177932, 0.177932], abs=1e-6)
    logp, _ = logprobs_and_entropies(logits, torch.tensor([0]))
    assert torch.autograd.grad(logp, logits)[0][0].tolist() == pytest.approx([0.3, -0.3], abs=1e-6)


@pytest.mark.parametrize("block", [1, 7 * 40, 1 << 20])
def test_the_gradient_is_that_of_a_plain_softmax(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both at once, with an upstream of each token's own; blocks of any size."""
    monkeypatch.setattr(scoring, "_BLOCK", block)
    draw = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(23, 40, generator=draw)).requires_grad_()
    token_N = torch.randint(40, (23,), generator=draw)
    upstream = torch.randn(2, 23, generator=draw)
    slopes = []
    for both in (logprobs_and_entropies, plain):
        values = torch.stack(both(logits, token_N))
        slopes.append((values.detach(), torch.autograd.grad((upstream * values).sum(), logits)[0]))
    for mine, theirs in zip(*slopes, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_words_that_are_ruled_out_are_no_nan() -> None:
    """(0, -inf, 0): two equal words left, log 2 nats, and nothing pulls at any of them."""
    logits = torch.tensor([[0.0, -torch.inf, 0.0]], requires_grad=True)
    logp, found = logprobs_and_entropies(logits, torch.tensor([2]))
    assert found.item() == pytest.approx(0.693147, abs=1e-6) and logp.item() == pytest.approx(-0.693147, abs=1e-6)
    (logp + found).sum().backward()
    assert logits.grad is not None and logits.grad[0].tolist() == pytest.approx([-0.5, 0.0, 0.5], abs=1e-6)


@pytest.mark.parametrize("style", ["llama", "gemma3"])
@pytest.mark.parametrize("at_once", [1, 3 * 300, 1 << 24])
def test_chunks_change_nothing(style: str, at_once: int) -> None:
    """From one token at a time to all, through a whole model; Gemma's head caps its logits."""
    engine = make_engine(style)
    said = say(engine, QUESTIONS, 1)
    parts = [plain(tables(engine, c), torch.tensor(c.token_ids)) for c in said]
    passes = Passes(engine)
    with passes.running(64):
        logp_BT, mask_BT, entropy_BT = with_entropies(passes, said, at_once=at_once)
        got = slope(engine, logp_BT.sum() + 0.5 * entropy_BT.sum())
        usual_BT, _ = passes.logprobs(said)
    assert torch.allclose(logp_BT, usual_BT, atol=1e-6), "as a pass without entropies scores them"
    for place, (logp_T, entropy_T) in enumerate(parts):
        assert torch.allclose(logp_BT[place][mask_BT[place]], logp_T, atol=1e-5)
        assert torch.allclose(entropy_BT[place][mask_BT[place]], entropy_T, atol=1e-5)
    assert not entropy_BT[~mask_BT].any()
    wanted = sum(logp_T.sum() + 0.5 * entropy_T.sum() for logp_T, entropy_T in parts)
    assert isinstance(wanted, Tensor)
    assert_close(got, slope(engine, wanted), 2e-5)


def test_few_logits_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call of the head makes more than was allowed, forward or backward."""
    engine = make_engine()
    made, head = [], scoring.own_head

    def look(model: Any, state_ND: Tensor) -> Tensor:
        made.append(len(state_ND))
        return head(model, state_ND)

    monkeypatch.setattr(scoring, "own_head", look)
    said, passes = say(engine, QUESTIONS, 1), Passes(engine)
    with passes.running(64):
        _, _, entropy_BT = with_entropies(passes, said, at_once=4 * engine.model.config.vocab_size)
        entropy_BT.sum().backward()
    tokens = sum(len(c.token_ids) for c in said)
    assert max(made) == 4 and sum(made) == 2 * tokens, "forward, and again for the backward pass"
