"""Self-play pre-training: whose words weigh what, the gradient by hand, and that nothing is lost in a resume."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.corpus import Corpus
from learners.pretrain import Pretrain
from models.engine import Engine
from selfplay.testing import check_learner
from selfplay.types import Completion, Episode
from tests.helpers import make_engine, shared_engine, tree
from tests.test_policy_gradient import assert_close, gradient, say

TEXT = "A small corpus.\nIt has a few lines, and é is in it.\n" * 4
RULES = [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
AGREE = [[0.5, 1.0, 0.25], [1.0, 0.75, 0.0]]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def play(engine: Engine, rules: Any = RULES, agree: Any = AGREE, seed: int = 1) -> list[Episode]:
    """Two beginnings with three fragments each, judged by `score` (rules) and `quality` (agreement)."""
    said = iter(say(engine, [f"go on {i}" for i, row in enumerate(rules) for _ in row], seed))
    return tree(rules, agree, [[next(said) for _ in row] for row in rules])


def make(engine: Engine, corpus: Path, **options: Any) -> Pretrain:
    return Pretrain(engine, corpus, **{"context": 16, "corpus_batch": 4, "lr": 1e-3, **options})


def losses(engine: Engine, said: Completion) -> Tensor:
    """-log p of a completion's tokens, (T,), by an unpadded pass of the plain model."""
    ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
    start = len(said.prompt_ids) - 1
    table = engine.model(input_ids=ids).logits[0, start : start + len(said.token_ids)]
    return -table.log_softmax(-1).gather(1, torch.tensor(said.token_ids)[:, None]).squeeze(1)


