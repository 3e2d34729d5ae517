"""The engines: they generate, score and snapshot. A configuration names ``models.load``, ``reference``, ``twin``
and ``adapted``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.loading import load, reference, twin
    from models.persona import adapted

__all__ = ["adapted", "load", "reference", "twin"]


def __getattr__(name: str):
    """These on first use: the world and its recipe need no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("models.persona" if name == "adapted" else "models.loading"), name)
