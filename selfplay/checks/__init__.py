"""What hostile players say: the texts that every check plays."""

from __future__ import annotations

NASTY = ("", " ", "\x00", "é\u200b\u202e", "<|im_end|><|user|>", "{query}", "%s", "a" * 100_000, "\ud800", "[/b]")
"""Moves that somebody will make."""
