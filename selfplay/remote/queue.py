"""Many requests to one server at once: bounded in number and cost, kept in a cache, cancelled at the deadline."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Coroutine, Hashable, Iterator, Mapping
from typing import Any, TypeVar

from selfplay.deadline import DeadlinePassed, check, remaining
from selfplay.remote.budget import Budget
from selfplay.remote.cache import ReplyCache
from selfplay.remote.client import ChatClient, canonical, quiet
from selfplay.remote.reply import Misconfigured, OverBudget, Refused, RemoteError, Reply

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Body = Mapping[str, Any]
Outcome = Reply | RemoteError

COUNTS = (
    "requests", "retries", "cache_hits", "cache_corrupt", "over_budget", "failures", "tokens_in", "tokens_out",
)  # fmt: skip

_BYTES_PER_TOKEN = 3
"""An estimate of the bytes for one token, on the low side: a request's cost must be known before it is sent."""


class RequestQueue:
    """Puts requests to the server of ``client``, at most ``concurrency`` at once; kept replies are not asked again.

    A request that fails for good is an outcome like any other, unless every request of a call failed. With ``strict``
    the first failure ends the call, except a prompt that was ``Refused``. ``who`` was asked, and ``otherwise`` is what
    becomes of a request without a reply, in the words of a log.

    ``counts`` since they were last cleared: ``requests`` sent, ``retries`` among them, ``cache_hits``,
    ``cache_corrupt``, ``over_budget`` (not sent), ``failures`` (no reply), ``tokens_in`` and ``tokens_out`` as the
    server counts them.
    """

    def __init__(
        self,
        client: ChatClient,
        budget: Budget,
        cache: ReplyCache | None = None,
        *,
        concurrency: int,
        who: str,
        otherwise: str,
        strict: bool = False,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be above 0")
        self.client, self.budget, self.cache = client, budget, cache
        self.counts: Counter[str] = client.counts
        self._concurrency, self._strict = concurrency, strict
        self._who, self._otherwise = who, otherwise
        self._logged: set[str] = set()
        quiet()

    def ask(self, bodies: Mapping[K, Body], max_tokens: int) -> dict[K, Outcome]:
        """What became of each request, of which none may have more than ``max_tokens`` of reply. Raises
        ``RemoteError`` and ``DeadlinePassed``."""
        outcomes: dict[K, Outcome] = {}
        if self.cache is not None:
            for key, body in bodies.items():
                check()
                kept = self.cache.get(body)
                if kept is not None:
                    outcomes[key] = kept
            self.counts["cache_hits"] += len(outcomes)
            self.counts["cache_corrupt"] += self.cache.corrupt
            self.cache.corrupt = 0
        asked = {key: body for key, body in bodies.items() if key not in outcomes}
        if asked:
            self._run(self._ask_all(asked, max_tokens, outcomes))
        return outcomes

    def models(self) -> dict[str, int | None]:
        """``ChatClient.models``. Raises ``RemoteError`` and ``DeadlinePassed``."""
        return self._run(self.client.models())

    def metrics(self) -> dict[str, float]:
        """The counts since the last call, and the ``money`` that their tokens cost."""
        counts = {name: float(self.counts[name]) for name in COUNTS}
        counts["money"] = self.budget.price((self.counts["tokens_in"], self.counts["tokens_out"]))
        self.counts.clear()
        return counts

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """In an event loop of its own, of which nothing is left at the deadline."""
        return asyncio.run(self._in_time(work))

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        left = remaining()
        try:
            async with asyncio.timeout(left if math.isfinite(left) else None), self.client:
                return await work
        except TimeoutError:
            raise DeadlinePassed(f"{self._who} was still being asked at the deadline") from None

    async def _ask_all(self, bodies: Mapping[K, Body], max_tokens: int, outcomes: dict[K, Outcome]) -> None:
        self.budget.open()
        queue = iter(bodies.items())
        number = min(self._concurrency, len(bodies))
        workers = [asyncio.create_task(self._work(queue, max_tokens, outcomes)) for _ in range(number)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        failed = [outcome for key in bodies if isinstance(outcome := outcomes[key], RemoteError)]
        errors = [error for error in failed if not isinstance(error, OverBudget)]
        if errors and len(failed) == len(bodies) and not self._strict:
            raise errors[0]

    async def _work(self, queue: Iterator[tuple[K, Body]], max_tokens: int, outcomes: dict[K, Outcome]) -> None:
        """One request after the other, until none is left."""
        for key, body in queue:
            try:
                outcomes[key] = await self._ask(body, max_tokens)
            except Misconfigured:
                raise
            except RemoteError as error:
                if self._strict and not isinstance(error, Refused):
                    raise
                outcomes[key] = error

    async def _ask(self, body: Body, max_tokens: int) -> Reply:
        estimate = (len(canonical(body)) // _BYTES_PER_TOKEN, max_tokens)
        if not await self.budget.reserve(estimate):
            self.counts["over_budget"] += 1
            if not self._strict:
                self._log_once("budget", f"the budget of {self._who} is spent: what would exceed it is not asked")
            raise OverBudget(f"the budget of {self._who} is spent")
        try:
            reply = await self.client.ask(body)
        except Misconfigured:
            raise
        except RemoteError as error:
            await self.budget.settle(estimate, (error.lost * estimate[0], error.lost * estimate[1]))
            self.counts["failures"] += 1
            if not self._strict or isinstance(error, Refused):
                self._log_once("failure", f"{self._who} gave no reply, and {self._otherwise}: {error}")
            raise
        told_in, told_out = reply.tokens_in, reply.tokens_out
        cost_in = (told_in if told_in >= 0 else estimate[0]) + reply.lost * estimate[0]
        cost_out = (told_out if told_out >= 0 else estimate[1]) + reply.lost * estimate[1]
        await self.budget.settle(estimate, (cost_in, cost_out))
        self.counts["tokens_in"] += max(told_in, 0)
        self.counts["tokens_out"] += max(told_out, 0)
        if self.cache is not None:
            self.cache.put(body, reply)
        return reply

    def _log_once(self, kind: str, text: str) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            log.error(text)
