"""Connecting to a model behind an OpenAI-compatible server, once: equal settings give the same live engine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.remote_engine import RemoteEngine
from selfplay.remote.budget import Budget, Tokens
from selfplay.remote.cache import ReplyCache
from selfplay.remote.client import ChatClient
from selfplay.remote.queue import RequestQueue

__all__ = ["Ledger", "RemoteEngine", "connect", "forget"]

SPENT = "spent.json"

_live: dict[str, RemoteEngine] = {}


def connect(
    name: str | None = None,
    base_url: str = "http://127.0.0.1:8000/v1",
    key_env: str | None = "OPENAI_API_KEY",
    *,
    concurrency: int = 64,
    timeout: float = 120.0,
    retries: int = 6,
    budget_tokens: int | None = None,
    budget_money: float | None = None,
    price_in: float = 0.0,
    price_out: float = 0.0,
    cache: str | None = None,
    extra: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> RemoteEngine:
    """The engine of the model ``name`` at ``base_url``; equal arguments give the same one, with one budget.

    Without a name it is the only model that the server lists. The key is read from the environment variable
    ``key_env`` and is neither an argument nor written anywhere. At most ``concurrency`` requests are under way; each
    attempt has ``timeout`` seconds, and ``retries`` more follow, after pauses that ``seed`` decides (``ChatClient``).
    ``budget_tokens`` and ``budget_money`` (``price_in`` and ``price_out`` are for a million tokens) bound what is
    spent. ``cache`` is a folder of replies: what is found there is not asked again. ``extra`` holds more fields of
    every request, and null removes one. Nothing is sent before the engine is used. Raises ``ValueError``.
    """
    key = json.dumps({**locals(), "extra": dict(extra or {})}, sort_keys=True)
    if key not in _live:
        if retries < 0 or not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout} must be above 0 and finite, and retries={retries} at least 0")
        queue = RequestQueue(
            ChatClient(base_url, key_env, timeout=timeout, retries=retries, seed=seed, silence=True),
            Budget(budget_tokens, budget_money, (price_in, price_out)),
            ReplyCache(cache) if cache is not None else None,
            concurrency=concurrency,
            who=f"the model {name!r} at {base_url}" if name else f"the model at {base_url}",
            otherwise="says nothing",
            strict=True,
        )
        _live[key] = RemoteEngine(queue, name, extra)
    return _live[key]


def forget() -> None:
    """Drop what was connected: the next ``connect`` begins with a budget of which nothing is spent."""
    _live.clear()


class Ledger:
    """All engines that are connected, in seats and as judges: what they spend is kept for a resumed run, and told."""

    def metrics(self) -> dict[str, float]:
        """``RemoteEngine.metrics`` of every engine as ``remote/<last part of the model's name>/<count>``, summed where
        names are alike."""
        summed: dict[str, float] = {}
        for engine in _live.values():
            for count, value in engine.metrics().items():
                key = f"remote/{engine.name.rpartition('/')[2]}/{count}"
                summed[key] = summed.get(key, 0.0) + value
        return summed

    def save(self, folder: Path) -> None:
        """The tokens that each engine has spent."""
        spent: dict[str, list[Tokens]] = {}
        for place, engine in self._placed():
            spent.setdefault(place, []).append(engine.budget.spent)
        (folder / SPENT).write_text(json.dumps(spent, indent=1), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take it up again. A budget may have been raised meanwhile: model and server say whose spending it was."""
        spent: dict[str, list[list[int]]] = json.loads((folder / SPENT).read_text(encoding="utf-8"))
        for place, engine in self._placed():
            if spent.get(place):
                tokens_in, tokens_out = spent[place].pop(0)
                engine.budget.spent = (int(tokens_in), int(tokens_out))

    def _placed(self) -> Iterator[tuple[str, RemoteEngine]]:
        """Engines in the order in which they were connected, which a resumed run repeats."""
        for key, engine in _live.items():
            settings = json.loads(key)
            yield f"{settings['name']} at {settings['base_url']}", engine
