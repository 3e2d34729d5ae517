"""What a model says aloud, apart from what it thinks: the same rule for every verifier that looks for an answer."""

from __future__ import annotations

import re

_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def spoken(text: str) -> str:
    """What is outside ``<think>``: an unclosed thought lasts to the end, a lone closing tag began before the text."""
    parts: list[str] = []
    position = depth = 0
    for tag in _TAG.finditer(text):
        if tag[1] and depth == 0:
            parts.clear()
        elif depth == 0:
            parts.append(text[position : tag.start()])
        depth = max(0, depth - 1) if tag[1] else depth + 1
        position = tag.end()
    return "".join(parts) + (text[position:] if depth == 0 else "")
