"""Rejection-sampling fine-tuning: of many samples imitate those that were judged right, each path once.

L = -mean over tokens of log pi(token_t), of the kept words (arXiv 2308.01825; iterated it is RAFT, arXiv 2304.06767,
and expert iteration). With ``prompt_of`` the words are learned as the reply to another role's question: revisions as
first answers, the supervised stage of Constitutional AI (arXiv 2212.08073, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Unpack

from torch import Tensor

from learners.examples import (
    Example,
    in_order,
    key,
    load_examples,
    nearest,
    save_examples,
    turns_of,
    words,
    worth,
)
from learners.keys import OptimizerKeys
from learners.paths import equations, farthest, holds, path
from learners.rounds import NOTHING, Rounds
from learners.sft import cross_entropy, token_shares
from learners.step import OptimizerStep
from models.engine import Engine
from selfplay.seeds import derive
from selfplay.types import Completion, Episode, Turn

DISTINCT = ("equations", "text", "none")


class Rejection:
    """Fine-tunes ``engine`` on the turns of ``role`` whose verdict ``part`` is at least ``threshold``.

    ``part`` None goes by the role's return, ``threshold`` None keeps everything; truncated words are never kept, nor
    with ``check_equations`` those in which an equation is false. Of the words for one question, ``distinct`` keeps one
    for each list of ``equations``, or one of equal ``text``, and ``per_query`` at most so many (None: all).

    ``every`` updates make a round of sampling (the last one may be shorter), learned in ``epochs`` passes by steps of
    at most ``batch_size``. ``archive`` remembers so many kept paths of earlier rounds: they are not kept again, and
    ``replay`` of them for each new one are learned anew, drawn by ``seed``. ``originals`` adds the case's reference, a
    written solution. ``prompt_of`` names the role whose question the words shall answer; ``drop_unchanged`` drops those
    that repeat what that role said itself. ``encode`` learns also from words without tokens, another model's. The other
    keys are ``OptimizerKeys``.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        role: str = "solver",
        part: str | None = "score",
        threshold: float | None = 1.0,
        check_equations: bool = True,
        distinct: str = "equations",
        per_query: int | None = 4,
        originals: bool = False,
        prompt_of: str | None = None,
        drop_unchanged: bool = True,
        encode: bool = False,
        every: int = 1,
        epochs: int = 3,
        batch_size: int | None = None,
        archive: int = 0,
        replay: float = 0.0,
        seed: int = 0,
        **keys: Unpack[OptimizerKeys],
    ) -> None:
        if distinct not in DISTINCT:
            raise ValueError(f"learner.distinct={distinct!r} is unknown{nearest(distinct, DISTINCT)}")
        if per_query is not None and per_query < 1:
            raise ValueError(f"learner.per_query={per_query} must be at least 1, or null for all")
        if archive < 0 or replay < 0:
            raise ValueError(f"learner.archive={archive} and learner.replay={replay} must be at least 0")
        if replay and not archive:
            raise ValueError(f"learner.replay={replay} needs learner.archive, the number of paths to draw from")
        self.engine, self.role, self.part, self.threshold = engine, role, part, threshold
        self.check_equations, self.distinct, self.per_query = check_equations, distinct, per_query
        self.originals, self.prompt_of, self.encode = originals, prompt_of, encode
        self.drop_unchanged = drop_unchanged
        self.archive, self.replay, self.seed = archive, replay, seed
        self.step = OptimizerStep.of(self, engine, keys)
        self.named, self.optimizer = self.step.named, self.step.optimizer
        self.rounds = Rounds(self.step, every=every, epochs=epochs, batch_size=batch_size, seed=seed)
        self.archived: list[Example] = []

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Keep what is right; learn the round where this completes it. ``rejection/...`` tells the shares: of the
        samples those that are right, with a false equation, truncated and unchanged; of the right ones the duplicates.
        """
        right, metrics = self._right(episodes)
        gathered = self.rounds.gather(right)
        if gathered is None:
            return metrics | NOTHING
        fresh = self._distinct(gathered)
        metrics |= {
            "rejection/duplicate_share": 1 - len(fresh) / len(gathered) if gathered else 0.0,
            "rejection/kept": float(len(fresh)),
        }
        lesson = in_order(fresh + self._replayed(len(fresh)))
        self.archived = (self.archived + fresh)[-self.archive :] if self.archive else []
        metrics["rejection/archive"] = float(len(self.archived))
        if not fresh:
            return metrics | NOTHING
        learned, _ = self.rounds.learn(lesson, self._loss, _shares)
        return metrics | learned

    def save(self, folder: Path) -> None:
        self.step.save(folder)
        self.rounds.save(folder)
        save_examples(self.archived, folder / "archive.jsonl")

    def load(self, folder: Path) -> None:
        self.step.load(folder)
        self.rounds.load(folder)
        self.archived = load_examples(folder / "archive.jsonl")

    # -- what is right ----------------------------------------------------------------------------------------------

    def _right(self, episodes: Sequence[Episode]) -> tuple[list[Example], dict[str, float]]:
        kept: list[Example] = []
        counts = dict.fromkeys(("right", "false_equation", "truncated", "unchanged"), 0)
        samples = 0
        for turn, leaves in turns_of(episodes, self.role).items():
            asked = self._asked(turn, leaves)
            said = words(self.engine, turn, asked, encode=self.encode)
            if said is None:
                continue
            samples += 1
            fault = self._fault(turn, asked, said, leaves)
            if fault is None:
                kept.append(Example((said,)))
                counts["right"] += 1
            elif fault in counts:
                counts[fault] += 1
            if self.originals and (reference := leaves[0].case.get("reference", "")):
                kept.append(Example((self.engine.encode((asked or turn).observation, reference),), given=True))
        return kept, {f"rejection/{name}_share": count / max(samples, 1) for name, count in counts.items()}

    def _fault(self, turn: Turn, asked: Turn | None, said: Completion, leaves: Sequence[Episode]) -> str | None:
        """Why the words are not learned: ``wrong``, ``false_equation``, ``truncated``, ``unchanged``; None if they
        are."""
        if self.threshold is not None:
            score = worth(leaves, turn, self.part)
            if math.isnan(score) or score < self.threshold:
                return "wrong"
        if said.finish == "length":
            return "truncated"
        repeats = asked is not None and str(asked.action.move).split() == str(turn.action.move).split()
        if repeats and self.drop_unchanged:
            return "unchanged"
        if self.check_equations and not all(holds(equation) for equation in equations(said.text)):
            return "false_equation"
        return None

    def _asked(self, turn: Turn, leaves: Sequence[Episode]) -> Turn | None:
        """The turn whose question the words are learned to answer: the role's first one in the game."""
        if self.prompt_of is None:
            return None
        turns = leaves[0].turns
        for other in turns:
            if other.role == self.prompt_of:
                return other
        raise ValueError(
            f"learner.prompt_of={self.prompt_of!r} has not spoken before {turn.role!r} does"
            f"{nearest(self.prompt_of, {other.role for other in turns})}"
        )

    # -- each path once ---------------------------------------------------------------------------------------------

    def _distinct(self, examples: Sequence[Example]) -> list[Example]:
        """No path twice, none that the archive knows, and at most ``per_query`` samples for each question."""
        known: dict[tuple[int, ...], set[tuple[str, ...]]] = {}
        for old in self.archived if self.distinct != "none" else []:
            known.setdefault(old.said[0].prompt_ids, set()).add(self._path(old))
        questions: dict[tuple[int, ...], list[Example]] = {}
        for example in examples:
            question = example.said[0].prompt_ids
            if self._path(example) not in known.get(question, ()):
                questions.setdefault(question, []).append(example)
        kept: list[Example] = []
        for answers in questions.values():
            given = list({key(one): one for one in answers if one.given}.values())
            sampled = [one for one in answers if not one.given]
            kept += given + (sampled if self.distinct == "none" else self._one_of_each(sampled))[: self.per_query]
        return kept

    def _one_of_each(self, answers: Sequence[Example]) -> list[Example]:
        told_apart = list({one.said[0].text: one for one in answers}.values())
        texts = [one.said[0].text for one in told_apart]
        return [told_apart[i] for i in farthest(texts, [self._path(one) for one in told_apart])]

    def _path(self, example: Example) -> tuple[str, ...]:
        text = example.said[0].text
        return path(text) if self.distinct == "equations" else (text,)

    def _replayed(self, fresh: int) -> list[Example]:
        """Of the archive ``replay`` for each new path, no path twice."""
        wanted = min(round(self.replay * fresh), len(self.archived))
        draw = Random(derive(self.seed, "replay", self.rounds.number))
        return draw.sample(sorted(self.archived, key=key), wanted)

    def _loss(self, batch: Sequence[Example]) -> tuple[Tensor, None]:
        logp_BT, _ = self.step.logprobs([example.said[0] for example in batch])
        return cross_entropy(logp_BT, logp_BT.new_tensor([example.share for example in batch])), None


def _shares(batch: Sequence[Example]) -> list[float]:
    return token_shares([example.tokens for example in batch], [example.weight for example in batch])
