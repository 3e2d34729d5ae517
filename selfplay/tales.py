"""The games of a tournament that tell the most, and the table of its places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfplay.matches import Match
from selfplay.rating import Rating
from selfplay.screen import harmless
from selfplay.types import VERIFIER, Episode

FILE = "transcripts.md"
SHOWN = 12
"""Turns of a game that the screen shows; the file has them all."""
ROLES = 4
"""In a game of more roles the screen leaves out what was earned in each."""
LEAST_GAP = 0.5
"""Of ratings that are closer neither is an upset for the other."""


@dataclass(frozen=True)
class Tale:
    """A game, and why it is told."""

    title: str
    episode: Episode


def most_telling(games: Iterable[tuple[Episode, Match | None]], ratings: Mapping[str, Rating]) -> list[Tale]:
    """The greatest upset, in which the loser's rating lies furthest above the winner's, played to its end; the longest
    game; and the forfeit of whoever is rated highest. The first game where several are alike; a game is told once."""
    upset: tuple[float, str, Episode] | None = None
    forfeit: tuple[float, str, Episode] | None = None
    longest: Episode | None = None
    for episode, match in games:
        if longest is None or len(episode.turns) > len(longest.turns):
            longest = episode
        if match is None:
            continue
        if match.forfeiter:
            strength = ratings[match.forfeiter].mu
            if forfeit is None or strength > forfeit[0]:
                forfeit = strength, f"A forfeit: {match.forfeiter} broke the rules", episode
            continue
        for one, other, result in match.results():
            winner, loser = (one, other) if result == 1 else (other, one)
            gap = ratings[loser].mu - ratings[winner].mu
            if result != 0.5 and gap > (upset[0] if upset else LEAST_GAP):
                upset = gap, f"An upset: {winner} beats {loser}, who is rated {gap:.1f} higher", episode
    tales = [Tale(title, episode) for _, title, episode in filter(None, (upset, forfeit))]
    if longest is not None and all(tale.episode is not longest for tale in tales):
        turns = sum(turn.role != VERIFIER for turn in longest.turns)
        tales.append(Tale(f"The longest game: {turns} turns", longest))
    return tales


def tell(episode: Episode) -> list[str]:
    """A game as lines: who sat where, what was said, and what it paid."""
    seated = ", ".join(f"{name} as {seat}" for seat, name in sorted(episode.personas.items()))
    lines = [seated] if seated else []
    for turn in episode.turns:
        if turn.role != VERIFIER:
            who = episode.personas.get(turn.seat, turn.seat)
            lines.append(f"{who}: " + "\n  ".join(str(turn.action.move).splitlines() or ["(nothing)"]))
    if episode.truncated:
        lines.append("(cut at the limit of turns)")
    if episode.verdict:
        lines.append("verdict: " + "  ".join(f"{part} {value:.3g}" for part, value in episode.verdict.items()))
    paid = [f"{episode.personas.get(seat, seat)} {value:+.3g}" for seat, value in episode.seats.items()]
    return [*lines, "paid: " + "  ".join(paid)]


def write_tales(tales: Sequence[Tale], folder: Path) -> Path:
    """``transcripts.md``; what players said stands there as indented text, which no reader of Markdown obeys."""
    parts: list[str] = ["# The most telling games\n"]
    for tale in tales:
        body = "\n".join(tell(tale.episode))
        parts.append(f"## {tale.title}\n\n" + "".join(f"    {line}\n" for line in body.split("\n")))
    out = folder / FILE
    out.write_text("\n".join(parts), encoding="utf-8", errors="backslashreplace")
    return out


def show_places(told: Mapping[str, Any], tales: Sequence[Tale], folder: Path, console: Console) -> None:
    """The places with their ratings and intervals and what was earned in each role on average, the games that tell the
    most, and where all of it is kept."""
    roles = list(dict.fromkeys(role for place in told["places"] for role in place["reward"]))
    roles = roles if len(roles) <= ROLES else []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("rating", "95 %", "won", "drawn", "lost", "forfeits"):
        table.add_column(heading, justify="right", no_wrap=True)
    for role in roles:
        table.add_column(Text(harmless(f"as {role}", console)), justify="right", no_wrap=True)
    for place in told["places"]:
        low, high = (round(end, 1) + 0.0 for end in place["interval"])  # no -0.0
        counts = (str(place[key]) for key in ("won", "drawn", "lost", "forfeits"))
        name = Text(harmless(place["name"], console))
        paid = (f"{place['reward'][role]:+.2f}" if role in place["reward"] else "-" for role in roles)
        table.add_row(name, f"{place['rating']:.1f}", f"[{low:.1f}, {high:.1f}]", *counts, *paid)
    console.print(table, highlight=False, markup=False)
    if told["games_without_result"]:
        left_out = f"{told['games_without_result']} of {told['games_played']} games have no result: void, or cut short"
        console.print(left_out, highlight=False)
    for tale in tales:
        lines = tell(tale.episode)
        cut = [*lines[:SHOWN], f"... {len(lines) - SHOWN - 1} more", lines[-1]] if len(lines) > SHOWN + 1 else lines
        console.print(Text(harmless(f"\n{tale.title}", console, lines=True), style="bold"))
        for line in cut:
            console.print(Text("  " + harmless(line, console)), soft_wrap=True)
    console.print(Text(f"\nstandings, matrix and all games: {folder}"), soft_wrap=True)
