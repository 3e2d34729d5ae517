"""The tests of vLLM run where it is installed, by ``make test-vllm``; anywhere else they say so and are skipped."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    spec = find_spec("vllm")
    if spec is not None and spec.origin is not None:  # this very folder is a package without origin
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed here: make test-vllm"))
