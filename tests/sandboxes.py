"""What the sandbox's tests share: a sandbox of each back end that holds here, and a first program.

A module that runs its tests on each says ``sandbox = pytest.fixture(scope="module", params=BACKENDS)(opened)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from verifiers.sandbox import Limits, Sandbox, probe

ROOT = Path(__file__).resolve().parent.parent
ADD = "def add(a, b):\n    return a + b\n"
QUICK = Limits(cpu_s=0.5, memory_mib=128)


BACKENDS = ("linux-ns", "linux-landlock")


def opened(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One worker of the back end ``request.param``; the test is skipped where that does not hold."""
    report = probe([request.param])[0]
    if not report.holds:
        pytest.skip(f"{request.param} does not hold here: {report.reason}")
    with Sandbox(request.param, workers=1, limits=QUICK) as made:
        yield made
