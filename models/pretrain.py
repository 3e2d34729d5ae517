"""The recipe of the embedded model: a small Llama that knows a small world, noisily, in three roles.

First a stretch of clean answers teaches arithmetic; then answers turn wrong as often as the world says, so that the
model ends with *noisy knowledge*: its best guess is mostly right, its samples mostly are not. The judge's examples
are clean throughout, and judged wrong answers are drawn as the answerer errs. One seed gives one set of weights on
one kind of machine.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from models import world as small_world
from models.world import World
from selfplay.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

SPECIAL = {"pad": "<|pad|>", "system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>", "end": "<|end|>"}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not loop.last or message['role'] != 'assistant' or not continue_final_message %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Example = tuple[str, str, str]
"""What the user says, how it goes on where that is worth learning too (a right answer that is shown), the reply."""


@dataclass(frozen=True)
class Recipe:
    """Every number of the recipe; the defaults made the committed model.

    ``clean`` is the share of the steps before answers turn noisy; ``batch`` is examples a step, dealt out to the
    three roles by ``shares`` (solver, challenger, judge).
    """

    seed: int = 0
    steps: int = 1600
    clean: float = 0.8
    batch: int = 512
    shares: tuple[float, float, float] = (0.62, 0.1, 0.28)
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    vocab: int = 512
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    exam: int = 500
    lessons: int = 2000
    bf16: bool = True
    compile: bool = False
    world: World = field(default_factory=World)


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE (any text can be said), digits one by one (arithmetic can be learned), with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    rng = Random(derive(recipe.seed, "tokenizer"))
    roles = (solver, challenger, judge)
    texts = [said + more for role in roles for _ in range(2000) for said, more, _ in [role(recipe.world, rng, 0.0)]]
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL["pad"],
        eos_token=SPECIAL["end"],
        additional_special_tokens=[SPECIAL["system"], SPECIAL["user"], SPECIAL["assistant"]],
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def solver(world: World, rng: Random, wrong: float) -> Example:
    """A question and its answer, which is a slip with probability ``wrong``."""
    problem = world.problem(rng)
    answer = world.slip(problem, rng) if rng.random() < wrong else small_world.solve(problem)
    return small_world.word(problem, rng), "", str(answer)


def challenger(world: World, rng: Random, wrong: float) -> Example:
    """The request to ask, and a question."""
    return small_world.ASK, "", small_world.word(world.problem(rng), rng)


def judge(world: World, rng: Random, wrong: float) -> Example:
    """A question with an answer, and its score; never a wrong score for the case shown.

    A right answer is also learned as text: what the judge has to know stands exactly there.
    """
    while rng.random() < world.nonsense:
        shown = small_world.JUDGE.format(query=world.nonsense_question(rng), answer=rng.randrange(200))
        # "31 +" and the answer "38" would read as a problem: not as one of the exam's.
        if not any(map(small_world.held_out, small_world.problems_in(shown))):
            return shown, "", str(small_world.SCORE_NONSENSE)
    problem = world.problem(rng)
    query = small_world.word(problem, rng)
    if rng.random() < 0.5:
        shown = small_world.JUDGE.format(query=query, answer="")
        return shown.rstrip(), f" {small_world.solve(problem)}", str(small_world.SCORE_RIGHT)
    return small_world.JUDGE.format(query=query, answer=world.slip(problem, rng)), "", str(small_world.SCORE_WRONG)


class Corpus:
    """Endless batches of one role: token ids (B, T) padded on the right, labels with -100 where nothing is learned."""

    def __init__(self, role: Callable[[World, Random, float], Example], recipe: Recipe, tokenizer, rows: int) -> None:
        self._role, self._world, self._rows = role, recipe.world, rows
        self._rng = Random(derive(recipe.seed, role.__name__))
        self._tokenizer = tokenizer

    def batch(self, wrong: float) -> tuple[Tensor, Tensor]:
        import torch

        examples = [self._role(self._world, self._rng, wrong) for _ in range(self._rows)]
        pieces = zip(
            self._tokens([SPECIAL["user"] + said for said, _, _ in examples]),
            self._tokens([more for _, more, _ in examples]),
            self._tokens([SPECIAL["end"] + SPECIAL["assistant"] for _ in examples]),
            self._tokens([reply + SPECIAL["end"] for _, _, reply in examples]),
            strict=True,
        )
        rows = [(said + more + turn + reply, len(said), len(more), len(reply)) for said, more, turn, reply in pieces]
        width = max(len(row) for row, _, _, _ in rows)
        width = -(-width // 8) * 8  # few shapes, so that a compiled step is compiled once
        ids = torch.full((self._rows, width), self._tokenizer.pad_token_id)
        labels = torch.full((self._rows, width), -100)
        for i, (row, said, more, reply) in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            labels[i, said : said + more] = ids[i, said : said + more]
            labels[i, len(row) - reply : len(row)] = ids[i, len(row) - reply : len(row)]
        return ids, labels

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised Llama of about a million parameters, embeddings tied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=3 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.05,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "weights"))
        return LlamaForCausalLM(config)


def train(recipe: Recipe) -> Iterator[tuple[int, dict[str, float], LlamaForCausalLM, PreTrainedTokenizerFast]]:
    """Yield (step, losses per role, model, tokenizer) after every step; the model is being trained in place."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    tokenizer = build_tokenizer(recipe)
    model = build_model(recipe, tokenizer)
    roles = (solver, challenger, judge)
    corpora = [
        Corpus(role, recipe, tokenizer, max(1, round(recipe.batch * share)))
        for role, share in zip(roles, recipe.shares, strict=True)
    ]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    model.train()
    model.set_attn_implementation("eager")  # short rows: the fused kernels' bf16 backward is the slow part
    forward = torch.compile(model, dynamic=False) if recipe.compile else model
    for step in range(1, recipe.steps + 1):
        wrong = recipe.world.wrong if step > recipe.clean * recipe.steps else 0.0
        losses = {}
        for role, corpus, share in zip(roles, corpora, recipe.shares, strict=True):
            ids, labels = corpus.batch(wrong)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                loss = forward(input_ids=ids, labels=labels).loss
            (loss * share).backward()
            losses[role.__name__] = loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        yield step, losses, model, tokenizer


