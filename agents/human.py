"""A person in a seat, at the console."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from selfplay.types import Action, Chat

FENCE = '"""'
"""A line of this alone opens and closes a text of several lines."""


class HumanLeft(Exception):
    """The person closed the input (Ctrl-D): end the game and say goodbye. Not an error."""


class Human:
    """Asks a person, one observation after the other, what to say.

    An answer is one line, and an empty line is the empty text, a legal move like any other. To write or paste
    several lines, put a line ``\"\"\"`` before and after them. The seeds are not used: a person is not replayed.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """The person's texts, without completions. Raises ``HumanLeft`` at the end of the input."""
        return [Action(self._ask(chat, n, len(observations))) for n, chat in enumerate(observations, 1)]

    def _ask(self, chat: Chat, number: int, total: int) -> str:
        of = f" ({number} of {total})" if total > 1 else ""
        for part, title in (("system", "Your role"), ("user", "You are told")):
            if chat.get(part):
                self._console.print(Panel(Text(visible(chat[part])), title=title + of, title_align="left"))
        hint = f"One line; {FENCE} alone opens and closes several; Ctrl-D leaves the game."
        self._console.print(Text(hint, style="dim"))
        first = self._line("> ")
        if first.strip() != FENCE:
            return first
        lines: list[str] = []
        while (line := self._line(". ")).strip() != FENCE:
            lines.append(line)
        return "\n".join(lines)

    def _line(self, prompt: str) -> str:
        try:
            line = self._console.input(Text(prompt, style="bold"))
        except EOFError:
            self._console.print()  # the cursor still stands behind the prompt
            raise HumanLeft("the person left the game.") from None
        # A terminal with another encoding hands over half characters, which no tokenizer could read.
        return line.encode("utf-8", "replace").decode()


def visible(text: str) -> str:
    """``text`` with its control characters spelt out, so that a player's words cannot steer the person's terminal."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
        else character.encode("unicode_escape").decode()
        for character in text
    )
