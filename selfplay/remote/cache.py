"""Replies on disk by the hash of their request: a replay, or a resumed run, asks nothing twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from selfplay.remote.client import canonical
from selfplay.remote.reply import Reply


class ReplyCache:
    """``<folder>/<sha256 of the request>.json`` holds the request and its reply, written whole or not at all.

    ``corrupt`` counts the entries that could not be read, or hold another request: they are asked anew.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.corrupt = 0

    def get(self, body: Mapping[str, Any]) -> Reply | None:
        """The reply to an equal request, if there is one."""
        try:
            data = self._file(body).read_bytes()
        except FileNotFoundError:
            return None
        try:
            entry: Any = json.loads(data)
            if canonical(entry["request"]) != canonical(body):
                raise ValueError("another request")
            text, *tokens = (entry[name] for name in ("reply", "tokens_in", "tokens_out"))
            finish = entry.get("finish", "")
            first = tuple((str(token), float(logprob)) for token, logprob in entry.get("first", ()))
            if not isinstance(text, str) or not isinstance(finish, str) or not all(type(n) is int for n in tokens):
                raise ValueError("no reply")
            return Reply(text, *tokens, finish=finish, first=first)
        except (ValueError, LookupError, TypeError, RecursionError):
            self.corrupt += 1
            return None

    def put(self, body: Mapping[str, Any], reply: Reply) -> None:
        """Keep a reply. Several processes may share a folder: the last of them wins, whole."""
        file = self._file(body)
        entry = {"request": body, "reply": reply.text, "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
        entry |= {"finish": reply.finish} if reply.finish else {}
        entry |= {"first": reply.first} if reply.first else {}
        scratch = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        scratch.write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        scratch.replace(file)

    def _file(self, body: Mapping[str, Any]) -> Path:
        return self._folder / f"{sha256(canonical(body)).hexdigest()}.json"
