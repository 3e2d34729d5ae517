"""What a person sees of a run: a live display on a terminal, plain lines in a pipe or in CI.

Both show the same numbers under the names of the record (``reward/<role>``, ``eval/heldout_accuracy``, ...), and where
the time goes, as ``Pace`` has it. A number that never came is a dash. Model text is shown as text: its markup is inert
and its control characters are spelled out.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfplay.pace import Pace
from selfplay.types import VERIFIER, Episode, Turn

HELDOUT = "eval/heldout_accuracy"  # HELDOUT + "_low" and "_high" bound its confidence interval, where they are given
ROLE_COLUMNS = {  # heading -> the metric's name, less "/<role>"
    "reward": "reward",
    "spread": "advantage_std",
    "tokens": "completions/mean_length",
    "cut": "completions/clipped_ratio",
    "KL": "kl",
    "entropy": "entropy",
    "flat": "frac_reward_zero_std",
    "forfeits": "forfeits",
}
RUN_NUMBERS = {
    "valid proposals": "proposals/valid_share",
    "loss": "loss",
    "grad norm": "grad_norm",
    "skipped": "steps_skipped",
    "truncated": "episodes/truncated_share",
}
LINES = 20  # plain lines, at least, over a whole run; transcripts come half as often
TEXT_LIMIT = 300

Metrics = Mapping[str, float | None]
"""Metric name -> value; None is a value that the record holds as null."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One question and the answers that competed, each with its verdict, best first."""

    query: str
    answers: Sequence[tuple[str, Mapping[str, float]]]


def pick_transcript(episodes: Sequence[Episode]) -> Transcript | None:
    """The siblings whose best and worst returns lie furthest apart, the first such group if several do.

    Void episodes do not count; None where nobody spoke. The text is the last speaker's move as it was said.
    """
    groups: dict[int, list[tuple[float, Turn, Episode]]] = {}
    for episode in episodes:
        spoken = [turn for turn in episode.turns if turn.role != VERIFIER]
        if spoken and not episode.void:
            last = spoken[-1]
            earned = episode.earned(last) if last.role in episode.returns else 0.0
            groups.setdefault(last.group, []).append((earned, last, episode))
    if not groups:
        return None
    ranked = [sorted(group, key=lambda row: -row[0]) for group in groups.values()]
    widest = max(ranked, key=lambda group: group[0][0] - group[-1][0])
    _, turn, episode = widest[0]
    query = episode.case.get("query") or turn.observation.get("user") or turn.observation.get("system", "")
    return Transcript(query, [(str(turn.action.move), episode.verdict) for _, turn, episode in widest])


