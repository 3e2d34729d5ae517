"""A judge behind an API: any OpenAI-compatible server grades (query, answer) by the rubric of the self-judge.

The hygiene is the self-judge's own (``verifiers/judging``): frames with a nonce, rules before the call, strict readers.
What cannot be read, was not answered in time or would have exceeded the budget is nan and counted, never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from selfplay.remote.budget import Budget
from selfplay.remote.cache import ReplyCache
from selfplay.remote.client import ChatClient
from selfplay.remote.queue import Outcome, RequestQueue
from selfplay.remote.reply import Reply
from selfplay.seeds import derive
from selfplay.types import Case
from verifiers.judging.frame import nonce
from verifiers.judging.rubric import POINTS, Form, read_number, read_rubric, rubric_prompt
from verifiers.judging.rules import rejected

FORMS = ("full", "number", "short")
COUNTS = (
    "requests", "retries", "cache_hits", "cache_corrupt", "rejected", "unparsable", "over_budget", "failures",
    "tokens_in", "tokens_out",
)  # fmt: skip


class Remote:
    """Scores (query, answer) in [0, 1]: the points that ``model`` at ``base_url`` gives, divided by 7.

    ``form``: ``full`` is the rubric with reasons, ``number`` the rubric answered by one digit, ``short`` the embedded
    model's one line. The key is read from the environment variable ``key_env`` and is neither an argument nor written
    anywhere; without one, nothing is sent, and a server that wants one says so. At most ``concurrency`` requests are
    under way; each attempt has ``timeout`` seconds, and ``retries`` more follow (``ChatClient``). ``temperature`` and
    a seed made of ``seed`` and the prompt are sent; ``extra`` holds more fields of the request, and null removes one.

    ``budget_tokens`` and ``budget_money`` bound what the run may spend, a resumed run's past included; ``price_in`` and
    ``price_out`` are for a million tokens. A request that might exceed the budget is not sent: its case is nan.
    ``cache`` is a folder of replies: what is found there is not asked again. Equal cases are judged once.

    A call raises ``RemoteError`` where every request failed, or the settings are wrong: the panel counts it and, after
    several in a row, stops the run. Raises ``ValueError`` for settings that make no sense.
    """

    runs_in: ClassVar[Literal["thread"]] = "thread"  # requests have time-outs, and end at the deadline

    def __init__(
        self,
        model: str,
        base_url: str = "http://127.0.0.1:8000/v1",
        key_env: str | None = "OPENAI_API_KEY",
        form: Form = "full",
        *,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 4,
        max_tokens: int = 400,
        temperature: float = 0.0,
        budget_tokens: int | None = None,
        budget_money: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        cache: str | None = None,
        extra: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"verifier.form={form!r} is unknown: use {', '.join(FORMS)}")
        if concurrency < 1 or retries < 0 or max_tokens < 1 or not 0 < timeout < math.inf:
            raise ValueError("concurrency, max_tokens and timeout must be above 0, and retries at least 0")
        self.form: Form = form
        self.seed = seed
        self._budget = Budget(budget_tokens, budget_money, (price_in, price_out))
        self._fixed = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        self._extra, self._max_tokens = dict(extra or {}), max_tokens
        self._read = read_rubric if form == "full" else read_number
        settings = ("verifier.base_url", "verifier.model")
        client = ChatClient(base_url, key_env, timeout=timeout, retries=retries, seed=seed, settings=settings)
        self._queue = RequestQueue(
            client,
            self._budget,
            ReplyCache(cache) if cache is not None else None,
            concurrency=concurrency,
            who="the remote judge",
            otherwise="the score is nan",
        )
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        prompts = [self._prompt(case) for case in cases]
        self._counts["rejected"] += prompts.count(None)
        bodies = {prompt: self._body(prompt) for prompt in dict.fromkeys(prompts) if prompt is not None}
        outcomes = self._queue.ask(bodies, self._max_tokens)
        return [0.0 if prompt is None else self._score(outcomes[prompt]) for prompt in prompts]

    def metrics(self) -> dict[str, float]:
        """Since the last call: ``requests`` sent, ``retries`` among them, ``cache_hits``, cases ``rejected`` by rule,
        ``unparsable`` verdicts, prompts ``over_budget``, ``failures`` (no reply), tokens and money as the server
        counts."""
        counts, self._counts = self._counts, Counter()
        told = self._queue.metrics()
        return {name: told.get(name, float(counts[name])) for name in (*COUNTS, "money")}

    def save(self, folder: Path) -> None:
        """What was spent, so that a resumed run keeps to the same budget."""
        self._budget.save(folder)

    def load(self, folder: Path) -> None:
        self._budget.load(folder)

    def _prompt(self, case: Case) -> str | None:
        """The question to the judge; None where a rule decides."""
        query, answer = (case[slot].encode("utf-8", "replace").decode() for slot in ("query", "answer"))
        if rejected(query, answer) is not None:
            return None
        return rubric_prompt(query, answer, nonce(self.seed, query, answer), form=self.form)

    def _body(self, prompt: str) -> dict[str, Any]:
        seed = derive(self.seed, "judge", prompt) % 2**31  # some servers take 32 bits
        body = {**self._fixed, "seed": seed, **self._extra, "messages": [{"role": "user", "content": prompt}]}
        return {name: value for name, value in body.items() if value is not None}

    def _score(self, outcome: Outcome) -> float:
        points = self._read(outcome.text) if isinstance(outcome, Reply) else None
        self._counts["unparsable"] += points is None and isinstance(outcome, Reply)
        return math.nan if points is None else points / POINTS
