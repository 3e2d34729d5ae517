"""A judge behind an API: any OpenAI-compatible server grades (query, answer) by the rubric of the self-judge.

The hygiene is the self-judge's own (``verifiers/judging``): frames with a nonce, rules before the call, strict readers.
What cannot be read, was not answered in time or would have exceeded the budget is nan and counted, never 0.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from selfplay.deadline import DeadlinePassed, check, remaining
from selfplay.seeds import derive
from selfplay.types import Case
from verifiers.judging.frame import nonce
from verifiers.judging.rubric import POINTS, Form, read_number, read_rubric, rubric_prompt
from verifiers.judging.rules import rejected
from verifiers.remote_budget import Budget
from verifiers.remote_cache import ReplyCache
from verifiers.remote_client import ChatClient, Misconfigured, RemoteError, Reply, canonical, quiet

log = logging.getLogger(__name__)

FORMS = ("full", "number", "short")
COUNTS = (
    "requests", "retries", "cache_hits", "cache_corrupt", "rejected", "unparsable", "over_budget", "failures",
    "tokens_in", "tokens_out",
)  # fmt: skip

_BYTES_PER_TOKEN = 3
"""An estimate of the bytes for one token, on the low side: a request's cost must be known before it is sent."""


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
        if min(price_in, price_out) < 0:
            raise ValueError("price_in and price_out must be at least 0")
        if budget_money is not None and not (price_in > 0 or price_out > 0):
            raise ValueError("budget_money cannot be kept without price_in or price_out")
        self.form: Form = form
        self.seed, self.concurrency = seed, concurrency
        self._budget = Budget(budget_tokens, budget_money, (price_in, price_out))
        self._fixed = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        self._extra, self._max_tokens = dict(extra or {}), max_tokens
        self._read = read_rubric if form == "full" else read_number
        self._client = ChatClient(base_url, key_env, timeout=timeout, retries=retries, seed=seed)
        self._cache = ReplyCache(cache) if cache is not None else None
        self._counts: Counter[str] = Counter()
        self._logged: set[str] = set()
        quiet()

    def __call__(self, cases: Sequence[Case]) -> list[float]:
        prompts = [self._prompt(case) for case in cases]
        self._counts["rejected"] += prompts.count(None)
        replies = self._replies(dict.fromkeys(prompt for prompt in prompts if prompt is not None))
        return [0.0 if prompt is None else self._score(replies[prompt]) for prompt in prompts]

    def metrics(self) -> dict[str, float]:
        """Since the last call: ``requests`` sent, ``retries`` among them, ``cache_hits``, cases ``rejected`` by rule,
        ``unparsable`` verdicts, prompts ``over_budget``, ``failures`` (no reply), tokens and money as the server
        counts."""
        self._counts += self._client.counts
        self._client.counts.clear()
        metrics = {name: float(self._counts[name]) for name in COUNTS}
        metrics["money"] = self._budget.price((self._counts["tokens_in"], self._counts["tokens_out"]))
        self._counts.clear()
        return metrics

    def save(self, folder: Path) -> None:
        """What was spent, so that a resumed run keeps to the same budget."""
        self._budget.save(folder / "spent.json")

    def load(self, folder: Path) -> None:
        self._budget.load(folder / "spent.json")

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

    def _score(self, reply: Reply | None) -> float:
        if reply is None:
            return math.nan
        points = self._read(reply.text)
        self._counts["unparsable"] += points is None
        return math.nan if points is None else points / POINTS

    def _replies(self, prompts: Iterable[str]) -> dict[str, Reply | None]:
        """The judge's reply to each prompt, kept ones first; None where there is none. Raises ``RemoteError`` and
        ``DeadlinePassed``."""
        bodies = {prompt: self._body(prompt) for prompt in prompts}
        replies: dict[str, Reply | None] = {}
        if self._cache is not None:
            for prompt, body in bodies.items():
                check()
                kept = self._cache.get(body)
                if kept is not None:
                    replies[prompt] = kept
            self._counts["cache_hits"] += len(replies)
            self._counts["cache_corrupt"] += self._cache.corrupt
            self._cache.corrupt = 0
        asked = {prompt: body for prompt, body in bodies.items() if prompt not in replies}
        if asked:
            asyncio.run(self._ask_in_time(asked, replies))
        return replies

    async def _ask_in_time(self, bodies: Mapping[str, Mapping[str, Any]], replies: dict[str, Reply | None]) -> None:
        left = remaining()
        try:
            async with asyncio.timeout(left if math.isfinite(left) else None), self._client:
                await self._ask_all(bodies, replies)
        except TimeoutError:
            raise DeadlinePassed("the remote judge was still being asked at the deadline") from None

    async def _ask_all(self, bodies: Mapping[str, Mapping[str, Any]], replies: dict[str, Reply | None]) -> None:
        self._budget.open()
        queue, errors = iter(bodies.items()), list[RemoteError]()
        number = min(self.concurrency, len(bodies))
        workers = [asyncio.create_task(self._work(queue, replies, errors)) for _ in range(number)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if errors and all(replies[prompt] is None for prompt in bodies):
            raise errors[0]

    async def _work(
        self,
        queue: Iterator[tuple[str, Mapping[str, Any]]],
        replies: dict[str, Reply | None],
        errors: list[RemoteError],
    ) -> None:
        """One request after the other, until none is left."""
        for prompt, body in queue:
            replies[prompt] = None
            estimate = (len(canonical(body)) // _BYTES_PER_TOKEN, self._max_tokens)
            if not await self._budget.reserve(estimate):
                self._counts["over_budget"] += 1
                self._log_once("budget", "the budget of the remote judge is spent: what would exceed it is nan")
                continue
            try:
                reply = await self._client.ask(body)
            except Misconfigured:
                raise
            except RemoteError as error:
                await self._budget.settle(estimate, (error.lost * estimate[0], error.lost * estimate[1]))
                self._counts["failures"] += 1
                self._log_once("failure", f"the remote judge gave no reply, and the score is nan: {error}")
                errors.append(error)
                continue
            told_in, told_out = reply.tokens_in, reply.tokens_out
            cost_in = (told_in if told_in >= 0 else estimate[0]) + reply.lost * estimate[0]
            cost_out = (told_out if told_out >= 0 else estimate[1]) + reply.lost * estimate[1]
            await self._budget.settle(estimate, (cost_in, cost_out))
            self._counts["tokens_in"] += max(told_in, 0)
            self._counts["tokens_out"] += max(told_out, 0)
            if self._cache is not None:
                self._cache.put(body, reply)
            replies[prompt] = reply

    def _log_once(self, kind: str, text: str) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            log.error(text)
