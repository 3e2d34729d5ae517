"""The key of a server, which goes into a header and nowhere else, and the addresses that may be given it."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from ipaddress import ip_address

import httpx


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


def address(base_url: str, group: str = "") -> httpx.URL:
    """The address of a server's API. Raises ``ValueError``, which names ``<group>base_url``."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{group}base_url is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError(f"{group}base_url must look like http://127.0.0.1:8000/v1: scheme, host, path and no more")
    if url.userinfo:
        raise ValueError(f"{group}base_url holds a password, which would be written into the run's config: use key_env")
    return url


def is_local(host: str) -> bool:
    """Whether the host is this machine itself, by name or number."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
