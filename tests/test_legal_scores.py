"""Moves that were chosen, scored with gradient: against dense softmaxes over the words that were up for choice, alone
and beside free words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from learners.entropy import logprobs_and_entropies, with_entropies
from learners.passes import Passes
from models import scoring
from models.engine import Engine
from models.layout import drawn, drawn_mask, lay_out
from models.scoring import score, token_logprobs
from selfplay.types import Completion
from tests.helpers import make_engine
from tests.moves import mixed, slope
from tests.test_policy_gradient import assert_close


def by_hand(engine: Engine, said: Completion) -> tuple[Tensor, Tensor]:
    """Log-probabilities (T,) and entropies (T,) by a dense softmax over the allowed words of a plain pass."""
    ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
    logits_TV = engine.model(input_ids=ids).logits[0, len(said.prompt_ids) - 1 : -1]
    rows = []
    for t, token in enumerate(said.token_ids):
        allowed = list(said.allowed[t]) if said.allowed else list(range(logits_TV.shape[1]))
        logp_K = logits_TV[t, allowed].log_softmax(-1)
        rows.append((logp_K[allowed.index(token)], -(logp_K.exp() * logp_K).sum()))
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


@pytest.mark.parametrize("style", ["llama", "qwen2", "mistral", "gemma3"])
def test_scored_as_they_were_sampled(style: str) -> None:
    """Chosen moves and free words in one batch, by the engine and by a learner's passes, prompts shared or not."""
    engine = make_engine(style)
    said = mixed(engine)
    with torch.no_grad():
        tables = [engine.logprobs(said), engine.logprobs(said[:2])]
        for share in ("auto", False):
            passes = Passes(engine, share=share)
            with passes.running(64):
                tables.append(passes.logprobs(said))
    for logp_BT, mask_BT in tables:
        for one, logp_T, mask_T in zip(said, logp_BT, mask_BT, strict=False):
            assert logp_T[mask_T].tolist() == pytest.approx(one.logprobs, abs=1e-5)
        assert not logp_BT[~mask_BT].any()


def test_by_hand() -> None:
    """Logits (log 6, log 3, log 1, log 9), of which the first two may be said: 6/9 and 3/9. Entropy: -(2/3 log 2/3 +
    1/3 log 1/3) = .636514. Gradient of log 1/3: onehot - p = (-2/3, 2/3), none elsewhere; of the entropy -p_i (log p_i
    + H): -2/3 (-.405465 + .636514) = -.154033, and its opposite. The second row is free: 9/19."""
    logits = torch.tensor([[6.0, 3.0, 1.0, 9.0]] * 2).log().requires_grad_()
    allowed, token = torch.tensor([[0, 1, 0], [-1, -1, -1]]), torch.tensor([1, 3])
    logp, entropy = logprobs_and_entropies(logits, token, allowed)
    assert logp.tolist() == pytest.approx([math.log(1 / 3), math.log(9 / 19)], abs=1e-6)
    assert token_logprobs(logits, token, allowed).tolist() == logp.tolist()
    assert entropy[0].item() == pytest.approx(0.636514, abs=1e-6)
    free = -sum(x / 19 * math.log(x / 19) for x in (6, 3, 1, 9))
    assert entropy[1].item() == pytest.approx(free, abs=1e-6)
    (found,) = torch.autograd.grad(entropy[0], logits, retain_graph=True)
    assert found[0].tolist() == pytest.approx([-0.154033, 0.154033, 0, 0], abs=1e-6) and not found[1].any()
    (found,) = torch.autograd.grad(logp.sum(), logits)
    assert found[0].tolist() == pytest.approx([-2 / 3, 2 / 3, 0, 0], abs=1e-6)
    assert found[1].tolist() == pytest.approx([-6 / 19, -3 / 19, -1 / 19, 10 / 19], abs=1e-6)


