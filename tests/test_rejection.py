"""Rejection-sampling fine-tuning: what is kept, what is learned from it, and that it goes on where it stopped."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.rejection import Rejection
from models.engine import Engine
from selfplay.testing import check_learner
from selfplay.types import Completion, Episode
from tests.helpers import chat, make_engine, shared_engine
from tests.imitation import (
    answers,
    bandit,
    chance_of_even,
    check_resume,
    close,
    critique,
    cut,
    mute,
    play,
    same,
    say,
    weights,
)
from tests.test_policy_gradient import gradient
from verifiers.sympy_solver import SympySolver

FREE: dict[str, Any] = {"lr": 0.0, "max_grad_norm": math.inf, "epochs": 1}


def cross_entropy(engine: Engine, said: list[Completion]) -> dict[str, Tensor]:
    """The gradient of the mean over tokens, by one unpadded pass of the plain model for each completion."""
    loss, tokens = torch.zeros(()), 0
    for completion in said:
        ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
        table = engine.model(input_ids=ids).logits[0].log_softmax(-1)
        for t, token in enumerate(completion.token_ids):
            loss = loss - table[len(completion.prompt_ids) - 1 + t, token]
        tokens += len(completion.token_ids)
    engine.model.zero_grad()
    (loss / tokens).backward()
    found = {name: p.grad.detach().clone() for name, p in engine.model.named_parameters() if p.grad is not None}
    engine.model.zero_grad(set_to_none=True)
    return found


def kept(episodes: list[Episode], **options: Any) -> tuple[list[str], dict[str, float]]:
    """The texts that a learner keeps of some episodes, sorted, and its metrics."""
    learner = Rejection(make_engine(), archive=1000, **options)
    metrics = learner.update(episodes)
    return sorted(example.said[0].text for example in learner.archived), metrics


# -- what is learned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", ["auto", 1])
def test_the_gradient_is_that_of_the_kept_words(batch_tokens: Any) -> None:
    """Scores of 1: of three questions' answers, three are right. Cut into batches of one row it is the same mean."""
    engine = make_engine()
    episodes = play(engine)
    right = [e.turns[1].action.completion for e in episodes if e.verdict["score"] == 1]
    expected = cross_entropy(engine, [said for said in right if said is not None])
    found, metrics = gradient(Rejection(engine, batch_tokens=batch_tokens, **FREE), episodes)
    assert close(found, expected)
    assert metrics["rejection/right_share"] == 3 / 12 and metrics["rejection/kept"] == 3
    assert metrics["steps_skipped"] == 0 and metrics["grad_norm"] > 0 and metrics["loss"] > 0


def test_the_order_of_the_episodes_changes_nothing() -> None:
    engine, other = make_engine(), make_engine()
    episodes = play(shared_engine(), [[1.0] * 4] * 3)
    options: dict[str, Any] = {"lr": 1e-3, "per_query": 2, "batch_size": 2, "epochs": 2}
    one = Rejection(engine, **options)
    two = Rejection(other, **options)
    assert one.update(episodes) == two.update(random.Random(1).sample(episodes, 12))
    assert same(weights(one), weights(two)), "to the byte: the examples have an order of their own"


def test_epochs_and_batches() -> None:
    """Six kept, three passes by batches of at most four: two steps a pass, of three each."""
    engine = make_engine()
    sizes: list[int] = []
    learner = Rejection(engine, lr=1e-3, epochs=3, batch_size=4, per_query=None)
    take = learner.step.take

    def look(rows: Any, *more: Any) -> Any:
        sizes.append(len(rows))
        return take(rows, *more)

    learner.step.take = look  # type: ignore[method-assign]
    metrics = learner.update(play(engine, [[1.0, 1.0, 0.0, 0.0]] * 3))
    assert sizes == [3, 3] * 3 and metrics["optimizer_steps"] == 6 and engine.version == 6


