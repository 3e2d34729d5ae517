"""A client of any OpenAI-compatible ``/chat/completions``: bounded, retried, cancelled in time, quiet about its key."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from selfplay.remote.key import Key, address, is_local
from selfplay.remote.reply import (
    Misconfigured,
    Refused,
    RemoteError,
    Reply,
    Unavailable,
    read_reason,
    read_reply,
    refuses_the_prompt,
)
from selfplay.seeds import derive

MAX_REPLY = 1 << 20
"""Bound on one reply of the server, bytes."""

MAX_WAIT = 60.0
"""The longest wait before a request is sent again, seconds; a server that asks for more is not waited for."""

_FIRST_WAIT = 0.5
_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404})
_CONTEXT_KEYS = ("max_model_len", "context_length")


class ChatClient:
    """Asks one server. Open it (``async with``) once in each event loop.

    ``timeout`` seconds bound one attempt as a whole; there are at most ``1 + retries``. Another follows a refused or
    lost connection, a late reply, one that cannot be read, 408, 409, 425, 429 and 5xx, after what ``Retry-After`` says
    or else after twice as long as before, times a factor from 0.5 to 1.5 that ``seed`` and the request decide.
    Redirects are not followed: the key is for ``base_url`` alone, and is only sent there by TLS or within this machine.

    ``settings`` are what errors name as wrong: where the address and the model's name stand. ``silence`` says that a
    model may end without a word, as in ``read_reply``.
    """

    def __init__(
        self,
        base_url: str,
        key_env: str | None,
        *,
        timeout: float,
        retries: int,
        seed: int,
        settings: tuple[str, str] = ("base_url", "name"),
        silence: bool = False,
    ) -> None:
        group = settings[0].removesuffix("base_url")
        url = address(base_url, group)
        self._key = Key(key_env)
        self._local = is_local(url.host)
        if self._key and url.scheme != "https" and not self._local:
            raise ValueError(
                f"{group}base_url: {url.host} would get the key in clear text: use https, or {group}key_env=null"
            )
        self._url = str(url).rstrip("/")
        self._key_env, self.host, self._place = key_env, url.host, url.netloc.decode("ascii")
        self._timeout, self._retries, self._seed = timeout, retries, seed
        self._settings, self._silence = settings, silence
        self.counts: Counter[str] = Counter()
        self._http: httpx.AsyncClient | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> ChatClient:
        if self._tls is None:  # reading the certificates takes longer than a small call: once is enough
            self._tls = httpx.create_ssl_context(trust_env=not self._local)
        self._http = httpx.AsyncClient(
            auth=self._key,
            verify=self._tls,
            timeout=None,  # the attempt as a whole has one
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),  # whoever asks has a bound
            follow_redirects=False,
            trust_env=not self._local,  # the environment's proxies are for other machines
            headers={"Accept-Encoding": "identity", "User-Agent": "sparring"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def ask(self, body: Mapping[str, Any]) -> Reply:
        """The reply to one request. Raises ``RemoteError``."""
        content = canonical(body)
        name = sha256(content).hexdigest()
        lost = 0

        def again(state: RetryCallState) -> None:
            nonlocal lost
            error = state.outcome.exception() if state.outcome is not None else None
            lost += error.lost if isinstance(error, RemoteError) else 0
            self.counts["retries"] += 1

        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self._retries),
            wait=lambda state: self._wait(state, name),
            retry=retry_if_exception_type(Unavailable),
            before_sleep=again,
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            reply: Reply = await retrying(self._attempt, content)
        except RemoteError as error:
            error.lost += lost
            raise
        return reply._replace(lost=lost)

    def _wait(self, state: RetryCallState, name: str) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Unavailable) and error.after is not None:
            return error.after
        factor = 0.5 + derive(self._seed, "jitter", name, state.attempt_number) / 2**63
        return min(MAX_WAIT, _FIRST_WAIT * 2 ** (state.attempt_number - 1)) * factor

    async def models(self) -> dict[str, int | None]:
        """The models that the server lists, with the tokens of their context where it tells. Raises ``RemoteError``,
        after one attempt."""
        data = await self._exchange("GET", "/models")
        try:
            listed: Any = json.loads(data)["data"]
            told = [(str(item["id"]), [item.get(key) for key in _CONTEXT_KEYS]) for item in listed]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise RemoteError(f"{self.host} lists its models in no way that can be read") from None
        return {name: next((n for n in sizes if type(n) is int and n > 0), None) for name, sizes in told}

    async def _attempt(self, content: bytes) -> Reply:
        self.counts["requests"] += 1
        reply = read_reply(await self._exchange("POST", "/chat/completions", content), silence=self._silence)
        if reply is None:
            raise Unavailable(f"{self.host} replied with something that is no chat completion", lost=1)
        return reply._replace(text=self._key.erased(reply.text))

    async def _exchange(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """The body of a good answer. Raises ``RemoteError``."""
        assert self._http is not None, "open the client first"
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with asyncio.timeout(self._timeout):
                async with self._http.stream(method, self._url + path, content=content, headers=headers) as response:
                    data = bytearray()
                    async for chunk in response.aiter_raw():
                        data += chunk
                        if len(data) > MAX_REPLY:
                            raise RemoteError(f"{self.host} replied with more than {MAX_REPLY} bytes", lost=1)
        except TimeoutError:
            raise Unavailable(f"{self.host} did not reply within {self._timeout:g} s", lost=1) from None
        except httpx.HTTPError as error:  # its request, which knows the key, must not travel in the chain
            why = self._key.erased(str(error))[:200]
            raise Unavailable(f"no connection to {self._place} ({self._settings[0]}): {why}") from None
        if response.status_code != 200:
            raise self._refusal(response, bytes(data))
        return bytes(data)

    def _refusal(self, response: httpx.Response, data: bytes) -> RemoteError:
        status = response.status_code
        text, kind = read_reason(data)
        said = "".join(c if c.isprintable() else " " for c in self._key.erased(text))[:200]
        what = f"{self.host} answered with status {status}{f' ({said})' if text else ''}"
        if status == 401:
            have = "is not accepted" if self._key else "is not set"
            return Misconfigured(f"{what}: the key in the environment variable {self._key_env} {have}")
        if status in _MISCONFIGURED:
            hint = ": redirects are not followed, name the place itself" if status < 400 else ""
            return Misconfigured(f"{what}{hint} ({', '.join(self._settings)})")
        if refuses_the_prompt(status, text, kind):
            return Refused(what)
        if status in (408, 409, 425, 429) or status >= 500:
            after = _retry_after(response.headers.get("Retry-After", ""))
            if after is None or after <= MAX_WAIT:
                return Unavailable(what, after=after)
            return RemoteError(f"{what} and wants to be asked again in {after:.0f} s")
        return RemoteError(what)


def canonical(body: Mapping[str, Any]) -> bytes:
    """The request as bytes: equal requests give equal bytes. ASCII, so that half a surrogate pair is no error."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def quiet() -> None:
    """The HTTP libraries log a line for every request, which would drown a run's log, and for debugging the headers of
    every reply, in which a server may repeat the key. A level that was set on purpose is left alone."""
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _retry_after(text: str) -> float | None:
    """Seconds from ``Retry-After``: a number or a date. None where it says neither."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip(), re.ASCII):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
