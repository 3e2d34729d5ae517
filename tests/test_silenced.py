"""Turns that a gate or a phase has silenced teach nobody: not by their tokens, and not by their words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learners.distill import Distill
from learners.dpo import DPO
from learners.pretrain import Pretrain
from learners.rejection import Rejection
from learners.schedule import Phases
from models.engine import Engine
from selfplay.gate import Gate
from selfplay.lessons import Muted, Silenced, only_roles
from selfplay.types import Action, Episode
from tests.distilling import games, own, teacher
from tests.helpers import chat, make_engine
from tests.imitation import mute, play, same, weights

Case = tuple[Callable[[Engine], Any], Callable[[Engine], list[Episode]]]


def seated(engine: Engine) -> list[Episode]:
    """The Solver is another model, whose words have no tokens of ours."""
    return [mute(episode) for episode in play(engine)]


WORDS: dict[str, Case] = {
    "rejection": (lambda engine: Rejection(engine, encode=True), seated),
    "dpo, siblings": (lambda engine: DPO(engine, encode=True), seated),
    "dpo, a slot": (lambda engine: DPO(engine, encode=True, winner="reference"), seated),
    "distill, the seat": (Distill, lambda engine: games([None] * 4)),
    "distill, a slot": (lambda engine: Distill(engine, text="lesson"), own),
    "gkd, a slot": (lambda engine: Distill(engine, teacher(), method="gkd", text="lesson", lmbda=0.0), own),
    "gkd, its own": (lambda engine: Distill(engine, teacher(), method="gkd", lmbda=1.0), own),
    "on_policy": (lambda engine: Distill(engine, teacher(), method="on_policy"), own),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_step_in_which_all_are_silenced_is_nothing(name: str) -> None:
    """The same games teach something before they are muted."""
    make, told = WORDS[name]
    engine = make_engine()
    learner, episodes = make(engine), told(engine)
    before = weights(learner)
    metrics = learner.update(only_roles(episodes, ["challenger"]))
    assert metrics["steps_skipped"] == 1 and "steps_refused" not in metrics and metrics["loss"] == 0
    assert same(weights(learner), before) and engine.version == 0
    assert all(math.isfinite(value) for value in metrics.values())
    assert make(make_engine()).update(episodes)["steps_skipped"] == 0


def test_pretraining_without_a_voice_learns_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("A small corpus. " * 20, encoding="utf-8")
    moved = []
    for episodes in (only_roles(play(make_engine()), ["challenger"]), []):
        learner = Pretrain(make_engine(), tmp_path / "corpus.txt", context=16, corpus_batch=2, lr=1e-3)
        moved.append((learner.update(episodes), weights(learner)))
    assert moved[0][0] == moved[1][0] and moved[0][0]["pretrain/fragments"] == 0
    assert same(moved[0][1], moved[1][1])


def test_only_the_others_words_are_learned() -> None:
    """One of three questions is silenced: what is learned is what the other two alone would teach."""
    engine = make_engine()
    episodes, muted = seated(engine), Muted()
    lessons = [muted.episode(e, lambda turn: turn.role != "solver") for e in episodes[:4]] + episodes[4:]
    silenced, alone = (Rejection(make_engine(), encode=True, lr=1e-3) for _ in range(2))
    assert silenced.update(lessons) == alone.update(episodes[4:])
    assert same(weights(silenced), weights(alone))


def test_answers_to_a_refused_question_are_not_encoded() -> None:
    """Both right, so too easy: an answer of another model is kept of the other question only."""
    engine = make_engine()
    episodes = [mute(episode) for episode in play(engine, [[1.0, 0.0], [1.0, 1.0]])]
    asked = [engine.encode(chat("Ask."), text) for text in ("one", "two")]
    for number, episode in enumerate(episodes):
        first = episodes[number // 2 * 2].turns[0]
        first.action = Action(first.action.move, asked[number // 2])
        episode.turns = (first, *episode.turns[1:])
    options: dict[str, Any] = {"encode": True, "lr": 0.0, "distinct": "none", "check_equations": False}
    assert Rejection(engine, **options).update(episodes)["rejection/kept"] == 3
    lessons, _ = Gate(role="challenger", band="(0, 1)")(episodes)
    assert Rejection(engine, **options).update(lessons)["rejection/kept"] == 1


def test_a_phase_of_the_others_is_a_step_without_a_lesson() -> None:
    engine = make_engine()
    plan = [{"roles": ["challenger"], "steps": 1}, {"roles": ["solver"], "steps": 1}]
    phases = Phases(Distill(engine), plan)
    assert [phases.update(games([None] * 4))["steps_skipped"] for _ in range(2)] == [1.0, 0.0]


def test_a_role_that_is_silenced_is_known_and_another_is_not() -> None:
    engine = make_engine()
    unpaid = [replace(episode, returns={"challenger": 0.0}) for episode in play(engine)]
    silenced = only_roles(unpaid, ["challenger"])
    assert Rejection(engine).update(silenced)["steps_skipped"] == 1
    with pytest.raises(
        ValueError, match=r"learner\.role='solvr' never speaks in this game \(did you mean 'solver'\?\)"
    ):
        Rejection(engine, role="solvr").update(silenced)


def test_what_is_silenced_is_the_same_turn_but_for_its_tokens() -> None:
    """Once for all episodes that share it; a verdict is no words and stays."""
    episodes = play(make_engine())
    lessons = only_roles(episodes, [])
    for before, after in zip(episodes, lessons, strict=True):
        assert after.turns[2] is before.turns[2] and isinstance(after.turns[1], Silenced)
        assert after.turns[0] is lessons[0].turns[0] or before.turns[0] is not episodes[0].turns[0]
        assert after.turns[1].action == Action(before.turns[1].action.move)
        assert (after.turns[1].seat, after.turns[1].group) == (before.turns[1].seat, before.turns[1].group)
    assert only_roles(episodes, ["challenger", "solver"]) == episodes
