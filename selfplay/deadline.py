"""Cooperative deadlines: whoever runs in this process asks between units of work whether time is up.

A verifier whose work is a model's or a network's cannot be killed with the process that it shares, so it is
*cancelled*: the panel sets a deadline around its call, and the engine's decoding loop, a judge's requests and a
worker's cases each call ``check``. The deadline belongs to the context (``contextvars``): a thread is given it by
``copy_context().run``.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

_UNTIL: ContextVar[float] = ContextVar("deadline", default=math.inf)


class DeadlinePassed(RuntimeError):
    """Time was up before the work was done."""


@contextmanager
def deadline(seconds: float) -> Generator[None, None, None]:
    """Within the block, ``check`` raises ``DeadlinePassed`` once ``seconds`` are over; of nested ones the earliest
    counts."""
    token = _UNTIL.set(min(_UNTIL.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _UNTIL.reset(token)


def remaining() -> float:
    """Seconds left, infinite without a deadline and never below 0."""
    return max(0.0, _UNTIL.get() - time.monotonic())


def check() -> None:
    """Raise ``DeadlinePassed`` if time is up."""
    if time.monotonic() >= _UNTIL.get():
        raise DeadlinePassed("the deadline passed")


@contextmanager
def backstop(seconds: float) -> Generator[None, None, None]:
    """Interrupt the block with ``DeadlinePassed`` after ``seconds`` even if it never asks.

    By the real-time interval timer, so only in the main thread of a process that has no other use for that signal;
    elsewhere, or for an infinite time, the block is left alone. Code that holds the interpreter in a C function is
    interrupted when it comes back.
    """
    ours = threading.current_thread() is threading.main_thread() and math.isfinite(seconds)
    if not ours or signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, signal.SIG_IGN):
        yield
        return

    before = signal.getsignal(signal.SIGALRM)

    def late(number: int, frame: FrameType | None) -> None:
        # First of all: an alarm that comes while the block is being left cuts the lines after `finally` short.
        signal.signal(signal.SIGALRM, before)
        raise DeadlinePassed("the call did not end at its deadline")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
