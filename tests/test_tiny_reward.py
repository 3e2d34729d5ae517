"""The embedded reward model: its lessons, its loss by hand, one seed one model, and how the committed one judges."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch

from models import world
from models.loading import TINY
from models.reward import (
    Lesson,
    RewardRecipe,
    auc,
    bradley_terry,
    exam_lessons,
    junk,
    lesson,
    lessons,
    run_recipe,
    train,
)
from selfplay.evaluate import Exam
from selfplay.testing import check_verifier
from verifiers.reward_model import RewardModel
from verifiers.sympy_solver import SympySolver

FOLDER = Path(__file__).resolve().parent.parent / "models" / "tiny_reward"


def cases(told: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"query": query, "answer": answer, "reference": ""} for query, answer in told]


@pytest.fixture(scope="module")
def judge() -> RewardModel:
    return RewardModel(str(FOLDER), device="cpu")


# -- the lessons -----------------------------------------------------------------------------------------------------


def test_lessons_never_touch_the_exam() -> None:
    """Neither the question nor any answer, in anybody's wording; and the exam's own lessons are about nothing else."""
    questions = Exam(TINY / "exam.jsonl")
    for asked in islice(lessons(RewardRecipe()), 2000):
        for text in (asked.query, *asked.wrong.values(), *(f"{asked.query} {wrong}" for wrong in asked.wrong.values())):
            assert not questions.poses(text), asked
        assert not any(map(world.held_out, world.problems_in(asked.query)))
    assert [asked.query for asked in exam_lessons(RewardRecipe())] == questions.queries


def test_the_maths_verifier_agrees_with_every_lesson() -> None:
    """What is called right is right, and what is called wrong is wrong: no label is noise."""
    solver = SympySolver()
    asked = [*islice(lessons(RewardRecipe(seed=1)), 1000), *exam_lessons(RewardRecipe())]
    assert solver(cases([(each.query, each.right) for each in asked])) == [1.0] * len(asked)
    for kind in asked[0].wrong:
        assert solver(cases([(each.query, each.wrong[kind]) for each in asked])) == [0.0] * len(asked), kind
    solver.close()


def test_kinds_of_wrong_answers() -> None:
    asked = list(islice(lessons(RewardRecipe()), 500))
    assert {int(each.wrong["near"]) - int(each.right) for each in asked} == {-10, -2, -1, 1, 2, 10}
    assert {int(each.wrong["slip"]) != int(each.right) for each in asked} == {True}
    nothing = {each.wrong["junk"] for each in asked}
    assert {"", " "} & nothing and any(" or " in text for text in nothing) and len(nothing) > 250
    assert lesson(world.World(), (2, "+", 3), Random(0)) == lesson(world.World(), (2, "+", 3), Random(0))
    assert "0" not in {lesson(world.World(), (5, "-", 5), Random(seed)).wrong["junk"] for seed in range(300)}
    assert {junk((5, "-", 5), "0", Random(seed)) for seed in range(300)} >= {"00", "0?"}, "which read as 0, or might"


# -- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    """One right answer at 1, wrong ones at 1 and -1: -log sigmoid(0) = log 2 = 0.6931 and -log sigmoid(2) =
    log(1 + e^-2) = 0.1269, mean 0.4100. The centre adds 0.01 * ((1 + 1)^2 + (1 - 1)^2) / 2 = 0.02."""
    right, wrong = torch.tensor([[1.0]]), torch.tensor([[1.0, -1.0]])
    assert bradley_terry(right, wrong).item() == pytest.approx((math.log(2) + math.log1p(math.exp(-2))) / 2)
    assert bradley_terry(right, wrong, 0.01).item() == pytest.approx(0.4100 + 0.02, abs=1e-4)


def test_the_loss_knows_differences_and_the_centre_the_zero() -> None:
    right, wrong = torch.tensor([[2.0], [0.5]]), torch.tensor([[1.0, 0.0], [3.0, -1.0]])
    assert bradley_terry(right + 7, wrong + 7).item() == pytest.approx(bradley_terry(right, wrong).item())
    assert bradley_terry(right + 7, wrong + 7, 0.01) > bradley_terry(right, wrong, 0.01)
    right.requires_grad_()
    bradley_terry(right, wrong).backward()
    assert right.grad is not None and bool((right.grad < 0).all()), "a step up for what is right"


def test_auc_by_hand() -> None:
    """3 and 1 against 2 and 1: 3 > 2, 3 > 1, 1 < 2, 1 = 1 make 2.5 of 4."""
    assert auc(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 1.0])) == 0.625


# -- the recipe ------------------------------------------------------------------------------------------------------

SHORT = RewardRecipe(steps=3, batch=8, warmup=1)


def test_one_seed_one_model() -> None:
    """Three steps twice, and once from another seed."""
    weights = []
    for recipe in (SHORT, SHORT, replace(SHORT, seed=1)):
        *_, (step, _, _, model, _) = train(recipe)
        assert step == 3
        weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not torch.equal(weights[0]["score.weight"], weights[2]["score.weight"])


def test_a_run_leaves_a_reward_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_recipe(SHORT, tmp_path / "m")
    told = capsys.readouterr().out
    assert "step 3/3" in told and "AUC on the exam" in told and "verifier=reward_model" in told
    assert all(
        math.isfinite(score) for score in RewardModel(str(tmp_path / "m"), device="cpu")(cases([("1 + 2", "3")]))
    )
    with pytest.raises(FileExistsError, match="is not empty"):
        run_recipe(SHORT, tmp_path / "m")
    assert not json.loads((tmp_path / "m/tokenizer.json").read_text(encoding="utf-8"))["padding"]


# -- the committed model ---------------------------------------------------------------------------------------------


def test_the_folder_is_small_and_speaks_as_the_language_model_does() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 4 * 2**20
    for name in ("chat_template.jinja", "tokenizer.json"):
        assert (FOLDER / name).read_text(encoding="utf-8") == (TINY / name).read_text(encoding="utf-8"), name


def test_it_is_a_verifier(judge: RewardModel) -> None:
    """A reward has no floor, so blank text may have more than the worst; but it must have less than an answer."""
    check_verifier(judge, blank_may_score=True)
    assert max(judge(cases([("12 + 35 = ?", ""), ("12 + 35 = ?", " ")]))) < judge(cases([("12 + 35 = ?", "47")]))[0]


@pytest.mark.parametrize(("kind", "least"), [("near", 0.95), ("slip", 0.97), ("junk", 0.97)])
def test_it_tells_right_from_wrong_on_the_exam(judge: RewardModel, kind: str, least: float) -> None:
    """500 held-out questions, as ``RewardModel`` scores them; the README in its folder has what was measured."""
    asked: list[Lesson] = exam_lessons(RewardRecipe())
    right = torch.tensor(judge(cases([(each.query, each.right) for each in asked])))
    wrong = torch.tensor(judge(cases([(each.query, each.wrong[kind]) for each in asked])))
    assert auc(right, wrong) >= least
    assert (right > wrong).double().mean().item() >= least


def test_its_zero_lies_between_right_and_wrong(judge: RewardModel) -> None:
    """What the centre term is for: ``sigmoid`` gives the right ones above a half and the wrong ones below."""
    asked = exam_lessons(RewardRecipe())
    right = judge(cases([(each.query, each.right) for each in asked]))
    wrong = judge(cases([(each.query, each.wrong["slip"]) for each in asked]))
    assert sum(score > 0 for score in right) >= 0.9 * len(asked)
    assert sum(score < 0 for score in wrong) >= 0.9 * len(asked)
