"""One game told to a person: who was told what, said what, and what it paid."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from selfplay.playing import role_of
from selfplay.screen import harmless
from selfplay.types import VERIFIER, Episode, Turn


def show(episode: Episode, console: Console | None = None) -> None:
    """Print every turn, the verdict, a forfeit if there was one, and the returns."""
    console = console or Console()
    for turn in episode.turns:
        if turn.role == VERIFIER:
            continue
        said = harmless(str(turn.action.move), console, lines=True)
        console.print(Panel(Text(said), title=_who(turn, episode), title_align="left"))
    if episode.forfeit:
        console.print(Text(f"{episode.forfeit} broke the rules and forfeits", style="red"))
    if episode.verdict:
        console.print(Text("verdict   " + "  ".join(f"{part} {value:.3g}" for part, value in episode.verdict.items())))
    console.print(Text("returns   " + "  ".join(f"{role} {value:+.3g}" for role, value in episode.returns.items())))


def _who(turn: Turn, episode: Episode) -> Text:
    """The seat, with the persona that sits there and the role that it was dealt."""
    role = turn.role if turn.role not in (turn.seat, role_of(turn.seat)) else ""
    more = ", ".join(filter(None, (episode.personas.get(turn.seat, ""), role)))
    return Text(f"{turn.seat} ({more})" if more else turn.seat)
