"""A client of any OpenAI-compatible ``/chat/completions``: bounded, retried, cancelled in time, quiet about its key."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Generator, Mapping
from email.utils import parsedate_to_datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, NamedTuple

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from selfplay.seeds import derive

MAX_REPLY = 1 << 20
"""Bound on one reply of the server, bytes."""

MAX_WAIT = 60.0
"""The longest wait before a request is sent again, seconds; a server that asks for more is not waited for."""

_FIRST_WAIT = 0.5
_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404})


class RemoteError(RuntimeError):
    """The server gave no reply, and would not if it were asked again. ``lost`` is the number of attempts that it may
    have worked on, and charge for."""

    def __init__(self, what: str, *, lost: int = 0) -> None:
        super().__init__(what)
        self.lost = lost


class Misconfigured(RemoteError):
    """No request will fare better: the address, the model's name or the key is wrong."""


class Unavailable(RemoteError):
    """Worth another attempt; ``after`` is how many seconds the server wants to be left alone."""

    def __init__(self, what: str, *, after: float | None = None, lost: int = 0) -> None:
        super().__init__(what, lost=lost)
        self.after = after


class Reply(NamedTuple):
    """What the model said, and the server's count of tokens, -1 where it gives none; ``lost`` as in ``RemoteError``."""

    text: str
    tokens_in: int
    tokens_out: int
    lost: int = 0


class Key(httpx.Auth):
    """The key of an environment variable: it goes into a header and nowhere else, not even into a ``repr``."""

    def __init__(self, name: str | None) -> None:
        key = (os.environ.get(name) or "").strip() if name else ""
        if not re.fullmatch(r"[!-~]*", key):  # the HTTP library would quote it in its error
            raise ValueError(f"the environment variable {name} holds something that is no key: a space or a line end")
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request

    def erased(self, text: str) -> str:
        """The text without the key, which a server may repeat."""
        return text.replace(self._key, "[key]") if self._key else text

    def __bool__(self) -> bool:
        return bool(self._key)

    def __repr__(self) -> str:
        return "Key(...)"


class ChatClient:
    """Asks one server. Open it (``async with``) once in each event loop.

    ``timeout`` seconds bound one attempt as a whole; there are at most ``1 + retries``. Another follows a refused or
    lost connection, a late reply, one that cannot be read, 408, 409, 425, 429 and 5xx, after what ``Retry-After`` says
    or else after twice as long as before, times a factor from 0.5 to 1.5 that ``seed`` and the request decide.
    Redirects are not followed: the key is for ``base_url`` alone, and is only sent there by TLS or within this machine.
    """

    def __init__(self, base_url: str, key_env: str | None, *, timeout: float, retries: int, seed: int) -> None:
        url = _address(base_url)
        self._key = Key(key_env)
        self._local = _is_local(url.host)
        if self._key and url.scheme != "https" and not self._local:
            raise ValueError(
                f"verifier.base_url: {url.host} would get the key in clear text: use https, or verifier.key_env=null"
            )
        self._url = str(url).rstrip("/") + "/chat/completions"
        self._key_env, self._host = key_env, url.host
        self._timeout, self._retries, self._seed = timeout, retries, seed
        self.counts: Counter[str] = Counter()
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> ChatClient:
        self._http = httpx.AsyncClient(
            auth=self._key,
            timeout=None,  # the attempt as a whole has one
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

    async def _attempt(self, content: bytes) -> Reply:
        assert self._http is not None, "open the client first"
        self.counts["requests"] += 1
        headers = {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(self._timeout):
                async with self._http.stream("POST", self._url, content=content, headers=headers) as response:
                    data = bytearray()
                    async for chunk in response.aiter_raw():
                        data += chunk
                        if len(data) > MAX_REPLY:
                            raise RemoteError(f"{self._host} replied with more than {MAX_REPLY} bytes", lost=1)
        except TimeoutError:
            raise Unavailable(f"{self._host} did not reply within {self._timeout:g} s", lost=1) from None
        except httpx.HTTPError as error:  # its request, which knows the key, must not travel in the chain
            raise Unavailable(f"no connection to {self._host}: {self._key.erased(str(error))[:200]}") from None
        if response.status_code != 200:
            raise self._refusal(response, bytes(data))
        return self._reply(bytes(data))

    def _reply(self, data: bytes) -> Reply:
        try:
            answer: Any = json.loads(data)
            text: object = answer["choices"][0]["message"]["content"]
            usage: Any = answer.get("usage") or {}
            counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            text, counted = None, []
        if not isinstance(text, str):
            raise Unavailable(f"{self._host} replied with something that is no chat completion", lost=1)
        sane = [n if type(n) is int and 0 <= n < 1 << 40 else -1 for n in counted]
        return Reply(self._key.erased(text), *sane)

    def _refusal(self, response: httpx.Response, data: bytes) -> RemoteError:
        status = response.status_code
        what = f"{self._host} answered with status {status}{self._reason(data)}"
        if status == 401:
            have = "is not accepted" if self._key else "is not set"
            return Misconfigured(f"{what}: the key in the environment variable {self._key_env} {have}")
        if status in _MISCONFIGURED:
            hint = ": redirects are not followed, name the place itself" if status < 400 else ""
            return Misconfigured(f"{what}{hint} (verifier.base_url, verifier.model)")
        if status in (408, 409, 425, 429) or status >= 500:
            after = _retry_after(response.headers.get("Retry-After", ""))
            if after is None or after <= MAX_WAIT:
                return Unavailable(what, after=after)
            return RemoteError(f"{what} and wants to be asked again in {after:.0f} s")
        return RemoteError(what)

    def _reason(self, data: bytes) -> str:
        """The server's own words, if it says any in the usual place: one short line, without the key."""
        try:
            said: Any = json.loads(data)
            error: Any = said["error"]
            text = error if isinstance(error, str) else str(error["message"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return f" ({''.join(c if c.isprintable() else ' ' for c in self._key.erased(text))[:200]})"


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


def _address(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"verifier.base_url is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError("verifier.base_url must look like http://127.0.0.1:8000/v1: scheme, host, path and no more")
    if url.userinfo:
        raise ValueError(
            "verifier.base_url holds a password, which would be written into the run's config: use key_env"
        )
    return url


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _retry_after(text: str) -> float | None:
    """Seconds from ``Retry-After``: a number or a date. None where it says neither."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip(), re.ASCII):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
