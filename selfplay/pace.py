"""Where the time goes: seconds per phase, tokens per second and the share of the roofline, for a screen.

Every figure stands for the last step and as a moving mean over the last ``RECENT`` ones. A mean over steps counts a
phase that comes now and then, as an exam does, with what it costs per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

from rich.table import Table
from rich.text import Text

from selfplay.metrics import PHASES
from selfplay.record import ROOFLINE

RECENT = 20
_ORDER = (*PHASES[:-1], "evaluate", "audit")  # then any others, then "other"
_RATE = "tokens_per_second"


class Pace:
    """The rows of timings.jsonl as they come, and what a person wants to see of them."""

    def __init__(self) -> None:
        self._recent: tuple[Mapping[str, float], ...] = ()  # never changed in place: another thread may draw it
        self._last: Mapping[str, float] = {}

    def note(self, step: int, timings: Mapping[str, float]) -> None:
        """Take in the timings of one step. The exam before the first one is shown, but part of no mean."""
        self._last = timings
        if step:
            self._recent = (*self._recent[1 - RECENT :], timings)

    def table(self) -> Table | None:
        """A column per phase; None before the first note. Six lines of at most 80 columns."""
        if not self._last:
            return None
        last, mean = self._last, _mean(self._recent)
        phases = _phases((last, *self._recent))
        rows = (
            ("seconds", [*(_seconds(last.get(name)) for name in (*phases, "total")), _rate(last.get(_RATE))]),
            ("  mean", [*(_seconds(mean.get(name)) for name in (*phases, "total")), _rate(mean.get(_RATE))]),
            ("  share", [_share(_ratio(mean.get(name), mean.get("total"))) for name in phases]),
            ("roofline", [_share(last.get(ROOFLINE + name)) for name in phases]),
            ("  mean", [_share(mean.get(ROOFLINE + name)) for name in phases]),
        )
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("", overflow="fold")  # fold: the dots of an ellipsis are not in every encoding
        for heading in (*phases, "total", "tokens/s"):
            table.add_column(heading, justify="right", overflow="fold")
        for name, cells in rows:
            if any(cell != "-" for cell in cells):
                table.add_row(Text(name), *cells)
        return table

    def line(self) -> str:
        """The same in one line, with the means of what matters most; empty before the first note."""
        if not self._last:
            return ""
        last, mean = self._last, _mean(self._recent)
        seconds = [f"{name} {_seconds(last.get(name))}" for name in _phases((last,))]
        slow = f" (mean {_seconds(mean['total'])})" if mean else ""
        parts = [f"seconds: {' '.join(seconds)} total {_seconds(last.get('total'))}{slow}"]
        fast = f" (mean {_rate(mean[_RATE])})" if _RATE in mean else ""
        parts += [f"tokens/s {_rate(last[_RATE])}{fast}"] if last.get(_RATE) else []
        shares = [f"{name} {_share(last.get(ROOFLINE + name))}" for name in _phases((last,)) if ROOFLINE + name in last]
        parts += [f"roofline: {' '.join(shares)}"] if shares else []
        return " | ".join(parts)


def _phases(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The phases that occur in ``rows``, in the order in which a step goes through them."""
    seen = {name for row in rows for name in row if "/" not in name and not name.endswith(_RATE)} - {"total"}
    return [
        *(name for name in _ORDER if name in seen),
        *sorted(seen - {*_ORDER, "other"}),
        *(("other",) if "other" in seen else ()),
    ]


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds per step; tokens and ideal seconds over the seconds that they took, not means of ratios."""
    if not rows:
        return {}
    mean = {name: fsum(row.get(name, 0.0) for row in rows) / len(rows) for name in (*_phases(rows), "total")}
    tokens = fsum(row.get(_RATE, 0.0) * row.get("total", 0.0) for row in rows) / len(rows)
    if mean["total"]:
        mean[_RATE] = tokens / mean["total"]
    for name in _phases(rows):
        least = [row[ROOFLINE + name] * row[name] for row in rows if ROOFLINE + name in row]
        if least and mean[name]:
            mean[ROOFLINE + name] = fsum(least) / len(rows) / mean[name]
    return mean


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}" if value >= 0.0995 or not value else f"{value:.1%}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 or not value else f"{value:.2g}"
