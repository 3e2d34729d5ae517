"""Drawing tokens: the uniforms are a hash of (seed, position), and the draw has the distribution it should have."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import native
from models.decode import batches
from models.sampling import draw, say, uniforms

PROBS = torch.tensor([0.5, 0.25, 0.125, 0.125])
EVEN = (torch.arange(4000) + 0.5) / 4000
"""A grid over [0, 1): the inverse of the cumulative distribution maps it to exact shares, without sampling noise."""


def shares(probs: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> list[float]:
    logits_BV = probs.log().expand(len(EVEN), -1)
    tokens_B, logprobs_B = say(logits_BV, EVEN, temperature, top_p)
    assert torch.allclose(logprobs_B, probs.log()[tokens_B], atol=1e-6), "at temperature 1, whatever it was"
    return [float((tokens_B == token).float().mean()) for token in range(len(probs))]


def test_uniforms_are_uniform() -> None:
    numbers = uniforms(range(200), 200)
    assert numbers.shape == (200, 200) and numbers.dtype == torch.float32
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert (counts - 2000).abs().max() < 5 * 44, "within five deviations, sqrt(40000 x 0.05 x 0.95) = 44"
    assert abs(torch.corrcoef(numbers[:, :2].T)[0, 1].item()) < 0.3, "neighbouring positions are unrelated"
    assert abs(torch.corrcoef(numbers[:2])[0, 1].item()) < 0.3, "neighbouring seeds are unrelated"


@given(seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), count=st.integers(1, 8))
def test_a_row_depends_on_its_seed_and_position_only(seeds: list[int], count: int) -> None:
    together = uniforms(seeds, count)
    for row, seed in enumerate(seeds):
        assert torch.equal(together[row], uniforms([seed], 20)[0, :count])


@pytest.mark.usefixtures("kernels")
def test_shares_are_the_probabilities() -> None:
    assert shares(PROBS) == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=5e-4)


@pytest.mark.usefixtures("kernels")
def test_temperature() -> None:
    """Temperature 0.5 squares the odds: 16 : 4 : 1 : 1; temperature 2 takes their root, 2 : 1.41421 : 1 : 1."""
    assert shares(PROBS, 0.5) == pytest.approx([16 / 22, 4 / 22, 1 / 22, 1 / 22], abs=5e-4)
    root = 4 + 2**0.5
    assert shares(PROBS, 2.0) == pytest.approx([2 / root, 2**0.5 / root, 1 / root, 1 / root], abs=5e-4)
    assert shares(PROBS, 0.0) == shares(PROBS, 0.01) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.5, [1, 0, 0, 0]),
        (0.51, [2 / 3, 1 / 3, 0, 0]),
        (0.75, [2 / 3, 1 / 3, 0, 0]),
        (0.8, [4 / 7, 2 / 7, 1 / 7, 0]),
        (0.99, [0.5, 0.25, 0.125, 0.125]),
        (1e-9, [1, 0, 0, 0]),
    ],
)
def test_top_p_is_the_smallest_set_that_reaches_it(top_p: float, expected: list[float]) -> None:
    found = shares(PROBS, top_p=top_p)
    assert sorted(found, reverse=True) == pytest.approx(expected, abs=5e-4), "of two equal tokens either may stay"


def test_temperature_comes_before_top_p() -> None:
    """At temperature 0.5 the first token has 16/22 = 0.727, so top-p 0.7 leaves it alone; at 1 it would not."""
    assert shares(PROBS, 0.5, 0.7) == [1, 0, 0, 0]
    assert shares(PROBS, 1.0, 0.7)[1] > 0


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 2**-24, 0.5, 1 - 2**-24]))
def test_a_token_without_probability_is_never_drawn(seed: int, uniform: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 5000, generator=generator)
    dead = torch.rand(1, 5000, generator=generator) < 0.9
    dead[0, 0] = dead[0, -1] = True
    dead[0, 7] = False
    logits, chance = logits.masked_fill(dead, float("-inf")), torch.tensor([uniform])
    for temperature in (1.0, 0.3):
        assert not dead[0, int(draw(logits, chance, temperature, 1.0))]
        assert not dead[0, int(say(logits, chance, temperature, 1.0)[0])]


@pytest.mark.parametrize("words", [1, 5, 64, 1000])
def test_kernel_and_torch_draw_the_same(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(words)
    logits, chance = 3 * torch.randn(200, words, generator=generator), torch.rand(200, generator=generator)
    token, logprob = say(logits, chance, 0.8, 1.0)
    monkeypatch.setattr(native, "compiled", lambda: None)
    expected, other = say(logits, chance, 0.8, 1.0)
    assert (token == expected).float().mean() >= 0.99, "rounding may decide where the chance lies between two tokens"
    assert torch.allclose(logprob[token == expected], other[token == expected], atol=1e-5)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_logits_that_are_no_distribution_give_nan(value: float) -> None:
    """The learner refuses them; the index stays inside."""
    token, logprob = say(torch.full((2, 40), value), torch.tensor([0.0, 0.9]), 1.0, 1.0)
    assert token.tolist() == [39, 39] and logprob.isnan().all()


@given(lengths=st.lists(st.integers(1, 50), max_size=30), extra=st.integers(0, 20), budget=st.integers(1, 400))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], extra: int, budget: int) -> None:
    made = batches(lengths, extra, budget)
    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    for batch in made:
        widest = max(lengths[row] for row in batch) + extra
        assert len(batch) == 1 or len(batch) * widest <= budget
    flat = [lengths[row] for batch in made for row in batch]
    assert flat == sorted(flat), "rows of like length stand together"
