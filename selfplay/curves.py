"""The curves of a run as one picture, and of several runs side by side.

Matplotlib is imported inside the functions: it takes most of a second to load. Its object interface is used, never
pyplot, so that no window system and no global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from selfplay.record import read

Axes = Figure = Any  # matplotlib's: half of their signatures are untyped
Series = tuple[list[int], list[float]]
"""Steps and values of equal length, in the order of the steps; steps without a value are left out."""

HELDOUT = "eval/heldout_accuracy"
PANELS = (  # title, unit of the vertical axis, and {metric: label}; "x/" takes every x/<name> of one word
    ("Held-out accuracy", "share correct", {HELDOUT: "sampled", f"{HELDOUT}_greedy": "greedy"}),
    ("Reward", "mean per role", {"reward/": ""}),
    ("Proposals and forfeits", "share or count", {"proposals/valid_share": "valid share", "forfeits/": "forfeits "}),
    ("KL to the reference", "nats per token", {"kl/": ""}),
    ("Completion length", "tokens", {"completions/mean_length/": ""}),
    ("Entropy", "nats per token", {"entropy/": ""}),
    ("Rating", "mean belief", {"rating/": ""}),
)


def draw(folder: Path) -> Path:
    """Draw ``folder/metrics.jsonl`` into ``folder/curves.png``; panels without a number are left out.

    Raises ``RecordError`` where the record cannot be read and ``ValueError`` where it holds nothing to draw.
    """
    rows = read(folder / "metrics.jsonl")
    panels = [(title, unit, _lines(rows, wanted)) for title, unit, wanted in PANELS]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        raise ValueError(f"{folder / 'metrics.jsonl'} holds none of the metrics that are drawn.")
    figure, axes = _grid(len(panels))
    for ax, (title, unit, lines) in zip(axes, panels, strict=True):
        for label, (steps, values) in lines.items():
            ax.plot(steps, values, label=label, linewidth=1.4, **_marker(steps))
        if title == PANELS[0][0]:
            _interval(ax, rows)
        dress(ax, title, unit)
        ax.legend(fontsize=8, frameon=False)
    return _write(figure, folder / "curves.png")


def compare(runs: Mapping[str, Sequence[Path]], out: Path, keys: Sequence[str]) -> Path:
    """One panel per key, one line per label: the mean over that label's run folders, in a band from min to max.

    Only steps that every seed of a label has are drawn, for a mean over a changing set of seeds has jumps of its own.
    A label may lack a key altogether. Raises ``ValueError`` for a key that no run has or that only some seeds of a
    label have, and ``RecordError`` for a record that cannot be read.
    """
    if not keys:
        raise ValueError("A comparison needs at least one metric to draw.")
    records = {label: [read(folder / "metrics.jsonl") for folder in folders] for label, folders in runs.items()}
    known = _names(row for seeds in records.values() for rows in seeds for row in rows)
    figure, axes = _grid(len(keys))
    for ax, key in zip(axes, keys, strict=True):
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)
            raise ValueError(f"No run has the metric {key!r}; the nearest is {near[0] if near else 'none'!r}.")
        for place, (label, seeds) in enumerate(records.items()):
            lines: list[dict[int, float]] = [dict(zip(*series(rows, key), strict=True)) for rows in seeds]
            if not any(lines):
                continue
            steps = sorted(step for step in lines[0] if all(step in line for line in lines))
            if not steps:
                raise ValueError(f"The runs of {label!r} have no step in common with a value of {key!r}.")
            columns = [[line[step] for line in lines] for step in steps]  # (steps, seeds)
            means = [math.fsum(column) / len(column) for column in columns]
            lows, highs, colour = [*map(min, columns)], [*map(max, columns)], f"C{place}"  # the same in every panel
            ax.plot(steps, means, label=f"{label} (n={len(lines)})", color=colour, linewidth=1.6, **_marker(steps))
            ax.fill_between(steps, lows, highs, color=colour, alpha=0.2, linewidth=0)
        dress(ax, key, "mean, band from min to max")
        ax.legend(fontsize=8, frameon=False)
    return _write(figure, out)


def series(rows: Sequence[Mapping[str, Any]], name: str) -> Series:
    """The steps at which ``name`` has a value, and the values."""
    found = sorted((row["step"], float(row[name])) for row in rows if row.get(name) is not None)
    return [step for step, _ in found], [value for _, value in found]


def _lines(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> dict[str, Series]:
    lines: dict[str, Series] = {}
    for pattern, label in wanted.items():
        for name in _names(rows):
            rest = name.removeprefix(pattern)
            if name == pattern or (pattern.endswith("/") and name.startswith(pattern) and "/" not in rest):
                lines[label + rest] = series(rows, name)
    return {label: line for label, line in lines.items() if line[0]}


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row} - {"step"})


def _interval(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    low, high = series(rows, f"{HELDOUT}_low"), series(rows, f"{HELDOUT}_high")
    if low[0] and low[0] == high[0]:
        ax.fill_between(low[0], low[1], high[1], color="C0", alpha=0.2, linewidth=0, label="sampled, interval")


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # draws with Agg where no canvas is given

    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), dpi=120, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    return figure, axes


def _marker(steps: Sequence[int]) -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} if len(steps) <= 12 else {}  # a lone point would else be invisible


def dress(ax: Axes, title: str, unit: str) -> None:
    """Title, units, whole steps, a faint grid; what every picture of steps here looks like."""
    from matplotlib.ticker import MaxNLocator

    ax.set_title(title, fontsize=10)
    ax.set_xlabel("step")
    ax.set_ylabel(unit)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, out: Path) -> Path:
    figure.savefig(out, format="png")
    return out
