"""The model as its own judge: the quality reward of Language Self-Play (arXiv 2509.07414, box 3), in our words.

The judge is a *frozen* copy of the model, so that it cannot be taught to flatter. Real models fill in the additive
rubric of seven yes-or-no points, with the sum written out, so that a verdict that does not add up is refused; the
embedded model says one number. What cannot be read is nan and counted, never 0. What is done against players who
would rather persuade than answer is in ``docs/judges.md``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from selfplay.deadline import DeadlinePassed
from selfplay.seeds import derive
from selfplay.types import Case
from verifiers.judging.ask import Asker
from verifiers.judging.canary import Canaries
from verifiers.judging.frame import nonce
from verifiers.judging.rubric import ONE_NUMBER, PASS, POINTS, Form, read_number, read_rubric, rubric_prompt
from verifiers.judging.rules import rejected

__all__ = ["ONE_NUMBER", "SelfJudge", "read_number", "read_rubric"]

FORMS = ("full", "number", "short")
FOREIGN = 2
"""Under how many questions of others an answer is tried; all must be passed before it counts as tampering."""


class SelfJudge:
    """Scores (query, answer) in [0, 1]: the judge's points divided by 7; nan where its verdict cannot be read.

    ``engine`` is the judge, a frozen reference. ``form`` is ``full`` (the rubric), ``number`` (the rubric, answered by
    one digit) or ``short`` (the embedded model's one line, byte for byte what it was trained on: without a frame).
    ``temperature`` 0 is greedy; above it, ``seed`` and the case's text decide, and ``samples`` verdicts are averaged.
    ``expected`` reads the mean score off the probabilities of the eight digits instead of sampling one (not with
    ``full``, whose score repeats a sum that was already written). Equal cases are judged once.

    Empty answers, punctuation and mere openers are 0 by rule, unasked. A seeded share ``counterfactual`` of the cases
    that pass (5 of 7 points) is judged again under other questions of the same call: an answer that passes under those
    too has won over the judge, or found it blind. One cannot tell which, so it is nan, and counted as ``tampered``.
    One call in ``canary_every``, by the seed, also puts answers that say nothing to the judge; their scores pay nobody.
    """

    runs_in: ClassVar[Literal["main"]] = "main"

    def __init__(
        self,
        engine: Any,
        form: Form = "full",
        *,
        max_tokens: int = 400,
        temperature: float = 0.0,
        samples: int = 1,
        expected: bool = False,
        counterfactual: float = 0.0,
        canary_every: int = 50,
        seed: int = 0,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"verifier.form={form!r} is unknown: use full, number or short")
        if expected and form == "full":
            raise ValueError("expected=true reads one digit: use form=number, or short for the embedded model")
        if not 0 <= counterfactual <= 1:
            raise ValueError(f"counterfactual={counterfactual} is a share, from 0 to 1")
        self.engine, self.seed, self.counterfactual = engine, seed, counterfactual
        self.form: Form = form
        self._read = read_rubric if form == "full" else read_number
        self._ask = Asker(
            engine,
            max_tokens=max_tokens,
            temperature=temperature,
            samples=samples,
            seed=seed,
            replies=tuple(map(str, range(POINTS + 1))) if expected else (),
        )
        self._canaries = Canaries(canary_every, seed)
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        pairs = [(case["query"], case["answer"]) for case in cases]
        ruled = {pair: rejected(*pair) for pair in dict.fromkeys(pairs)}
        points = self._points([pair for pair, reason in ruled.items() if reason is None])
        tampered = self._tampered(points)
        self._count(pairs, ruled, points, tampered)
        self._release_canaries([query for query, _ in pairs])
        scores = {pair: value / POINTS for pair, value in points.items()}
        scores |= dict.fromkeys(tampered, math.nan) | {
            pair: 0.0 for pair, reason in ruled.items() if reason is not None
        }
        return [scores.get(pair, math.nan) for pair in pairs]

    def metrics(self) -> dict[str, float]:
        """Since the last call: ``rejected`` by rule, ``unparsable`` (with those ``too_long`` to be asked),
        ``top_score_share`` (a judge that likes everything), ``counterfactuals`` tried and ``tampered`` found; after a
        call with canaries ``canaries`` and ``canary_accepted``, the share at 5 points or more."""
        counts, self._counts = self._counts, Counter()
        metrics = {
            name: float(counts[name]) for name in ("rejected", "unparsable", "too_long", "counterfactuals", "tampered")
        }
        metrics["top_score_share"] = counts["top_score"] / (counts["cases"] or 1)
        if counts["canaries"]:
            metrics["canaries"] = float(counts["canaries"])
            metrics["canary_accepted"] = counts["canaries_accepted"] / counts["canaries"]
        return metrics

    def _points(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Points 0-7 of distinct (query, answer); nan where the verdict cannot be read, absent where it is too long
        to be asked."""
        prompts = {pair: self._prompt(*pair) for pair in pairs}
        verdicts = self._ask(prompts.values(), self._read)
        return {pair: verdicts[prompt] for pair, prompt in prompts.items() if prompt in verdicts}

    def _prompt(self, query: str, answer: str) -> str:
        mark = nonce(self.seed, query, answer) if self.form != "short" else ""
        return rubric_prompt(query, answer, mark, form=self.form)

    def _tampered(self, points: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
        """Those of the seeded share that pass under their own question and under every foreign one."""
        queries = sorted({query for query, _ in points})
        tried: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for (query, answer), value in points.items():
            chance = derive(self.seed, "counterfactual", query, answer) / 2**63
            if value >= PASS and chance < self.counterfactual:
                others = [other for other in queries if other != query]
                others.sort(key=lambda other: derive(self.seed, "foreign", query, answer, other))
                if len(others) >= FOREIGN:
                    tried[query, answer] = [(other, answer) for other in others[:FOREIGN]]
        foreign = self._points(list(dict.fromkeys(pair for pairs in tried.values() for pair in pairs)))
        self._counts["counterfactuals"] += len(tried)
        return [pair for pair, pairs in tried.items() if all(foreign.get(other, 0.0) >= PASS for other in pairs)]

    def _count(
        self,
        pairs: Sequence[tuple[str, str]],
        ruled: dict[tuple[str, str], str | None],
        points: dict[tuple[str, str], float],
        tampered: Sequence[tuple[str, str]],
    ) -> None:
        for pair in pairs:
            self._counts["cases"] += 1
            if ruled[pair] is not None:
                self._counts["rejected"] += 1
                continue
            self._counts["too_long"] += pair not in points
            self._counts["unparsable"] += math.isnan(points.get(pair, math.nan))
            self._counts["top_score"] += points.get(pair) == POINTS
            self._counts["tampered"] += pair in tampered

    def _release_canaries(self, queries: Sequence[str]) -> None:
        drawn = self._canaries.draw(queries)
        if not drawn:
            return
        try:
            points = self._points(drawn)
        except DeadlinePassed:  # the scores stand: only this measurement waits for another call
            return
        self._canaries.count(list(points.values()), self._counts)