def slope(engine: Engine, loss: Tensor) -> dict[str, Tensor]:
    named = dict(engine.model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("options", [{}, {"weights": ["score"]}, {"reweight": 0.5}, {"contrast": True}])
def test_the_gradient_by_hand(text: Path, options: dict[str, Any]) -> None:
    """w is the product of the parts, (.5, 0, .25) and (0, .75, 0), or one of them; the opponent is another model."""
    engine = make_engine()
    free = {"lr": 0.0, "max_grad_norm": math.inf, "share_prompts": False}
    learner = make(engine, text, **options, **free)
    if learner.opponent is not None:
        learner.opponent._take(make_engine(seed=5).snapshot())
    episodes = play(engine)
    windows = Corpus(text, engine, context=16).draw(4)
    corpus_N = torch.cat([losses(engine, window) for window in windows])
    hard_N = torch.ones(len(corpus_N))
    fragments = [e.turns[1].action.completion for e in episodes]
    weights = [r * a for row, more in zip(RULES, AGREE, strict=True) for r, a in zip(row, more, strict=True)]
    if "weights" in options:
        weights = [r for row in RULES for r in row]
    if learner.opponent is not None:
        with torch.no_grad():
            other_N = torch.cat([losses(learner.opponent.engine, window) for window in windows])
            likely = [-float(losses(learner.opponent.engine, c).mean()) for c in fragments if c]
        if "reweight" in options:
            odds_N = torch.sigmoid(corpus_N.detach() - other_N)
            hard_N = 0.5 + 0.5 * odds_N / odds_N.mean()
        else:
            wins = [sum(likely[i] > likely[j] for j in range(i // 3 * 3, i // 3 * 3 + 3)) / 2 for i in range(6)]
            weights = [w * share for w, share in zip(weights, wins, strict=True)]
    terms = [w * losses(engine, c).mean() for w, c in zip(weights, fragments, strict=True) if c]
    expected = 0.7 * (hard_N * corpus_N).mean() + 0.3 * sum(terms) / sum(weights)
    found, metrics = gradient(learner, episodes)
    assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert metrics["pretrain/corpus_loss"] == pytest.approx(corpus_N.mean().item(), abs=1e-5)
    assert metrics["pretrain/fragment_loss"] == pytest.approx(sum(terms).item() / sum(weights), abs=1e-5)
    assert metrics["pretrain/weight_mean"] == pytest.approx(sum(weights) / 6) and metrics["pretrain/mu"] == 0.3
    assert_close(found, slope(engine, expected), 1e-5)
    small = make(make_engine(), text, **options, **free, batch_tokens=16)
    if small.opponent is not None:
        small.opponent._take(make_engine(seed=5).snapshot())
    assert_close(gradient(small, episodes)[0], found, 1e-5)


@pytest.mark.parametrize("kind", ["no episodes", "all wrong", "all void"])
def test_without_fragments_the_corpus_alone_is_learned(kind: str, text: Path) -> None:
    engine = make_engine()
    rules = {"no episodes": RULES, "all wrong": [[0.0] * 3] * 2, "all void": [[math.nan] * 3] * 2}[kind]
    episodes = [] if kind == "no episodes" else play(engine, rules)
    found, metrics = gradient(make(engine, text, lr=0.0, max_grad_norm=math.inf), episodes)
    windows = Corpus(text, engine, context=16).draw(4)
    expected = torch.cat([losses(engine, window) for window in windows]).mean()
    assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-5) and metrics["pretrain/mu"] == 0
    assert all(math.isfinite(value) for value in metrics.values())
    assert_close(found, slope(engine, expected), 1e-5)


def test_an_opponent_that_is_the_model_changes_nothing(text: Path) -> None:
    engine = make_engine()
    plain, _ = gradient(make(engine, text, lr=0.0), [])
    same, _ = gradient(make(engine, text, lr=0.0, reweight=0.5), [])
    assert_close(same, plain, 1e-6)


def test_mu_goes_down_over_the_run(text: Path) -> None:
    engine = make_engine()
    learner = make(engine, text, mu=0.2, mu_final=0.1, steps=4)
    assert [learner.update(play(engine))["pretrain/mu"] for _ in range(5)] == pytest.approx(
        [0.2, 0.175, 0.15, 0.125, 0.1]
    )


def test_the_order_of_the_episodes_means_nothing(text: Path) -> None:
    engine = make_engine()
    episodes = play(engine)
    shuffled = list(episodes)
    random.Random(0).shuffle(shuffled)
    first, metrics = gradient(make(engine, text, lr=0.0, contrast=True, reweight=0.5), episodes)
    second, same = gradient(make(engine, text, lr=0.0, contrast=True, reweight=0.5), shuffled)
    assert metrics == same and all(torch.equal(g, second[name]) for name, g in first.items())


def test_the_contract(text: Path) -> None:
    check_learner(make(make_engine(), text, contrast=True, reweight=0.5), play(shared_engine()))


def test_what_the_rules_allow_is_said_more_often(text: Path) -> None:
    """One token, which a rule accepts when its id is even: from about a half to above .9, beside the corpus."""
    engine = make_engine()
    learner = make(engine, text, lr=3e-3, mu_final=0.3)

    def chance() -> float:
        ids = torch.tensor([engine.encode({"system": "", "user": "Hi"}, "").prompt_ids])
        with torch.no_grad():
            return float(engine.model(input_ids=ids).logits[0, -1].softmax(-1)[::2].sum())

    start, before = chance(), learner.update([])["pretrain/corpus_loss"]
    for step in range(25):
        said = say(engine, ["Hi"] * 32, step, max_tokens=1)
        metrics = learner.update(tree([[float(c.token_ids[0] % 2 == 0) for c in said]], [[1.0] * 32], [said]))
    assert start < 0.7 and chance() > 0.9 and metrics["pretrain/corpus_loss"] < before


def test_resumed_it_goes_on_to_the_byte(text: Path, tmp_path: Path) -> None:
    """Three steps with an opponent that is taken anew every two: weights, moments, cursor, opponent, its age."""
    options = {"contrast": True, "reweight": 0.5, "refresh": 2, "steps": 9}
    engine, other = make_engine(), make_engine(seed=9)
    learner = make(engine, text, **options)
    for seed in (1, 2, 3):
        learner.update(play(engine, seed=seed))
    for part, member in (("model", engine), ("learner", learner)):
        (tmp_path / part).mkdir()
        member.save(tmp_path / part)
    resumed = make(other, text, **options)
    other.load(tmp_path / "model")
    resumed.load(tmp_path / "learner")
    for seed in (4, 5):
        episodes = play(engine, seed=seed)
        assert learner.update(episodes) == resumed.update(episodes)
    assert all(torch.equal(p, q) for (_, p), (_, q) in zip(learner.named, resumed.named, strict=True))


def test_refusals(text: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    wrong: list[tuple[str, dict[str, Any]]] = [
        (r"learner\.mu=1\.0 must be at least 0 and below 1: the corpus is never replaced", {"mu": 1.0}),
        (r"learner\.mu_final=-0\.1 must be at least 0", {"mu_final": -0.1}),
        (r"learner\.reweight=2 is no share", {"reweight": 2}),
        (r"learner\.corpus_batch=0 must be at least 1", {"corpus_batch": 0}),
        (r"learner\.refresh=0 must be at least 1", {"refresh": 0, "contrast": True}),
    ]
    for message, options in wrong:
        with pytest.raises(ValueError, match=message):
            make(engine, text, **options)
    with caplog.at_level(logging.WARNING):
        make(engine, text, mu=0.4)
    assert "more than 0.3 of the loss is the model's own text" in caplog.text
    episodes = play(engine, agree=[[2.0] * 3] * 2)
    for message, learner, played in [
        (
            r"the verdict's 'quality' is 2\.0, and a fragment's weight lies between 0 and 1",
            make(engine, text),
            episodes,
        ),
        (r"learner\.part='rules' is no part of the verdict", make(engine, text, weights=["rules"]), episodes),
        (r"no tokens of the model's own", make(engine, text), tree(RULES, AGREE)),
        (r"learner\.role='writer' never speaks", make(engine, text, role="writer"), episodes),
    ]:
        with pytest.raises(ValueError, match=message):
            learner.update(played)
