"""Somebody's words beside a policy gradient: the loss by hand, what it learns, its cursor, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.imitation import imitation_loss, make_imitation
from learners.policy_gradient import PolicyGradient
from models.engine import Engine
from tests.helpers import make_engine, shared_engine
from tests.test_policy_gradient import play


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"prompt": f"question {n}", "reference": "yes" * (n + 1)} for n in range(6)]
    file = tmp_path / "words.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def loss_of(engine: Engine, learner: PolicyGradient) -> float:
    assert learner.imitation is not None
    windows = learner.imitation.draw()
    return float(imitation_loss(learner.step.logprobs([w.completion for w in windows])[0], windows).detach())


def test_it_is_half_of_the_mean_cross_entropy(corpus: Path) -> None:
    """weight 0.5, all six windows: 0.5 / 6 times the sum of each one's mean -log p, long and short ones alike."""
    engine = shared_engine()
    learner = PolicyGradient(engine, sft={"corpus": str(corpus), "weight": 0.5, "batch": 6})
    means: list[float] = []
    for n in range(6):
        said = engine.encode({"system": "", "user": f"question {n}"}, "yes" * (n + 1))
        with torch.no_grad():
            means.append(float(-engine.logprobs([said])[0].sum()) / len(said.token_ids))
    assert loss_of(engine, learner) == pytest.approx(0.5 * sum(means) / 6, rel=1e-5)


def test_the_words_are_learned_beside_the_game(corpus: Path) -> None:
    engine = make_engine(seed=1)
    learner = PolicyGradient(engine, lr=1e-2, sft={"corpus": str(corpus), "weight": 1.0, "batch": 6}, minibatches=2)
    told = [learner.update(play(engine, seed=step)) for step in range(4)]
    assert told[-1]["sft_loss"] < told[0]["sft_loss"] - 0.5 and told[0]["advantage_std/solver"] > 0
    assert learner.imitation is not None and learner.imitation.corpus.epochs == 8


def test_a_step_without_a_signal_learns_nothing(corpus: Path) -> None:
    learner = PolicyGradient(shared_engine(), sft={"corpus": str(corpus)})
    assert learner.update([])["steps_skipped"] == 1.0
    assert learner.imitation is not None and learner.imitation.corpus.epochs == 0


def test_the_cursor_is_kept(corpus: Path, tmp_path: Path) -> None:
    def make() -> PolicyGradient:
        return PolicyGradient(shared_engine(), sft={"corpus": str(corpus), "batch": 4})

    one, two = make(), make()
    assert one.imitation is not None and two.imitation is not None
    one.imitation.draw()
    (tmp_path / "kept").mkdir()
    one.save(tmp_path / "kept")
    two.load(tmp_path / "kept")
    assert two.imitation.draw() == one.imitation.draw()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"corpsu": "x"}, r"learner.sft has no key 'corpsu' \(did you mean corpus\?\)"),
        ({"weight": 1.0}, "learner.sft needs a corpus"),
        ({"corpus": "x", "weight": 0.0}, "weight=0.0 must be above 0"),
        ({"corpus": "x", "batch": 0}, "batch=0 at least 1"),
        ("my.jsonl", r"learner\.sft='my\.jsonl' is no set of keys: write \{corpus: my\.jsonl, "),
    ],
)
def test_refused(keys: Any, sentence: str) -> None:
    assert make_imitation(shared_engine(), None, 0) is None
    with pytest.raises(ValueError, match=sentence):
        make_imitation(shared_engine(), keys, 0)


def test_what_is_wrong_with_its_corpus_is_told_by_its_own_keys(corpus: Path, tmp_path: Path) -> None:
    """``learner.corpus`` and ``learner.context`` are no keys of a policy gradient."""
    (tmp_path / "plain.txt").write_text("plain words", encoding="utf-8")
    plain, rows = str(tmp_path / "plain.txt"), str(corpus)
    with pytest.raises(FileNotFoundError, match=r"^learner\.sft\.corpus='nowhere\.txt': there is no such file$"):
        make_imitation(shared_engine(), {"corpus": "nowhere.txt"}, 0)
    with pytest.raises(ValueError, match=r"^learner\.sft\.says='x' is for rows, and plain\.txt is a text"):
        make_imitation(shared_engine(), {"corpus": plain, "says": "x"}, 0)
    with pytest.raises(ValueError, match=r"^learner\.sft\.context=0 must be 1 or more"):
        make_imitation(shared_engine(), {"corpus": plain, "context": 0}, 0)
    with pytest.raises(ValueError, match=r"words\.jsonl:1: learner\.sft\.says='\{nothing\}' may name prompt, "):
        make_imitation(shared_engine(), {"corpus": rows, "says": "{nothing}"}, 0)
    with pytest.raises(ValueError, match=r"words\.jsonl:1: the chat is longer than learner\.sft\.context=2 tokens"):
        make_imitation(shared_engine(), {"corpus": rows, "context": 2}, 0)