def test_the_schedule_counts_updates_and_not_optimizer_steps() -> None:
    """Linear to 0 at 4 updates, two optimizer steps in each: both of the third update have the rate 2/4."""
    engine = make_engine()
    learner = Rejection(engine, lr=1.0e-3, schedule="linear", steps=4, epochs=2)
    rates = []
    learner.optimizer.register_step_pre_hook(lambda *_: rates.append(learner.optimizer.param_groups[0]["lr"]))
    for seed in range(4):
        learner.update(play(engine, seed=seed))
    assert rates == pytest.approx([1e-3, 1e-3, 7.5e-4, 7.5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


@pytest.mark.parametrize("kind", ["no episodes", "nothing right", "all void", "nobody's tokens", "truncated"])
def test_nothing_kept_is_a_step_skipped(kind: str) -> None:
    engine = make_engine()
    episodes = {
        "no episodes": list[Episode],
        "nothing right": lambda: play(engine, [[0.5] * 4] * 3),
        "all void": lambda: play(engine, [[math.nan] * 4] * 3),
        "nobody's tokens": lambda: [mute(e) for e in play(engine)],
        "truncated": lambda: [cut(e) for e in play(engine)],
    }[kind]()
    learner = Rejection(engine, lr=0.1, weight_decay=0.1)
    before = weights(learner)
    metrics = learner.update(episodes)
    assert metrics["steps_skipped"] == 1 and engine.version == 0 and same(weights(learner), before)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["rejection/truncated_share"] == (0.25 if kind == "truncated" else 0.0)


def test_words_of_other_models_are_learned_when_asked_for() -> None:
    engine = make_engine()
    episodes = [mute(e) for e in play(engine)]
    _, metrics = gradient(Rejection(engine, encode=True, **FREE), episodes)
    assert metrics["steps_skipped"] == 0 and metrics["rejection/right_share"] == 3 / 12


def test_a_bandit_improves() -> None:
    """One token is right if its id is even: 30 rounds of imitating the right ones."""
    engine = make_engine()
    learner = Rejection(engine, lr=3e-3, epochs=1, per_query=None)
    start = chance_of_even(engine)
    for step in range(30):
        learner.update(bandit(engine, step))
    assert start < 0.7 and chance_of_even(engine) > 0.9


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_paths_are_told_apart_by_their_equations_in_order() -> None:
    """Equation lists [a, b], [a, b], [b, a], [c]: three are kept. A wrong answer is none of them."""
    engine = shared_engine()
    texts = ["1+1=2 2+2=4", "So 1 + 1 = 2, and 2 + 2 = 4", "2+2=4 1+1=2", "3+1=4", "2+1=3"]
    found, metrics = kept(answers(engine, texts, [1, 1, 1, 1, 0]))
    assert len(found) == 3 and {"2+2=4 1+1=2", "3+1=4"} < set(found)
    assert metrics["rejection/right_share"] == 4 / 5 and metrics["rejection/duplicate_share"] == 1 / 4
    assert kept(answers(engine, texts, [1, 1, 1, 1, 0]), distinct="text")[1]["rejection/kept"] == 4
    twice = answers(engine, [texts[3], texts[3]], [1, 1])
    assert kept(twice, distinct="text")[0] == [texts[3]]
    assert kept(twice, distinct="none")[0] == [texts[3], texts[3]]


def test_a_right_answer_by_a_false_equation_is_dropped() -> None:
    engine = shared_engine()
    episodes = answers(engine, ["2*3 = <<2*3=6>>6", "2*3 = <<2*3=5>>6", "1 + 1 = 3, so 6"], [1, 1, 1])
    found, metrics = kept(episodes)
    assert found == ["2*3 = <<2*3=6>>6"] and metrics["rejection/false_equation_share"] == 2 / 3
    assert len(kept(episodes, check_equations=False)[0]) == 3


def test_a_thousand_with_its_comma_is_right() -> None:
    cases = [{"query": "What is 999 + 1?", "answer": text, "reference": "1000"} for text in ("1,000", "1000", "1001")]
    assert SympySolver()(cases) == [1.0, 1.0, 0.0]


def test_at_most_so_many_for_one_question() -> None:
    engine = shared_engine()
    texts = [f"{n}+1={n + 1}" for n in range(6)]
    episodes = answers(engine, texts, [1] * 6) + answers(engine, texts[:1], [1], query="another")
    assert len(kept(episodes, per_query=4)[0]) == 5 and len(kept(episodes, per_query=None)[0]) == 7


def test_the_threshold_and_what_it_is_of() -> None:
    engine = shared_engine()
    episodes = answers(engine, ["a", "b", "c"], [1.0, 0.6, 0.2])
    assert kept(episodes)[0] == ["a"] and kept(episodes, threshold=0.6)[0] == ["a", "b"]
    assert kept(episodes, threshold=None)[0] == ["a", "b", "c"]
    assert kept(episodes, part=None, threshold=0.5)[0] == ["a", "b"], "the role's return"


def test_the_original_solution_stays_in_the_set() -> None:
    """Whatever else is kept, once, and beside a sample of the same path."""
    engine = shared_engine()
    episodes = answers(engine, ["1+1=2", "2-0=2", "3-1=2"], [1, 1, 1], reference="so 1+1=2")
    assert kept(episodes, originals=True, per_query=1)[1]["rejection/kept"] == 2
    found, _ = kept(episodes, originals=True)
    assert found == ["1+1=2", "2-0=2", "3-1=2", "so 1+1=2"]


def test_the_archive_knows_earlier_paths() -> None:
    engine = make_engine()
    learner = Rejection(engine, lr=1e-3, archive=3, epochs=1)
    assert learner.update(answers(engine, ["1+1=2", "3-1=2"], [1, 1]))["rejection/kept"] == 2
    again = learner.update(answers(engine, ["so 1+1=2", "3-1=2"], [1, 1]))
    assert again["rejection/kept"] == 0 and again["steps_skipped"] == 1 and again["rejection/duplicate_share"] == 1
    assert learner.update(answers(engine, ["so 1+1=2"], [1], query="another"))["rejection/kept"] == 1
    assert learner.update(answers(engine, ["4-2=2"], [1]))["rejection/archive"] == 3, "the oldest was forgotten"
    assert learner.update(answers(engine, ["1+1=2"], [1]))["rejection/kept"] == 1


def test_replay_learns_earlier_paths_anew() -> None:
    """Two new ones and one old one for each: three in the archive, so a step of five, and then of four."""
    engine = make_engine()
    learner = Rejection(engine, lr=0.0, archive=10, replay=1.5, epochs=1)
    sizes: list[int] = []
    learn = learner.rounds.learn
    learner.rounds.learn = lambda rows, *more: (sizes.append(len(rows)), learn(rows, *more))[1]  # type: ignore
    learner.update(answers(engine, ["1+1=2", "3-1=2", "4-2=2"], [1, 1, 1]))
    learner.update(answers(engine, ["5-3=2", "6-4=2"], [1, 1]))
    learner.update(answers(engine, ["7-5=2"], [1]))
    assert sizes == [3, 2 + 3, 1 + 2]


# -- another role's question -------------------------------------------------------------------------------------------


def test_revisions_are_learned_as_first_answers() -> None:
    """Both revisions, behind the question that the draft answered; the gradient is that of those very words."""
    engine = make_engine()
    episodes = critique(engine, "no", ["yes", "yes, gladly"])
    expected = cross_entropy(engine, [engine.encode(chat("Why?"), text) for text in ("yes", "yes, gladly")])
    options: dict[str, Any] = {"role": "reviser", "prompt_of": "solver", "threshold": None}
    found, metrics = gradient(Rejection(engine, **FREE, **options), episodes)
    assert close(found, expected) and metrics["rejection/kept"] == 2


def test_an_unchanged_revision_is_dropped() -> None:
    engine = make_engine()
    options: dict[str, Any] = {"role": "reviser", "prompt_of": "solver", "threshold": None}
    found, metrics = kept(critique(engine, "no", [" no ", "yes"]), **options)
    assert found == ["yes"] and metrics["rejection/unchanged_share"] == 0.5
    assert kept(critique(engine, "no", ["no"]), **options)[1]["steps_skipped"] == 1
    assert kept(critique(engine, "no", ["no"]), drop_unchanged=False, **options)[0] == ["no"]


# -- going on, and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"every": 2, "archive": 50, "replay": 1.0, "batch_size": 2}, {"every": 4, "schedule": "cosine", "steps": 9}],
    ids=["each step", "an archive", "amid a round"],
)
def test_saved_and_loaded_it_goes_on_to_the_byte(options: dict[str, Any], tmp_path: Path) -> None:
    check_resume(lambda engine: Rejection(engine, lr=1e-3, threshold=0.5, **options), tmp_path)


def test_it_keeps_the_contract() -> None:
    check_learner(Rejection(make_engine()), play(shared_engine()))


def test_refusals() -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match=r"learner.distinct='equation' is unknown \(did you mean 'equations'\?\)"):
        Rejection(engine, distinct="equation")
    with pytest.raises(ValueError, match=r"learner.epochs=0 must be at least 1"):
        Rejection(engine, epochs=0)
    with pytest.raises(ValueError, match=r"learner.per_query=0 must be at least 1, or null for all"):
        Rejection(engine, per_query=0)
    with pytest.raises(ValueError, match=r"learner.replay=1.0 needs learner.archive"):
        Rejection(engine, replay=1.0)
    with pytest.raises(ValueError, match=r"learner.role='solvr' never speaks in this game \(did you mean 'solver'\?\)"):
        Rejection(engine, role="solvr").update(play(engine))
    with pytest.raises(ValueError, match=r"learner.part='scor' is no part of the verdict \(did you mean 'score'\?\)"):
        Rejection(engine, part="scor").update(play(engine))
    with pytest.raises(ValueError, match=r"learner.prompt_of='drafter' has not spoken before 'reviser' does"):
        Rejection(engine, role="reviser", prompt_of="drafter").update(critique(engine, "no", ["yes"]))
    with pytest.raises(ValueError, match="is frozen: the learner has nothing to update"):
        Rejection(engine.snapshot())
    assert say(engine, ["Hi"], 1), "and the engine is as it was"
