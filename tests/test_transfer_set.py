"""Whose words a distillation learns, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from learners.distill import Distill
from learners.divergences import generalised_jsd
from selfplay.types import Action, Episode, Turn
from tests.distilling import games, make, own, slope, tables, teacher
from tests.helpers import chat, make_engine, shared_engine
from tests.test_policy_gradient import assert_close, gradient, say


def test_lmbda_is_the_share_of_own_words() -> None:
    """400 turns, drawn with probability .3: 120 with a standard deviation of 9.2. The draw depends on step and seed."""
    engine = make_engine()
    said = say(engine, [f"question {i}" for i in range(400)], 1, max_tokens=3)
    turns = [Turn("solver", "solver_0", chat(f"question {i}"), Action(c.text, c), i) for i, c in enumerate(said)]
    (game, *_) = own(engine)
    episodes = [dataclasses.replace(game, turns=(turn,)) for turn in turns]
    learner = make("gkd", engine, lmbda=0.3)
    chosen = [{lesson.said for lesson in learner.transfer(episodes, step)[0]} & set(said) for step in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert 92 <= len(chosen[0]) <= 148
    assert learner.transfer(episodes, 0)[1]["distill/own"] == len(chosen[0]) / 400
    other = make("gkd", engine, lmbda=0.3, seed=1)
    assert {lesson.said for lesson in other.transfer(episodes, 0)[0]} & set(said) != chosen[0]
    for lmbda, share in ((0.0, 0.0), (1.0, 1.0)):
        assert make("gkd", engine, lmbda=lmbda).transfer(episodes, 0)[1]["distill/own"] == share


def test_a_student_that_says_nothing_teaches_nothing() -> None:
    engine = make_engine()
    (said,) = say(engine, ["question"], 1, max_tokens=1)
    nothing = Action("", dataclasses.replace(said, text="", token_ids=(), logprobs=()))
    (game, *_) = own(engine)
    silent = dataclasses.replace(game, turns=(Turn("solver", "solver_0", chat("question"), nothing, 0),))
    for learner in (make("gkd", engine, lmbda=1.0, text=None), make("on_policy", engine)):
        assert learner.transfer([silent], 0)[0] == []


def test_a_threshold_keeps_what_was_judged_well() -> None:
    """Scores 1, 0, nan, .5: two of the three that count reach .5; a void game teaches nothing in any case."""
    engine = make_engine()
    episodes = games([None] * 4, [1.0, 0.0, math.nan, 0.5])
    lessons, metrics = make("sequence", engine, threshold=0.5).transfer(episodes, 0)
    assert [lesson.said.text for lesson in lessons] == ["1"], "two equal ones are one"
    assert metrics["distill/kept"] == pytest.approx(2 / 3)
    assert len(make("sequence", engine).transfer(episodes, 0)[0]) == 2
    skipped = make("sequence", engine, threshold=2.0).update(episodes)
    assert skipped["steps_skipped"] == 1 and engine.version == 0


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    """512 positions, one letter each: a lesson of 600 letters does not fit; told more, the teacher has less room."""
    engine = make_engine()
    episodes = games([None] * 4, moves=["x" * 600, "y", "y", "y"])
    _, metrics = Distill(engine).transfer(episodes, 0)
    assert metrics["distill/too_long"] == 1
    learner = make("on_policy", engine, told="{query} " + "z" * 600)
    metrics = learner.update(own(engine))
    assert metrics["distill/too_long"] == 4 and metrics["steps_skipped"] == 1


def test_a_teacher_may_be_told_more() -> None:
    """The same tokens behind another prompt: then even the student itself is a teacher."""
    engine = make_engine()
    learner = make("gkd", engine, engine, told="{query} ({lesson})", lmbda=1.0, lr=0.0, max_grad_norm=math.inf)
    episodes = own(engine)
    lessons, _ = learner.transfer(episodes, 0)
    told = {lesson.said: lesson.shown for lesson in lessons}
    parts = []
    for episode in episodes:
        said = episode.turns[1].action.completion
        assert said is not None
        more = engine.encode(chat(f"{episode.case['query']} ({episode.case['lesson']})"), "")
        assert told[said].prompt_ids == more.prompt_ids and told[said].token_ids == said.token_ids
        with torch.no_grad():
            theirs = tables(engine, told[said]).log_softmax(-1)
        parts.append(generalised_jsd(theirs, tables(engine, said).log_softmax(-1), 0.5))
    found, metrics = gradient(learner, episodes)
    assert metrics["loss"] == pytest.approx(torch.cat(parts).mean().item(), abs=1e-5)
    assert_close(found, slope(engine, torch.cat(parts).mean()), 1e-5)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    engine = make_engine()
    tutor = teacher()
    wrong: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (r"learner\.method='gdk' is unknown \(did you mean 'gkd'\?\)", (), {"method": "gdk"}),
        (r"learner\.beta=2 is no share", (tutor,), {"method": "gkd", "beta": 2}),
        (r"learner\.lmbda=-1 is no share", (tutor,), {"method": "gkd", "lmbda": -1}),
        (r"learner\.teacher_temperature=0 must be above 0", (tutor,), {"method": "gkd", "teacher_temperature": 0}),
        (r"in gkd alone", (tutor,), {"method": "on_policy", "temperature": 0.9}),
        (r"learner\.text='lesson' has no use", (tutor,), {"method": "on_policy", "text": "lesson"}),
        (r"method=gkd needs learner\.teacher", (), {"method": "gkd"}),
        (r"method=sequence reads a teacher's words", (tutor,), {}),
        (r"learner\.teacher is the student itself, which is 0 nats", (engine,), {"method": "on_policy"}),
        (
            r"has another tokenizer than 'tiny llama' \(\d+ tokens against \d+\)",
            (shared_engine("qwen2"),),
            {"method": "gkd"},
        ),
        (
            r"learner\.teacher='far away' gives no distributions",
            (dataclasses.make_dataclass("Far", [("name", str)])("far away"),),
            {"method": "gkd"},
        ),
        (r"tiny llama \(frozen\) is frozen", (), {}),
    ]
    for message, others, options in wrong:
        frozen = "is frozen" in message
        with pytest.raises(ValueError, match=message):
            Distill(engine.snapshot() if frozen else engine, *others, **options)


def test_refusals_of_a_game() -> None:
    engine = make_engine()
    own_words, theirs = own(engine), games([None] * 4)
    wrong: list[tuple[str, Distill, list[Episode]]] = [
        (r"learner\.role='solverr' never speaks .*did you mean 'solver'", Distill(engine, role="solverr"), theirs),
        (r"learner\.part='scores' is no part of the verdict", Distill(engine, part="scores", threshold=1.0), theirs),
        (r"learner\.text='leson' is no slot of the case .*'lesson'", Distill(engine, text="leson"), theirs),
        (r"a trained player's, and somebody else's words are wanted", Distill(engine), own_words),
        (r"no tokens of the student's own", make("on_policy", engine), theirs),
        (r"may hold slots of the case and no other braces", make("on_policy", engine, told="{qurey}"), own_words),
    ]
    for message, learner, episodes in wrong:
        with pytest.raises(ValueError, match=message):
            learner.update(episodes)