class Screen(ABC):
    """Where a run shows itself. On resume, ``update(0, ...)`` with the recorded first line restores the comparison."""

    def __init__(self, total_steps: int, roles: Sequence[str], console: Console) -> None:
        self._total, self._roles, self._console = total_steps, tuple(roles), console
        self._step = 0
        self._seen: dict[str, float | None] = {}
        self._first: tuple[int, float] | None = None  # step and held-out score
        self._start: tuple[int, float] | None = None  # step and time of the first update of this process
        self._told_at: int | None = None  # step of the last transcript
        self._pace = Pace()

    @abstractmethod
    def update(
        self,
        step: int,
        metrics: Metrics,
        transcript: Transcript | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> None:
        """Show the numbers after ``step`` steps and the ``timings`` of the last one (as ``metrics.timings`` gives
        them); a transcript may come every time, it is shown now and then."""

    def say(self, text: str) -> None:
        """Show a sentence of ours at once, in full."""
        self._console.print(self._text(text), soft_wrap=True)

    @abstractmethod
    def close(self) -> None:
        """Leave the last state on the screen; closing twice is harmless."""

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _text(self, words: str) -> Text:
        return Text(harmless(words, self._console, lines=True))

    def _note(self, step: int, metrics: Metrics, timings: Mapping[str, float] | None) -> None:
        self._step = step
        if timings is not None:
            self._pace.note(step, timings)
        self._seen = {**self._seen, **metrics}
        score = metrics.get(HELDOUT)
        if self._first is None and score is not None:
            self._first = (step, score)
        if self._start is None and step > 0:  # what precedes it may be a replay of the record
            self._start = (step, time.monotonic())

    def _every(self, times: int) -> int:
        return max(1, self._total // times)

    def _wants_transcript(self, step: int) -> bool:
        due = self._told_at is None or step - self._told_at >= self._every(LINES // 2)
        self._told_at = step if due else self._told_at
        return due

    def _left(self) -> str:
        if self._start is None or self._step <= self._start[0]:
            return "left -"
        done, seconds = self._step - self._start[0], time.monotonic() - self._start[1]
        minutes, second = divmod(round(seconds / done * max(0, self._total - self._step)), 60)
        return f"left {minutes // 60}:{minutes % 60:02}:{second:02}"

    def _heldout(self) -> str:
        """The held-out scores, the sampled one with its interval and against the first one seen."""
        score, low, high = (self._seen.get(HELDOUT + suffix) for suffix in ("", "_low", "_high"))
        greedy = self._seen.get(HELDOUT + "_greedy")
        parts: list[str] = []
        if score is not None:
            interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
            parts.append(f"sampled {score:.3f}{interval}")
        if score is not None and self._first is not None:
            parts.append(f"step {self._first[0]} {self._first[1]:.3f} ({score - self._first[1]:+.3f})")
        if greedy is not None:
            parts.append(f"greedy {greedy:.3f}")
        return f"held-out {', '.join(parts) or '-'}"

    def _run_numbers(self) -> str:
        named = {heading: self._seen[name] for heading, name in RUN_NUMBERS.items() if name in self._seen}
        for name in sorted(self._seen):
            if name.startswith("rewards/") and name.endswith("/mean"):
                named[name.removesuffix("/mean")] = self._seen[name]
            if name.startswith("rating/"):
                named[name] = self._seen[name]
            if name.startswith("audit/") and name.endswith(("/gap", "/alarm", "/blind")):
                named[name] = self._seen[name]
        return "  ".join(f"{name} {number(value)}" for name, value in named.items())

    def _answers(self, transcript: Transcript) -> list[tuple[str, str]]:
        """(heading, text) of the query and of the best and the worst answer."""
        shown = [("query", harmless(transcript.query, self._console))]
        ends = dict.fromkeys((0, len(transcript.answers) - 1)) if transcript.answers else ()
        for place, name in zip(ends, ("best", "worst"), strict=False):
            text, verdict = transcript.answers[place]
            scores = ", ".join(f"{part} {number(score)}" for part, score in verdict.items()) or "no verdict"
            shown.append((harmless(f"{name} ({scores})", self._console), harmless(text, self._console)))
        return shown


class PlainScreen(Screen):
    """One line per 5 % of the steps and per evaluation, a transcript now and then; no cursor, no colour needed."""

    def __init__(self, total_steps: int, roles: Sequence[str], console: Console) -> None:
        super().__init__(total_steps, roles, console)
        self._lined_at: int | None = None

    def update(
        self,
        step: int,
        metrics: Metrics,
        transcript: Transcript | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> None:
        self._note(step, metrics, timings)
        every = self._every(LINES)
        due = self._lined_at is None or step // every > self._lined_at // every or step >= self._total
        if not due and not any(name.startswith("eval/") for name in metrics):
            return
        self._lined_at = step
        parts = [f"step {step}/{self._total}", self._left()]
        for role in self._roles:
            values = {heading: metrics.get(f"{name}/{role}") for heading, name in ROLE_COLUMNS.items()}
            known = [f"{heading} {number(value)}" for heading, value in values.items() if value is not None]
            parts += [f"{role}: {' '.join(known)}"] if known else []
        parts += [self._heldout()] if metrics.get(HELDOUT) is not None else []
        parts += [self._run_numbers()] if self._run_numbers() else []
        parts += [self._pace.line()] if self._pace.line() else []
        self.say(" | ".join(parts))
        if transcript and self._wants_transcript(step):
            for heading, text in self._answers(transcript):
                self.say(f"    {heading}: {text}")

    def close(self) -> None:
        pass  # every line was written at once


class LiveScreen(Screen):
    """A display that redraws itself: progress, a table of the roles, the held-out score; transcripts scroll above."""

    def __init__(self, total_steps: int, roles: Sequence[str], console: Console) -> None:
        super().__init__(total_steps, roles, console)
        self._live = Live(console=console, get_renderable=self._render)
        self._live.start()

    def update(
        self,
        step: int,
        metrics: Metrics,
        transcript: Transcript | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> None:
        self._note(
            step, metrics, timings
        )  # drawn by rich's own thread, a few times a second: a fast loop does not wait
        if transcript and self._wants_transcript(step):
            body = [Text.assemble((f"{head}: ", "bold"), text) for head, text in self._answers(transcript)]
            self._console.print(Panel(Group(*body), title=f"step {step}", title_align="left"))

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        bar = Table.grid(padding=(0, 1))
        share = self._step / self._total if self._total else 1.0
        bar.add_row(
            f"step {self._step}/{self._total}",
            ProgressBar(total=max(1, self._total), completed=self._step, width=30),
            f"{share:.0%}",
            self._left(),
        )
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("role", overflow="fold")  # fold: the dots of an ellipsis are not in every encoding
        for heading in ROLE_COLUMNS:
            table.add_column(heading, justify="right", overflow="fold")
        for role in self._roles:
            table.add_row(
                self._text(role), *(number(self._seen.get(f"{name}/{role}")) for name in ROLE_COLUMNS.values())
            )
        pace = self._pace.table()
        numbers = (table, Text(self._heldout()), self._text(self._run_numbers()))
        return Group(bar, *numbers, *([pace] if pace else ()))


def open_screen(total_steps: int, roles: Sequence[str], console: Console | None = None) -> Screen:
    """A live display where ``console`` is a terminal that can redraw, plain lines elsewhere and wherever CI is set."""
    console = console or Console()
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    live = console.is_terminal and not console.is_dumb_terminal and not in_ci
    return (LiveScreen if live else PlainScreen)(total_steps, roles, console)


def number(value: float | None) -> str:
    """Three significant digits, whole numbers up to a million in full, a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def harmless(text: str, console: Console, *, lines: bool = False) -> str:
    """``text`` that cannot steer a terminal: whatever is not printable, or not in its encoding, is spelled out.

    Cut at ``TEXT_LIMIT`` characters, unless ``lines``: then it is our own text, kept whole with its line breaks.
    """
    cut = text if lines or len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "..."
    shown = "".join(
        character
        if character.isprintable() or (lines and character == "\n")
        else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )
    return shown.encode(console.encoding, "backslashreplace").decode(console.encoding)
