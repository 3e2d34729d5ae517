"""What every test runs under: no network, few threads, and the same examples each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.chat_server import Serve

# Set before torch and transformers are imported; the processes that tests start inherit both.
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would download a model fails at once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small wait for a second thread longer than it helps

# A red run must be red again, and a busy machine is no bug. To search further: pytest --hypothesis-profile=search
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000)
settings.load_profile("same")


@pytest.fixture(params=["compiled", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test runs by our kernels, where they can be compiled, and by torch's operators."""
    from models import native

    if request.param == "torch":
        monkeypatch.setattr(native, "compiled", lambda: None)
    elif native.compiled() is None:
        pytest.skip("no C compiler, or no kernels for this processor")
    return request.param


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts chat servers, with the arguments of ``ChatServer``; they end with the test."""
    from tests.chat_server import ChatServer

    with ExitStack() as stack:
        yield lambda *script, **more: stack.enter_context(ChatServer(*script, **more))


@pytest.fixture
def quick_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key unless a test sets one, short waits, and no engine of an earlier test."""
    from models.remote import forget
    from selfplay.remote import client

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    forget()
    yield
    forget()
