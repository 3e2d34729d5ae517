"""The recipe of the embedded reward model: it scores an answer to a question of the small world.

It starts from the embedded language model, whose head is replaced by one number read at the closing token. By the
Bradley-Terry loss it learns that the right answer to a question beats three wrong ones: one off by 1, 2 or 10, one slip
of the kind that the world knows, and one that is no answer at all. No question of the exam is ever shown. One seed
gives one set of weights on one kind of machine and number of threads.

    python -m models.reward <folder>
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from models import world as small_world
from models.pretrain import Recipe as LanguageRecipe
from models.pretrain import exam
from models.world import Problem, World
from selfplay.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

CHUNK = 96
"""Rows of one forward pass."""


class Lesson(NamedTuple):
    """A question, its right answer, and wrong ones by their kind."""

    query: str
    right: str
    wrong: dict[str, str]


@dataclass(frozen=True)
class RewardRecipe:
    """Every number of the recipe; the defaults made the committed model.

    ``start`` is the language model that it starts from (a folder, or ``"tiny"``), ``batch`` is questions a step, each
    with its four answers; ``centre`` the weight of the term that keeps the two rewards of a pair around zero.
    """

    seed: int = 0
    start: str = "tiny"
    steps: int = 400
    batch: int = 96
    lr: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.01
    centre: float = 0.01
    bf16: bool = True
    world: World = field(default_factory=World)


def junk(problem: Problem, right: str, rng: Random) -> str:
    """A reply that answers nothing, or hides a right answer among others: what a policy tries on a judge."""
    kind = rng.randrange(8)
    other = str(int(right) + rng.choice((-1, 1)) * rng.randint(1, 199))
    if kind == 0:
        return rng.choice(("", " ", "x", "x = ", "?", ".", "-", "--", "+", "="))
    if kind == 1:  # the question back, alone or with its answer
        return small_world.word(problem, rng) + rng.choice(("", f" {right}"))
    if kind == 2:  # two answers, or many
        return rng.choice((", ", " or ", " ")).join(rng.sample((right, other), 2) * rng.choice((1, 1, 3)))
    if kind == 3:
        return right * rng.randint(2, 6)
    if kind == 4:  # digits too many
        return right + "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 20)))
    if kind == 5:
        return "".join(rng.choice("0123456789+-*= ?x.") for _ in range(rng.randint(1, 24)))
    if kind == 6:  # letters, signs and control characters: a policy finds what a judge has never seen
        return "".join(chr(rng.randrange(256)) for _ in range(rng.choice((1, 1, 2, 8))))
    return rng.choice((right + rng.choice("+-*/=?x"), rng.choice("*/?x-") + right))


def _reads_as(text: str, right: int) -> bool:
    """Whether the text may be read as ``right``: 007, 7.0, -0, x = 7. Errs towards yes, which only drops an example."""
    try:
        return float(text.strip(" .=+?x")) == right
    except ValueError:
        return False


def _poses_another(text: str, problem: Problem) -> bool:
    """Whether a held-out problem besides this one stands anywhere in the text, as 2*9 and 8*3 do in 2*9.1-8*3."""
    text = text.replace(".", ";")
    posed = {found for start in range(len(text)) for found in small_world.problems_in(text[start:])}
    return any(map(small_world.held_out, posed - {problem}))


def lesson(world: World, problem: Problem, rng: Random) -> Lesson:
    """The problem in one of its wordings, with answers; none that is called wrong may be read as the right one."""
    right = small_world.solve(problem)
    nothing = junk(problem, str(right), rng)
    while _reads_as(nothing, right) or _poses_another(nothing, problem):
        nothing = junk(problem, str(right), rng)
    near = right + rng.choice((-10, -2, -1, 1, 2, 10))
    wrong = {"near": str(near), "slip": str(world.slip(problem, rng)), "junk": nothing}
    return Lesson(small_world.word(problem, rng), str(right), wrong)


def lessons(recipe: RewardRecipe) -> Iterator[Lesson]:
    """Endless lessons for training, none about a held-out problem."""
    rng = Random(derive(recipe.seed, "reward lessons"))
    while True:
        yield lesson(recipe.world, recipe.world.problem(rng), rng)


def exam_lessons(recipe: RewardRecipe) -> list[Lesson]:
    """The questions of the embedded model's exam, with answers: to measure by and never to train on."""
    rng = Random(derive(recipe.seed, "reward exam"))
    queries = [str(row["query"]) for row in exam(LanguageRecipe())]
    problems = [small_world.problems_in(query)[0] for query in queries]
    return [
        lesson(recipe.world, problem, rng)._replace(query=query)
        for query, problem in zip(queries, problems, strict=True)
    ]


