"""The embedded model's world and recipe: nothing held out is ever taught, and the same seed gives the same of all."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from envs.shipped import FOLDER
from models import world
from models.pretrain import (
    Corpus,
    Recipe,
    build_model,
    build_tokenizer,
    challenger,
    exam,
    judge,
    lessons,
    save,
    solver,
    train,
)
from models.world import World
from selfplay.evaluate import Exam
from verifiers import selfjudge

SMALL = Recipe(steps=3, batch=12, hidden=32, layers=1, heads=2, exam=20, lessons=30, warmup=1)
NO_NONSENSE = World(nonsense=0.0)


def problems(text: str) -> list[world.Problem]:
    """Whatever reads as a problem, by an expression of our own that no full stop hides anything from."""
    found = re.findall(r"(?:x([-+])(\d+)=(\d+))|(?<!\d)(\d+)([-+*])(\d+)", world.squeeze(text))
    return [(int(a), "=" + s, int(b)) if s else (int(c), sign, int(d)) for s, a, b, c, sign, d in found]


def taught(role: Any, told: World, count: int) -> Iterator[str]:
    """What the user says, with what it goes on with, and the reply, of so many examples."""
    rng = Random(7)
    for _ in range(count):
        said, more, reply = role(told, rng, 0.5)
        yield said + more
        yield reply


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(SMALL)


# -- problems ----------------------------------------------------------------------------------------------------------


def test_solving() -> None:
    five = [(12, "+", 34), (8, "-", 50), (7, "*", 8), (5, "=+", 12), (5, "=-", 12)]
    assert [world.solve(p) for p in five] == [46, -42, 56, 7, 17]
    assert [world.mark(p) for p in five] == ["12+34", "8-50", "7*8", "x+5=12", "x-5=12"]


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.booleans())
def test_problems_and_their_wordings(seed: int, on_exam: bool) -> None:
    rng = Random(seed)
    problem = World().problem(rng, exam=on_exam)
    assert world.held_out(problem) == on_exam
    assert -99 <= world.solve(problem) <= 198
    a, sign, b = problem
    for wording in world.WORDINGS[sign]:
        text = wording.format(a=a, b=b)
        # A full stop right behind a number could be a decimal point: the sentence is looked at without it.
        assert world.problems_in(text.rstrip(".")) == [problem]
        assert world.mark(problem) in world.squeeze(text)
    assert World().slip(problem, rng) != world.solve(problem)


def test_the_split_is_by_problem_and_a_tenth() -> None:
    held = sum(world.held_out((a, "+", b)) for a, b in itertools.product(range(100), repeat=2))
    assert 850 < held < 1150, "five deviations, sqrt(10000 x 0.1 x 0.9) = 30"
    assert world.held_out((3, "+", 4)) == world.held_out((3, "+", 4))


def test_the_shares_of_the_kinds() -> None:
    rng = Random(0)
    kinds = Counter(World().problem(rng)[1] for _ in range(5000))
    assert kinds.keys() == world.SHARES.keys() and sum(world.SHARES.values()) == pytest.approx(1)
    assert all(abs(kinds[sign] / 5000 - share) < 0.035 for sign, share in world.SHARES.items())


def test_answers_are_wrong_as_often_as_told() -> None:
    rng = Random(0)
    for share in (0.0, 0.65, 1.0):
        told = World(wrong=share)
        asked = [told.problem(rng) for _ in range(2000)]
        wrong = sum(told.answer(p, rng) != world.solve(p) for p in asked) / 2000
        assert abs(wrong - share) < 0.055, "five deviations of a binomial share"


def test_nonsense_asks_nothing_of_this_world() -> None:
    """A spoiled wording, or numbers beyond the world's."""
    rng = Random(0)
    said = [World().nonsense_question(rng) for _ in range(1000)]
    assert all(text.strip() for text in said) and len(set(said)) > 800
    assert not [p for text in said for p in world.problems_in(text) if max(p[0], p[2]) < world.LIMITS[p[1][-1]]]
    assert 400 < sum(bool(world.problems_in(text)) for text in said) < 600


# -- nothing held out is taught ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "told"), [(solver, World()), (challenger, World()), (judge, NO_NONSENSE)])
def test_no_held_out_problem_in_twenty_thousand_examples(role: Any, told: World) -> None:
    found = [problem for text in taught(role, told, 20_000) for problem in problems(text)]
    assert len(found) >= 20_000, "every example poses one"
    assert not any(map(world.held_out, found))


