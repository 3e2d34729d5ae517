"""Curves of several runs over several seeds: the mean, in a band of its 95 % interval.

Matplotlib is imported inside the function and used by its object interface, as in ``selfplay/curves.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.paired import half_width
from selfplay.curves import Series, dress

Curves = dict[str, Series]
"""A run's metrics by their names; ``<name>_low`` and ``<name>_high`` are the ends of its exam's own interval."""


def draw(out: Path, title: str, panels: Mapping[str, str], runs: Mapping[str, Sequence[Curves]]) -> Path:
    """One panel a metric and one line a label. The band is Student's t over seeds; of a single seed it is the interval
    of its exam, where there is one. A label without the metric is left out of its panel; second lines of one colour
    (labels with a comma) are dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * len(panels), 3.8), dpi=120, layout="constrained")
    colours: dict[str, str] = {}
    for place, (metric, unit) in enumerate(panels.items()):
        ax = figure.add_subplot(1, len(panels), place + 1)
        for label, seeds in runs.items():
            steps, means, halves = over_seeds([curves[metric] for curves in seeds if curves.get(metric, ([], []))[0]])
            if not steps:
                continue
            colour = colours.setdefault(label.partition(",")[0], f"C{len(colours)}")
            style = "--" if "," in label and label.partition(",")[0] in runs else "-"
            ax.plot(steps, means, style, label=f"{label} (n={len(seeds)})", color=colour, linewidth=1.6)
            low, high = f"{metric}_low", f"{metric}_high"
            if None not in halves:
                ends = [[max(0.0, m - h) for m, h in zip(means, halves, strict=True)],
                        [min(1.0, m + h) for m, h in zip(means, halves, strict=True)]]  # fmt: skip
            elif len(seeds) == 1 and low in seeds[0]:
                ends = [seeds[0][low][1], seeds[0][high][1]]
            else:
                continue
            ax.fill_between(steps, *ends, color=colour, alpha=0.15, linewidth=0)
        dress(ax, title if len(panels) == 1 else f"{title}: {unit}", unit)
        ax.legend(fontsize=8, frameon=False)
    figure.savefig(out, format="png")
    return out


def over_seeds(lines: Sequence[Series]) -> tuple[list[int], list[float], list[float | None]]:
    """Of the steps that every seed has: the steps, the means and half of their 95 % intervals."""
    values = [dict(zip(*line, strict=True)) for line in lines]
    steps = sorted(set.intersection(*(set(line) for line in values))) if values else []
    columns = [[line[step] for line in values] for step in steps]
    return steps, [fmean(column) for column in columns], [half_width(column) for column in columns]
