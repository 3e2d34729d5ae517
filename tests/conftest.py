"""What every test runs under: no network, few threads, and the same examples each time."""

from __future__ import annotations

import os

from hypothesis import settings

# Set before torch and transformers are imported; the processes that tests start inherit both.
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would download a model fails at once
os.environ.setdefault("OMP_NUM_THREADS", "2")  # the models here are so small that more threads only wait for another

# A red run must be red again, and a busy machine is no bug. To search further: pytest --hypothesis-profile=search
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000)
settings.load_profile("same")
