"""Prompts that several rows continue: what siblings say is what each of them would have said alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models import sampler as sampler_module
from models.engine import Engine
from models.prompts import Prompts
from tests.architectures import build
from tests.test_decode import assert_same, sample


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "qwen3", "gpt2", "gpt-neox", "phi"])
@pytest.mark.parametrize("batch_tokens", [65_536, 700])
def test_siblings_read_their_prompt_together(name: str, batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of four lengths, five answers each, some of which end early: in the smaller budget rows join rows."""
    model, tokenizer = build(name)
    users = [" ".join(f"w{(7 * i + j) % 80}" for j in range(3 + 5 * (i % 4))) for i in range(6) for _ in range(5)]
    attended: list[int] = []
    inner = Prompts.attend
    monkeypatch.setattr(Prompts, "attend", lambda self, *args: (attended.append(self.columns), inner(self, *args))[1])
    together = Engine(model, tokenizer, name=name, batch_tokens=batch_tokens)
    found = sample(together, users, max_tokens=40)
    assert attended and len({len(completion.token_ids) for completion in found}) > 4
    monkeypatch.setattr(sampler_module, "can_share", lambda master: False)
    attended.clear()
    assert_same(found, sample(Engine(model, tokenizer, name=name), users, max_tokens=40))
    assert not attended


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_to_a_prompt_and_to_ones_own(heads: tuple[int, int], masked: bool) -> None:
    """Five rows of three prompts, of 7, 4 and 7 columns, with three columns of their own: as over the whole."""
    draw = torch.Generator().manual_seed(2)

    def states(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, 8, generator=draw)

    queries, keys = heads
    layers = [(states(3, keys, 7), states(3, keys, 7))]
    mask = torch.tensor([[True] * 7, [False] * 3 + [True] * 4, [True] * 7])
    prompt = torch.tensor([2, 0, 1, 0, 0])
    query, key, value = states(5, queries, 1), states(5, keys, 3), states(5, keys, 3)
    own = torch.ones(5, 3, dtype=torch.bool)
    own[1, 0] = own[4, :2] = not masked
    prompts = Prompts(layers, mask, prompt)
    for rows in (torch.arange(5), torch.tensor([1, 2, 4])):
        kept = prompts.keep(rows)
        found = kept.attend(0, query[rows], key[rows], value[rows], own[rows][:, None, None] if masked else None, 0.3)
        whole_keys, whole_values = (
            torch.cat((layers[0][i][prompt], own_), 2)[rows] for i, own_ in enumerate((key, value))
        )
        seen = torch.cat((mask[prompt], own), 1)[rows][:, None, None]
        expected = F.scaled_dot_product_attention(
            query[rows], whole_keys, whole_values, attn_mask=seen, scale=0.3, enable_gqa=True
        )
        torch.testing.assert_close(found, expected.transpose(1, 2))
    assert len(prompts.keep(torch.tensor([1, 4])).layers[0][0]) == 1
    both = kept.join(prompts.keep(torch.tensor([0])))
    assert both.prompt_B.tolist() == [0, 1, 0, 2] and both.columns == 7
