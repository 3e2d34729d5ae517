"""The held-out exam: questions that nobody trains on, sat with samples and with the best guess."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from selfplay.seeds import derive
from selfplay.types import Agent, Episode, Verifier

RESAMPLES = 1_000

Row = dict[str, Any]


class ExamError(ValueError):
    """An exam that cannot be read, in one sentence that names file and line."""


@dataclass(frozen=True)
class Accuracy:
    """Mean score over the exam's questions, with the 95 % interval of a bootstrap over questions."""

    mean: float
    low: float
    high: float


class Exam:
    """Questions with references from a JSONL file: ``{"query", "reference", "marks"?}`` a line.

    ``marks`` are strings that give the question away in anybody's wording, compared without spaces and case; by
    default the query itself. ``limit`` takes the first rows only; ``told`` is how a question is put. Raises
    ``ExamError`` for what cannot be meant.
    """

    def __init__(self, path: str | Path, limit: int | None = None, told: str = "{query}") -> None:
        if limit is not None and limit < 1:
            raise ExamError(f"exam.limit={limit} must be at least 1, or null for all questions")
        self.path, self.told = Path(path), told
        rows = _rows(self.path)[:limit]
        self.queries = [row["query"] for row in rows]
        self.references = [row["reference"] for row in rows]
        marks = {squeeze(mark) for row in rows for mark in row.get("marks") or [row["query"]]}
        # 12+3 is not in 12+34; a full stop is no boundary to trust ("3. 12 + 3 = ?"), so a decimal is kept out with it.
        every = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
        self._marks = re.compile(rf"(?<!\d)(?:{every})(?!\d)")

    def __len__(self) -> int:
        return len(self.queries)

    def answers(self, agent: Agent, *, seed: int, samples: int = 1) -> list[dict[str, str]]:
        """The cases of ``agent`` answering every question ``samples`` times, siblings together."""
        chats = [
            {"system": "", "user": self.told.format(query=query)} for query in self.queries for _ in range(samples)
        ]
        actions = agent.act(chats, [derive(seed, "exam", i) for i in range(len(chats))])
        return [
            {"query": self.queries[i // samples], "answer": action.move, "reference": self.references[i // samples]}
            for i, action in enumerate(actions)
        ]

    def sit(self, agent: Agent, verifier: Verifier, *, seed: int, samples: int = 1) -> Accuracy:
        """The accuracy of sampled answers; one that cannot be judged counts as wrong."""
        cases = self.answers(agent, seed=seed, samples=samples)
        scores = [score if score == score else 0.0 for score in verifier(cases)]
        return interval([fmean(scores[i : i + samples]) for i in range(0, len(scores), samples)], seed)

    def poses(self, query: str) -> bool:
        """Whether a text asks, or quotes, a question of the exam."""
        return self._marks.search(squeeze(query)) is not None

    def keep_out(self, episodes: Sequence[Episode]) -> tuple[list[Episode], float]:
        """The episodes that do not touch the exam, and the share that does: those pay nobody and teach nothing."""
        clean = [episode for episode in episodes if not self.poses(_query(episode))]
        return clean, 1 - len(clean) / len(episodes) if episodes else 0.0


def squeeze(text: str) -> str:
    """No spaces, lower case, and spelled-out signs as signs."""
    text = re.sub(r"\s+", "", text.lower())
    return text.replace("plus", "+").replace("minus", "-").replace("times", "*")


def interval(scores: Sequence[float], seed: int) -> Accuracy:
    """The mean of independent scores and its 95 % percentile bootstrap interval, resampled by a private generator."""
    rng = random.Random(derive(seed, "bootstrap"))
    means = sorted(fmean(rng.choices(scores, k=len(scores))) for _ in range(RESAMPLES))
    return Accuracy(fmean(scores), means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1])


def auc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """How often a right answer scores above a wrong one, ties counting half; nan scores are left out, and without
    both kinds the answer is nan."""
    pairs = [(score, truth) for score, truth in zip(scores, right, strict=True) if score == score]
    wrong_below: dict[float, float] = {}
    negatives = sorted(score for score, truth in pairs if not truth)
    positives = [score for score, truth in pairs if truth]
    if not negatives or not positives:
        return float("nan")
    for score in set(positives):
        below, upto = bisect_left(negatives, score), bisect_right(negatives, score)
        wrong_below[score] = (below + upto) / 2
    return fmean(wrong_below[score] for score in positives) / len(negatives)


def _query(episode: Episode) -> str:
    """What was asked: the case's query, or before any verdict the first words said."""
    first = episode.turns[0].action.move if episode.turns else ""
    return episode.case.get("query") or (first if isinstance(first, str) else "")


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise ExamError(f"exam.path={str(path)!r} is not a file")
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):  # JSON may hold U+2028 as it is
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise ExamError(f"{path}, line {number}: not JSON ({error.msg})") from error
        row = cast(Row, found) if isinstance(found, dict) else {}
        for key in ("query", "reference"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise ExamError(f"{path}, line {number}: needs a text {key!r}")
        marks: Any = [] if row.get("marks") is None else row["marks"]
        if not isinstance(marks, list) or not all(_is_mark(mark) for mark in cast(list[object], marks)):
            raise ExamError(f"{path}, line {number}: 'marks' is a list of texts that are not blank, as [\"12+34\"]")
        rows.append(row)
    if not rows:
        raise ExamError(f"{path} holds no questions")
    return rows


def _is_mark(mark: object) -> bool:
    """A blank mark would be found in every text."""
    return isinstance(mark, str) and squeeze(mark) != ""
