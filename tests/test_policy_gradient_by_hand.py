"""The GRPO family's gradients and steps, written down here a second time: nothing is shared with the learner."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from selfplay.types import Completion, Episode
from tests.distilling import tables
from tests.helpers import make_engine
from tests.test_policy_gradient import QUALITY, SCORE, assert_close, gradient, play
from tests.test_policy_gradient_variants import moved, weights


def logps(engine: Engine, said: Completion) -> Tensor:
    """One unpadded pass of the plain model: nothing shared with the learner."""
    ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
    table = engine.model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(said.prompt_ids) - 1
    return torch.stack([table[start + t, token] for t, token in enumerate(said.token_ids)])


def turns(episodes: list[Episode]) -> dict[str, list[tuple[Completion, float]]]:
    """What LSP's mean-centred advantages are, from the tables that ``play`` has paid by."""
    v, v_q = ([sum(row) / len(row) for row in table] for table in (SCORE, QUALITY))
    centre = sum(q - r for q, r in zip(v_q, v, strict=True)) / len(v)
    found: dict[str, list[tuple[Completion, float]]] = {"challenger": [], "solver": []}
    for i in range(len(SCORE)):
        first = episodes[4 * i].turns[0].action.completion
        assert first is not None
        found["challenger"].append((first, v_q[i] - v[i] - centre))
        for j in range(4):
            answer = episodes[4 * i + j].turns[1].action.completion
            assert answer is not None
            found["solver"].append((answer, SCORE[i][j] + QUALITY[i][j] - v[i] - v_q[i]))
    return found


def token_weight(aggregation: str, length: int, lengths: list[int]) -> float:
    n = len(lengths)
    return {
        "seq_sum": 1 / n,
        "seq_mean_token_mean": 1 / n / length,
        "token_mean": 1 / sum(lengths),
        "constant": 1 / n / 6,
    }[aggregation]


def gain(kind: str, clip: str, logp_T: Tensor, old_T: Tensor, advantage: float) -> Tensor:
    """The term to maximise, per token (T,), written down once more."""
    delta_T = logp_T - old_T
    if kind == "sequence":  # once per sequence: a share for every token
        delta_T, share = delta_T.sum().expand(len(delta_T)), 1 / len(delta_T)
    elif kind == "geometric":
        delta_T, share = delta_T.mean().expand(len(delta_T)), 1.0
    else:
        share = 1.0
    ratio_T = delta_T.exp()
    if clip == "cispo":
        return ratio_T.detach().clamp(max=1.5) * advantage * logp_T
    if clip == "none":
        return share * ratio_T * advantage
    return share * torch.min(ratio_T * advantage, ratio_T.clamp(0.9, 1.2) * advantage)


@pytest.mark.parametrize("aggregation", ["seq_sum", "seq_mean_token_mean", "token_mean", "constant"])
@pytest.mark.parametrize(
    ("kind", "clip"), [("token", "ppo"), ("sequence", "none"), ("geometric", "ppo"), ("token", "cispo")]
)
def test_two_epochs_by_hand(kind: str, clip: str, aggregation: str) -> None:
    """Two plain gradient steps on the same words: the first at a ratio of 1, the second against what was sampled."""
    engine = make_engine()
    episodes = play(engine)
    for _ in range(2):
        loss = torch.zeros(())
        for mates in turns(episodes).values():
            lengths = [len(said.token_ids) for said, _ in mates]
            for said, advantage in mates:
                old_T = torch.tensor(said.logprobs)
                term = gain(kind, clip, logps(engine, said), old_T, advantage).sum()
                loss = loss - token_weight(aggregation, len(said.token_ids), lengths) * term
        loss.backward()
        with torch.no_grad():
            for p in engine.model.parameters():
                if p.grad is not None:
                    p -= 0.05 * p.grad
                    p.grad = None
    options = {"ratio": kind, "clip": clip, "eps_low": 0.1, "cispo_cap": 1.5, "aggregation": aggregation, "epochs": 2}
    options |= {"constant": 6} if aggregation == "constant" else {}
    start = weights(PolicyGradient(make_engine()))
    found, metrics = moved(options, episodes, kl="none")
    expected = {name: (p.detach() - start[name]) / 0.05 for name, p in engine.model.named_parameters()}
    assert_close({name: d / 0.05 for name, d in found.items()}, {name: expected[name] for name in found}, 1e-4)
    if clip == "ppo" and kind == "token" and aggregation == "seq_sum":
        assert metrics["clip_fraction/solver"] > 0, "the second step meets the clip"


def test_the_entropy_by_hand() -> None:
    """Of the solver's tokens alone: the entropy of the whole distribution behind each, summed, per turn, times the
    coefficient."""
    engine = make_engine()
    episodes = play(engine)
    options = {"kl": "none", "lr": 0.0, "max_grad_norm": math.inf}
    plain, _ = gradient(PolicyGradient(engine, **options), episodes)
    found, _ = gradient(PolicyGradient(engine, entropy={"solver": 0.3}, **options), episodes)
    solver = [said for said, _ in turns(episodes)["solver"]]
    loss = torch.zeros(())
    for said in solver:
        table_TV = tables(engine, said).log_softmax(-1)
        loss = loss + 0.3 / len(solver) * (table_TV.exp() * table_TV).sum()
    loss.backward()
    expected = {name: p.grad + plain[name] for name, p in engine.model.named_parameters() if p.grad is not None}
    assert_close(found, expected, 1e-4)
    assert max(float((found[name] - plain[name]).abs().max()) for name in plain) > 0.01
