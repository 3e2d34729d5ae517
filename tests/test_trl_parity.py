"""Our losses against TRL's own code on the same tensors: value and gradient. Skipped where TRL is not installed.

TRL's trainers compute the loss in one method, whose model is asked for log-probabilities only: it is handed the tensors
here, and everything after that is TRL's.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.aggregation import token_weights
from learners.losses import kl_penalty
from learners.surrogates import Surrogate

pytestmark = pytest.mark.slow

LENGTHS = [3, 7, 1, 5, 7, 2]
LONGEST = 9
BETA = 0.3


@pytest.fixture(autouse=True)
def _no_folder_of_tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest puts this folder on the path, and TRL would take ``tests/vllm`` for the library."""
    here = Path(__file__).resolve().parent
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() != here])


def tensors() -> dict[str, Tensor]:
    """Six completions with ratios between about 0.4 and 2.5, and advantages of both signs, one of them 0."""
    generator = torch.Generator().manual_seed(11)

    def draw() -> Tensor:
        return torch.randn(len(LENGTHS), max(LENGTHS), generator=generator, dtype=torch.float64)

    mask = torch.tensor([[t < n for t in range(max(LENGTHS))] for n in LENGTHS])
    logp = (-1.5 + 0.4 * draw()) * mask
    advantage = torch.tensor([1.3, -0.7, 0.0, 0.4, -2.1, 0.9], dtype=torch.float64)
    return {
        "logp": logp,
        "old": (logp + 0.35 * draw()) * mask,
        "reference": (logp + 0.3 * draw()) * mask,
        "mask": mask,
        "advantage": advantage,
    }


def bare(trainer: Any, given: dict[str, Tensor], logp: Tensor, **settings: Any) -> Any:
    """A trainer of TRL's with its settings and nothing to train: only what its loss reads."""
    accelerate = pytest.importorskip("accelerate")
    it = object.__new__(trainer)
    it.model = SimpleNamespace(training=True)
    it.accelerator = accelerate.Accelerator(cpu=True)
    it.current_gradient_accumulation_steps = 1
    it._metrics = {"train": defaultdict(list)}
    it.aux_loss_enabled = it.use_vllm = it._entropy_bonus_enabled = False
    it.top_entropy_quantile, it.off_policy_mask_threshold = 1.0, None
    it.max_completion_length = LONGEST
    for name, value in settings.items():
        setattr(it, name, value)
    it._get_per_token_logps_and_entropies = lambda *_, **__: (logp, torch.zeros_like(logp), None)
    return it


def inputs(given: dict[str, Tensor]) -> dict[str, Tensor]:
    ids = torch.zeros(len(LENGTHS), 1, dtype=torch.long)
    mask = given["mask"].long()
    return {
        "prompt_ids": ids,
        "prompt_mask": ids + 1,
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": given["advantage"],
        "old_per_token_logps": given["old"],
        "old_logps": (given["old"] * mask).sum(-1),
        "ref_per_token_logps": given["reference"],
        "num_items_in_batch": mask.sum(),
    }


def ours(given: dict[str, Tensor], surrogate: Surrogate, aggregation: str, kl: Any = "none") -> tuple[float, Tensor]:
    logp = given["logp"].clone().requires_grad_()
    loss_B, _ = surrogate(logp, given["old"], given["mask"], given["advantage"])
    loss_B = loss_B + BETA * kl_penalty(logp, given["reference"], kl, old_BT=given["old"])
    weight_B = torch.tensor(
        token_weights(LENGTHS, aggregation, LONGEST if aggregation == "constant" else None), dtype=torch.float64
    )
    loss = (weight_B * loss_B).sum()
    loss.backward()
    assert logp.grad is not None
    return loss.item(), logp.grad * given["mask"]


def theirs(trainer: str, given: dict[str, Tensor], **settings: Any) -> tuple[float, Tensor]:
    trl = pytest.importorskip("trl")
    logp = given["logp"].clone().requires_grad_()
    loss = bare(getattr(trl, trainer), given, logp, **settings)._compute_loss(None, inputs(given))
    loss.backward()
    assert logp.grad is not None
    return loss.item(), logp.grad * given["mask"]


@pytest.mark.parametrize(
    ("loss_type", "level", "surrogate", "aggregation"),
    [
        ("grpo", "token", {"ratio": "token", "clip": "ppo"}, "seq_mean_token_mean"),
        ("dapo", "token", {"ratio": "token", "clip": "ppo", "eps_high": 0.28}, "token_mean"),
        ("bnpo", "token", {"ratio": "token", "clip": "ppo"}, "token_mean"),
        ("dr_grpo", "token", {"ratio": "token", "clip": "ppo"}, "constant"),
        ("grpo", "token", {"ratio": "token", "clip": "ppo", "dual_clip": 1.6}, "seq_mean_token_mean"),
        ("grpo", "sequence", {"ratio": "geometric", "clip": "ppo", "eps_low": 0.02}, "seq_mean_token_mean"),
        ("cispo", "token", {"ratio": "token", "clip": "cispo", "cispo_cap": 1.3}, "token_mean"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kl", ["none", "k3_loss", "k3_times_ratio"])
def test_the_grpo_family(loss_type: str, level: str, surrogate: dict[str, Any], aggregation: str, kl: str) -> None:
    if level == "sequence" and kl == "k3_times_ratio":
        pytest.skip("TRL weighs the KL by the sequence's ratio there; ours weighs every token by its own")
    given, mine = tensors(), Surrogate(**surrogate)
    value, slope = ours(given, mine, aggregation, kl)
    args = SimpleNamespace(use_bias_correction_kl=kl == "k3_times_ratio", delta=mine.dual_clip, steps_per_generation=1)
    high = mine.cispo_cap if loss_type == "cispo" else mine.eps_high
    expected, gradient = theirs(
        "GRPOTrainer",
        given,
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon_low=mine.eps_low,
        epsilon_high=high,
        beta=0.0 if kl == "none" else BETA,
        args=args,
    )
    assert value == pytest.approx(expected, abs=1e-10) and abs(value) > 1e-3
    torch.testing.assert_close(slope, gradient, atol=1e-10, rtol=1e-9)
    assert (slope[given["mask"]] != 0).any()


def test_rloo() -> None:
    given, mine = tensors(), Surrogate("sequence", "ppo")
    value, slope = ours(given, mine, "seq_sum")
    expected, gradient = theirs("RLOOTrainer", given, epsilon_low=0.2, epsilon_high=0.2)
    assert value == pytest.approx(expected, abs=1e-10)
    torch.testing.assert_close(slope, gradient, atol=1e-10, rtol=1e-9)
