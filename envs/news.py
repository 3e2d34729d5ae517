"""What a game itself says to its players: texts from a configuration, with facts filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.script import GameError, Line, nearest


class News:
    """``texts`` by name, as ``{"killed": "{name} is dead."}``; ``known`` says which there are, and their fields.

    Raises ``GameError`` for a text that is missing, unknown, or has a field that its news does not have.
    """

    def __init__(self, texts: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> None:
        for key in texts:
            if key not in known:
                raise GameError(f"news.{key} is unknown{nearest(str(key), known)}: use {', '.join(known)}")
        for key, fields in known.items():
            if not isinstance(texts.get(key), str) or not texts[key].strip():
                raise GameError(f"news.{key} is missing: what is said then?")
            for name in Line.parse({"role": "game", "says": "news", "told": texts[key]}, 0).fields():
                if name not in fields:
                    has = ", ".join(fields) or "none"
                    raise GameError(f"news.{key} has the field {{{name}}}{nearest(name, fields)}: there is {has}")
        self._texts = dict(texts)

    def tell(self, key: str, **facts: object) -> str:
        """The text of that name with the facts filled in; facts that it does not show may be there, too."""
        return self._texts[key].format_map(facts)

    def __deepcopy__(self, memo: dict[int, Any]) -> News:
        return self  # texts never change