def bradley_terry(right: Tensor, wrong: Tensor, centre: float = 0.0) -> Tensor:
    """Mean over pairs of -log sigmoid(r_right - r_wrong), plus ``centre`` * (r_right + r_wrong)^2.

    ``right`` is (B, 1) and ``wrong`` (B, K): each right answer makes a pair with each of its K wrong ones.

    The first term is the Bradley-Terry likelihood of arXiv 1706.03741, eq. 1, in the form of 2203.02155, eq. 1: all
    pairs of a question are in one batch. It fixes differences only: a reward could have another zero for every
    question, which the Challenger's reward, a mean over answers, would feel. The second term (arXiv 2312.09244) sets
    the zero between right and wrong.
    """
    from torch.nn.functional import logsigmoid

    return (centre * (right + wrong).square() - logsigmoid(right - wrong)).mean()


def auc(right: Tensor, wrong: Tensor) -> float:
    """The share of (right, wrong) pairs in which the right one has more, ties half; (N,), (M,) -> number."""
    above, equal = right[:, None] > wrong[None, :], right[:, None] == wrong[None, :]
    return (above.double() + 0.5 * equal.double()).mean().item()


def build(recipe: RewardRecipe) -> tuple[LlamaForSequenceClassification, PreTrainedTokenizerFast]:
    """The language model at ``recipe.start`` under a new head of one label, and its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification
    from transformers.utils import logging as transformers_logging

    from models.loading import TINY

    transformers_logging.disable_progress_bar()
    source = TINY if recipe.start == "tiny" else Path(recipe.start)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # "some weights were not initialised": the head, which is the point
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(recipe.seed, "reward head"))
            model = LlamaForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    finally:
        transformers_logging.set_verbosity(level)
    return model, AutoTokenizer.from_pretrained(source)


def logits(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, told: Sequence[tuple[str, str]]
) -> Tensor:
    """The reward of each (question, answer) as a chat, in float32: (B,). In chunks of like length, to pad little."""
    import torch

    chats = [[{"role": "user", "content": query}, {"role": "assistant", "content": answer}] for query, answer in told]
    # Control tokens are read as such here: our own answers hold none; the verifier sees to those in other people's.
    rows = tokenizer(tokenizer.apply_chat_template(chats, tokenize=False), add_special_tokens=False)["input_ids"]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: list[Tensor] = []
    for start in range(0, len(order), CHUNK):
        chunk = [torch.tensor(rows[index]) for index in order[start : start + CHUNK]]
        ids = torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True, padding_value=tokenizer.pad_token_id)
        mask = (ids != tokenizer.pad_token_id).long()
        found.append(model(input_ids=ids, attention_mask=mask).logits[:, 0].float())
    return torch.cat(found)[torch.tensor(order).argsort()]


def train(
    recipe: RewardRecipe,
) -> Iterator[tuple[int, float, float, LlamaForSequenceClassification, PreTrainedTokenizerFast]]:
    """Yield (step, loss, share of pairs in order, model, tokenizer); the model is being trained in place."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    model, tokenizer = build(recipe)
    model.set_attn_implementation("eager")  # short rows, as in the language model's recipe
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    source = lessons(recipe)
    for step in range(1, recipe.steps + 1):
        batch = [next(source) for _ in range(recipe.batch)]
        told = [(asked.query, answer) for asked in batch for answer in (asked.right, *asked.wrong.values())]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            rewards = logits(model, tokenizer, told).view(recipe.batch, -1)  # (questions, right and then wrong)
        right, wrong = rewards[:, :1], rewards[:, 1:]
        loss = bradley_terry(right, wrong, recipe.centre)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        yield step, loss.item(), (right > wrong).float().mean().item(), model, tokenizer


def examine(folder: Path, recipe: RewardRecipe) -> dict[str, float]:
    """AUC of the saved model on the exam, right answers against those wrong in each way: over all pairs of a right and
    a wrong answer, also to different questions."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = exam_lessons(recipe)
    with torch.inference_mode():
        right = logits(model, tokenizer, [(each.query, each.right) for each in asked])
        return {
            kind: auc(right, logits(model, tokenizer, [(each.query, each.wrong[kind]) for each in asked]))
            for kind in asked[0].wrong
        }


def run_recipe(recipe: RewardRecipe, folder: Path) -> None:
    """Train, save in bfloat16, and print how the saved model does on the exam; refuses a folder that is not empty."""
    import torch
    from rich.console import Console

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another folder")
    console = Console()
    for step, loss, in_order, model, tokenizer in train(recipe):
        if step % 25 == 0 or step == recipe.steps:
            console.print(f"step {step}/{recipe.steps}  loss {loss:.4f}  in order {in_order:.3f}")
        if step == recipe.steps:
            model.to(torch.bfloat16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    told = "  ".join(f"{kind} {value:.4f}" for kind, value in examine(folder, recipe).items())
    console.print(f"AUC on the exam, right answers against  {told}")
    console.print(f"saved to {folder}: use it with verifier=reward_model verifier.path={folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m models.reward <folder>")
    run_recipe(RewardRecipe(), Path(sys.argv[1]))
