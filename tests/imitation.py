"""What the tests of the learners that imitate share: played steps, a look at a gradient, and a run that is resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.engine import Engine
from selfplay.types import VERIFIER, Action, Case, Completion, Episode, Turn
from tests.helpers import chat, make_engine, tree

SCORE = [[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.0, 0.0]]


def say(engine: Engine, texts: Sequence[str], seed: int, max_tokens: int = 6) -> list[Completion]:
    seeds = [1000 * seed + i for i in range(len(texts))]
    return engine.generate([chat(t) for t in texts], temperature=1.0, top_p=1.0, max_tokens=max_tokens, seeds=seeds)


def play(engine: Engine, score: Any = SCORE, seed: int = 1) -> list[Episode]:
    """Three questions with four answers each, of unequal lengths, all of them ended: ``score[i][j]`` is what an answer
    is worth."""
    prompts = [f"question {'x' * 5 * i}" for i, row in enumerate(score) for _ in row]
    answers = iter(replace(said, finish="stop") for said in say(engine, prompts, seed))
    said = [[next(answers) for _ in row] for row in score]
    return tell(tree(score, None, said), prompts)


def tell(episodes: list[Episode], prompts: Sequence[str], reference: str = "data") -> list[Episode]:
    """The episodes with what the solver was told, its words as its moves, and the data's answer in the case."""
    for episode, prompt in zip(episodes, prompts, strict=True):
        answered = episode.turns[1]
        assert answered.action.completion is not None
        answered.observation = chat(prompt)
        answered.action = replace(answered.action, move=answered.action.completion.text)
        episode.case = {**episode.case, "reference": reference}
    return episodes


def answers(
    engine: Engine, texts: Sequence[str], score: Sequence[float], query: str = "q", reference: str = ""
) -> list[Episode]:
    """The episodes of one question with these written answers."""
    made: list[Episode] = []
    for number, (text, r) in enumerate(zip(texts, score, strict=True)):
        turn = Turn("solver", "solver_0", chat(query), Action(text, engine.encode(chat(query), text)), 0)
        judged = Turn(VERIFIER, "verifier_0", {}, Action({"score": r}), 1 + number)
        case = {"query": query, "answer": text, "reference": reference}
        made.append(Episode((turn, judged), {"solver": r}, case, {"score": r}, game="told_v0"))
    return made


def mute(episode: Episode) -> Episode:
    asked, answered, judged = episode.turns
    muted = Turn("solver", answered.seat, answered.observation, Action(answered.action.move), answered.group)
    return Episode((asked, muted, judged), episode.returns, episode.case, episode.verdict, game=episode.game)


def cut(episode: Episode) -> Episode:
    asked, answered, judged = episode.turns
    said = answered.action.completion
    assert said is not None
    short = Completion(said.text, said.prompt_ids, said.token_ids, said.logprobs, "length")
    turn = Turn("solver", answered.seat, answered.observation, Action(said.text, short), answered.group)
    return Episode((asked, turn, judged), episode.returns, episode.case, episode.verdict, game=episode.game)


def critique(engine: Engine, draft: str, revisions: list[str]) -> list[Episode]:
    """A draft and what it was revised to, in rounds, as the game plays it."""
    told, asked = chat("Why?"), chat("Why? You said: ... Do it again.")
    turns = [Turn("solver", "solver_0", told, Action(draft, engine.encode(told, draft)), 0)]
    for number, text in enumerate(revisions):
        turns.append(Turn("reviser", "reviser_0", asked, Action(text, engine.encode(asked, text)), 1 + number))
    turns.append(Turn(VERIFIER, "verifier_0", {}, Action({"score": 1.0}), 9))
    case = {"query": "Why?", "answer": revisions[-1], "reference": ""}
    return [Episode(tuple(turns), {"solver": 0.0, "reviser": 1.0}, case, {"score": 1.0}, game="critique_v0")]


class Judge:
    """A judge whose chances are written down: by the words of the answer."""

    def __init__(self, chances: dict[str, float]) -> None:
        self.chances, self.asked = chances, list[tuple[str, str, str]]()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        self.asked += [(case["query"], case["answer"], case["rival"]) for case in cases]
        return [self.chances[case["answer"]] for case in cases]


def weights(learner: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learner.named}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-5) -> bool:
    """Whether two gradients are the same up to rounding; they must not be nothing."""
    largest = max(float(g.abs().max()) for g in other.values())
    assert one.keys() == other.keys() and largest > 1e-3, "there is a gradient to compare"
    return all(float((one[name] - other[name]).abs().max()) < tolerance * largest for name in one)


def check_resume(
    make: Callable[[Engine], Any],
    folder: Path,
    before: int = 3,
    after: int = 3,
    told: Callable[[Engine, int], list[Episode]] = lambda engine, seed: play(engine, seed=seed),
) -> None:
    """A learner that is saved and loaded into a fresh one goes on to the same bytes, metrics included."""
    engine = make_engine()
    learner = make(engine)
    for seed in range(before):
        learner.update(told(engine, seed))
    for part, member in (("model", engine), ("learner", learner)):
        (folder / part).mkdir()
        member.save(folder / part)
    other = make_engine(seed=9)
    resumed = make(other)
    other.load(folder / "model")
    resumed.load(folder / "learner")
    for seed in range(before, before + after):
        episodes = told(engine, seed)
        assert learner.update(episodes) == resumed.update(episodes)
        one, two = (dict(member.model.named_parameters()) for member in (engine, other))
        assert same(one, two), f"after {seed + 1} updates"
    for part, one in (("learner", learner), ("resumed", resumed)):
        (folder / f"{part}_after").mkdir()
        one.save(folder / f"{part}_after")
    files, others = (written(folder / f"{part}_after") for part in ("learner", "resumed"))
    assert files == others and files, [name for name in files if files[name] != others.get(name)]


def written(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def chance_of_even(engine: Engine) -> float:
    """How likely the first token of the reply to "Hi" is an even one."""
    ids = torch.tensor([engine.encode(chat("Hi"), "").prompt_ids])
    with torch.no_grad():
        return float(engine.model(input_ids=ids).logits[0, -1].softmax(-1)[::2].sum())


def bandit(engine: Engine, seed: int, pulls: int = 32) -> list[Episode]:
    """Replies of one token to "Hi", worth 1 if its id is even; the data's answer begins with an even one."""
    said = [replace(c, finish="stop") for c in say(engine, ["Hi"] * pulls, seed, max_tokens=1)]
    episodes = tree([[float(c.token_ids[0] % 2 == 0) for c in said]], None, [said])
    letter = engine.tokenizer.decode([64 + seed % 8 * 2])
    assert engine.encode(chat("Hi"), letter).token_ids[0] % 2 == 0
    return tell(episodes, ["Hi"] * pulls, letter)