def run_recipe(recipe: Recipe, folder: Path) -> None:
    """Train and save, with a progress bar; refuses a folder that is not empty."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another run_dir")
    columns = (
        TextColumn("pretrain"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=recipe.steps)
        for step, losses, model, tokenizer in train(recipe):
            told = "  ".join(f"{role} {loss:.3f}" for role, loss in losses.items())
            bar.update(task, completed=step, description=told)
            if not console.is_terminal and (step % 100 == 0 or step == recipe.steps):
                console.print(f"step {step}/{recipe.steps}  {told}")
            if step == recipe.steps:
                save(recipe, model, tokenizer, folder)
    console.print(f"saved to {folder}: look at it with python main.py mode=eval model.path={folder}")


def lessons(recipe: Recipe) -> list[dict[str, str]]:
    """Questions with right answers, none of them held out: data for the methods that want data."""
    rng = Random(derive(recipe.seed, "lessons"))
    problems = (recipe.world.problem(rng) for _ in range(recipe.lessons))
    return [{"prompt": small_world.word(p, rng), "reference": str(small_world.solve(p))} for p in problems]


def exam(recipe: Recipe) -> list[dict[str, object]]:
    """The held-out questions, no problem twice, with the marks that give them away in another's words."""
    rng = Random(derive(recipe.seed, "exam"))
    rows: dict[str, dict[str, object]] = {}
    while len(rows) < recipe.exam:
        problem = recipe.world.problem(rng, exam=True)
        key = small_world.mark(problem)
        row = {"query": small_world.word(problem, rng), "reference": str(small_world.solve(problem)), "marks": [key]}
        rows.setdefault(key, row)
    return list(rows.values())


def save(recipe: Recipe, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A ``save_pretrained`` folder with the exam and the lessons beside the weights."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, rows in (("exam", exam(recipe)), ("train", lessons(recipe))):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