def test_nor_where_the_question_is_nonsense() -> None:
    """Spoiled text and the answer behind it can read as a problem, "31 +" and "38": never as one of the exam's."""
    asked = [p for text in taught(judge, World(nonsense=1.0), 20_000) for p in world.problems_in(text)]
    ours = [p for p in asked if max(p[0], p[2]) < world.LIMITS[p[1][-1]]]
    assert len(asked) > 5000 and len(ours) > 50, "the check does see problems"
    assert not [p for p in ours if world.held_out(p)]


def test_lessons_and_exam_lie_on_their_sides(tmp_path: Path) -> None:
    recipe = replace(SMALL, exam=200, lessons=500)
    rows, data = exam(recipe), lessons(recipe)
    assert len(rows) == 200 == len({str(row["marks"]) for row in rows}) and len(data) == 500
    assert rows == exam(recipe) and data == lessons(recipe), "the same seed, the same exam"
    assert rows != exam(replace(recipe, seed=1))
    tokenizer = build_tokenizer(recipe)
    save(recipe, build_model(recipe, tokenizer), tokenizer, tmp_path)
    sat = Exam(tmp_path / "exam.jsonl")
    assert all(map(sat.poses, sat.queries)), "every question gives itself away"
    assert not [row for row in data if sat.poses(row["prompt"])], "no lesson is on the exam"


def test_the_judge_is_never_taught_a_wrong_score() -> None:
    rng = Random(3)
    scores: Counter[str] = Counter()
    for _ in range(3000):
        shown, answer, score = judge(NO_NONSENSE, rng, 0.9)
        scores[score] += 1
        query, _, said = (shown + answer).rpartition(" ")
        (problem,) = problems(query)
        assert (int(said) == world.solve(problem)) == (score == str(world.SCORE_RIGHT))
    assert scores.keys() == {"2", "7"} and min(scores.values()) > 1200


# -- the same words on both sides of an import wall --------------------------------------------------------------------


def test_prompts_agree() -> None:
    """The judge's and the Challenger's short prompts are what the model was taught; the folders may not share code."""
    assert selfjudge.ONE_NUMBER == world.JUDGE
    short = OmegaConf.load(FOLDER / "lsp.yaml").prompts.short
    assert short.challenger == world.ASK


# -- the tokenizer and the recipe --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_the_tokenizer_can_say_anything(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_the_tokenizer(tokenizer: Any) -> None:
    assert len(tokenizer) <= SMALL.vocab and tokenizer.eos_token == "<|end|>" and tokenizer.pad_token == "<|pad|>"
    digits = tokenizer("1234567890", add_special_tokens=False)["input_ids"]
    assert len(digits) == 10 == len(set(digits)), "digits stand alone"
    chat = [{"role": "user", "content": world.ASK}]
    told = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert told == "<|user|>Ask.<|end|><|assistant|>"
    assert build_tokenizer(SMALL).get_vocab() == tokenizer.get_vocab()


def test_a_batch_teaches_the_reply_and_what_is_shown_right(tokenizer: Any) -> None:
    ids, labels = Corpus(judge, SMALL, tokenizer, 32).batch(0.5)
    assert ids.shape == labels.shape and ids.shape[1] % 8 == 0
    for row, wanted in zip(ids, labels, strict=True):
        learned = wanted != -100
        assert torch.equal(row[learned], wanted[learned])
        said = tokenizer.decode(row[learned])
        score = said.removesuffix("<|end|>")[-1]
        assert said.endswith("<|end|>") and score in "027"
        assert (len(said) > len("7<|end|>")) == (score == "7"), "a right answer is learned as text too"


def test_one_seed_gives_one_set_of_weights() -> None:
    def run(recipe: Recipe) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = {}
        before = torch.random.get_rng_state()
        for step, losses, model, _ in train(recipe):
            assert losses.keys() == {"solver", "challenger", "judge"} and 1 <= step <= 3
            state = {name: p.detach().clone() for name, p in model.named_parameters()}
        assert torch.equal(torch.random.get_rng_state(), before), "the global generator is left alone"
        return state

    first, second, other = run(SMALL), run(SMALL), run(replace(SMALL, seed=1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
