"""A person in a seat, at the console; several of them take turns at it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

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

    Where the game lists the legal moves they are shown, and whoever types another one is asked once more; what they say
    then is said. Several people at one console need a ``name`` each: before another one's turn the screen is cleared,
    and nothing is shown until they say that they are there.
    """

    at_console = True
    _last: str | None = None
    """Who sat at the console last, of those who have a name."""

    def __init__(self, console: Console | None = None, name: str | None = None) -> None:
        self._console, self._name = console or Console(), name

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """The person's texts, without completions. Raises ``HumanLeft`` at the end of the input."""
        return self.choose(observations, seeds, [{}] * len(observations))

    def choose(
        self, observations: Sequence[Chat], seeds: Sequence[int], infos: Sequence[Mapping[str, Any]]
    ) -> list[Action]:
        """The same, among ``legal_actions`` where ``infos`` list them."""
        if observations and self._name is not None:
            self._take_over()
        total = len(observations)
        rows = enumerate(zip(observations, infos, strict=True), 1)
        return [Action(self._move(chat, info.get("legal_actions") or (), n, total)) for n, (chat, info) in rows]

    def _take_over(self) -> None:
        """Let nobody see what another person is told."""
        if Human._last not in (None, self._name):
            self._console.clear()
            self._console.print(Text(f"It is the turn of {visible(str(self._name))}. Press Enter when you sit here."))
            self._line("")
        Human._last = self._name

    def _move(self, chat: Chat, legal: Sequence[Any], number: int, total: int) -> Any:
        """What the person says, as the move that the game lists where it is one of these."""
        moves = {str(move).strip().casefold(): move for move in legal}
        said = self._ask(chat, tuple(map(str, legal)), f" ({number} of {total})" if total > 1 else "")
        if moves and said.strip().casefold() not in moves:
            self._console.print(Text("That is not one of the moves. Say it again to say it all the same, or another."))
            said = self._read()
        return moves.get(said.strip().casefold(), said)

    def _ask(self, chat: Chat, legal: Sequence[str], of: str) -> str:
        who = f"{visible(self._name)}: " if self._name else ""
        for part, title in (("system", "Your role"), ("user", "You are told")):
            if chat.get(part):
                self._console.print(Panel(Text(visible(chat[part])), title=Text(who + title + of), title_align="left"))
        if legal:
            self._console.print(Text(f"Moves: {visible(', '.join(legal))}"))
        hint = f"One line; {FENCE} alone opens and closes several; Ctrl-D leaves the game."
        self._console.print(Text(hint, style="dim"))
        return self._read()

    def _read(self) -> str:
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