@pytest.mark.parametrize("block", [1, 7 * 40, 1 << 20])
def test_the_gradient_is_the_slope(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against finite differences in float32 of a dense masked softmax in float64; blocks of any size, and a word that
    had to come pulls at nothing."""
    monkeypatch.setattr(scoring, "_BLOCK", block)
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5, 40, generator=random)
    allowed = torch.tensor([[3, 9, 11], [7, 7, 7], [-1, -1, -1], [0, 39, 0], [-1, -1, -1]])
    token, upstream = torch.tensor([9, 7, 8, 39, 0]), torch.randn(2, 5, generator=random)

    def dense(table: Tensor) -> Tensor:
        total = table.new_zeros(())
        for row, ids in enumerate(allowed.tolist()):
            words = sorted(set(ids)) if ids[0] >= 0 else list(range(40))
            logp = table[row, words].log_softmax(-1)
            entropy = -(logp.exp() * logp).sum()
            total = total + upstream[0, row].double() * logp[words.index(int(token[row]))]
            total = total + upstream[1, row].double() * entropy
        return total

    mine = logits.clone().requires_grad_()
    both = torch.stack(logprobs_and_entropies(mine, token, allowed))
    assert float((upstream * both).sum().detach()) == pytest.approx(float(dense(logits.double())), abs=1e-5)
    (found,) = torch.autograd.grad((upstream * both).sum(), mine)
    alone = logits.clone().requires_grad_()
    (single,) = torch.autograd.grad((upstream[0] * token_logprobs(alone, token, allowed)).sum(), alone)
    for row in range(5):
        for word in range(40):
            nudge = torch.zeros(5, 40, dtype=torch.float64)
            nudge[row, word] = 1e-4
            wanted = (dense(logits.double() + nudge) - dense(logits.double() - nudge)) / 2e-4
            assert found[row, word].item() == pytest.approx(wanted.item(), abs=1e-5)
    assert not found[1].any() and not single[1].any() and not single[0, [0, 1, 38]].any()


@pytest.mark.parametrize("style", ["llama", "gemma3"])
@pytest.mark.parametrize("at_once", [1, 3 * 300, 1 << 24])
def test_chunks_change_nothing(style: str, at_once: int) -> None:
    """Log-probabilities, entropies and their gradients through a whole model, from one token at a time to all."""
    engine = make_engine(style)
    said = mixed(engine)
    parts = [by_hand(engine, c) for c in said]
    wanted = sum((logp_T.sum() + 0.5 * entropy_T.sum() for logp_T, entropy_T in parts), torch.zeros(()))
    passes = Passes(engine)
    with passes.running(64):
        logp_BT, mask_BT, entropy_BT = with_entropies(passes, said, at_once=at_once)
        for place, (logp_T, entropy_T) in enumerate(parts):
            assert torch.allclose(logp_BT[place][mask_BT[place]], logp_T, atol=1e-5)
            assert torch.allclose(entropy_BT[place][mask_BT[place]], entropy_T, atol=1e-5)
        assert_close(slope(engine, logp_BT.sum() + 0.5 * entropy_BT.sum()), slope(engine, wanted), 2e-5)
    wanted = sum((by_hand(engine, c)[0].sum() for c in said), torch.zeros(()))
    found, _ = score(engine.model, said, logits=at_once)
    assert_close(slope(engine, found.sum()), slope(engine, wanted), 2e-5)


def test_free_words_are_scored_as_ever() -> None:
    """To the bit, also beside moves that were chosen; and without these nothing is laid out for them."""
    engine = make_engine()
    said = mixed(engine)
    plain = [replace(c, allowed=()) for c in said]
    assert lay_out(plain, torch.device("cpu")).allowed_NK is None
    with torch.no_grad():
        (with_choices, _), (without, _) = engine.logprobs(said), engine.logprobs(plain)
    free = [i for i, c in enumerate(said) if not c.allowed]
    chosen = [i for i, c in enumerate(said) if c.allowed]
    assert free and torch.equal(with_choices[free], without[free])
    assert (with_choices[chosen] >= without[chosen]).all() and not torch.equal(with_choices[chosen], without[chosen])


def test_what_was_allowed_must_fit_the_tokens() -> None:
    for allowed in (((3, 4),), ((3, 4), (6, 7))):
        with pytest.raises(ValueError, match="the completion 'xy' has tokens that are not among those"):
            lay_out([Completion("xy", (1,), (3, 5), (), "stop", allowed)], torch.device("cpu"))


def test_what_had_to_come_counts_for_nothing() -> None:
    said = [
        Completion("a", (1,), (3, 5, 6), (0.0,) * 3, "stop", ((3,), (5, 6), (6, 7))),
        Completion("b", (1,), (3, 5), (0.0,) * 2, "stop"),
    ]
    mask_BT = lay_out(said, torch.device("cpu")).mask_BT
    assert drawn_mask(said, mask_BT).tolist() == [[False, True, True], [True, True, False]]
    assert [drawn(one) for one in said] == [2, 2] and drawn_mask(said[1:], mask_BT) is mask_BT
