"""What a person sees of an agreement report: tables on the screen and one picture, drawn from its JSON alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfplay.curves import dress
from selfplay.screen import harmless, number

Report = Mapping[str, Any]

LINES = {
    "rank": "rank correlation",
    "auc": "AUC",
    "agreement": "agreement",
    "kappa": "Cohen's kappa",
    "false_positive_share": "false positives",
    "false_negative_share": "false negatives",
    "gap": "gap",
}
"""Statistic -> what a person calls it."""

PANELS = (  # title, unit of the vertical axis, statistic
    ("Gap to the gold verifier", "judged less gold", "gap"),
    ("Rank correlation", "Spearman's rho", "rank"),
    ("Accepted, of what gold rejects", "share", "false_positive_share"),
    ("Paid, and gold cannot tell", "share", "gold_unknown"),
)


def show(report: Report, console: Console) -> None:
    """The report as tables: all steps, by step, by role, and the worst disagreements with their words."""
    first, last = report["steps"]
    _say(console, f"{report['cases']} cases, {report['questions']} questions, steps {first} to {last}")
    _say(console, f"new: {report['judge']}; stored: what was paid; a score of {report['threshold']:g} or more accepts")
    console.print(_whole(report), _by_role(report), sep="\n")
    for pair in report["pairs"]:
        name = f"{pair['judged']} against {pair['gold']}"
        console.print(_by_step(pair, name))
        if pair["alarm"] is None:
            _say(console, f"{name}: the gap does not widen")
        else:
            _say(console, f"{name}: REWARD HACKING ALARM, the gap has widened by step {pair['alarm']}")
        if pair["blind"] is not None:
            _say(console, f"{name}: GOLD GOES BLIND, by step {pair['blind']} more is paid that it cannot tell")
        for case in pair["worst"]:
            times = f", {case['times']} times" if case["times"] > 1 else ""
            where = f"step {case['step']}, episode {case['index']}{times}"
            _say(
                console, f"  {where}: {pair['judged']} {number(case['judged'])}, {pair['gold']} {number(case['gold'])}"
            )
            for slot, text in case.items():
                if isinstance(text, str):
                    _say(console, f"      {slot}: {harmless(text, console)}")
    for note in report["notes"]:
        _say(console, f"note: {note}")


def draw(report: Report, out: Path) -> Path:
    """Gap, rank, false positives and what gold cannot tell over the steps, a line with its 95 % band for every pair.

    The object interface of Matplotlib, never pyplot: no window system and no global state is touched.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8.6, 6.2), dpi=120, layout="constrained")
    for place, (title, unit, statistic) in enumerate(PANELS, start=1):
        ax = figure.add_subplot(2, 2, place)
        for colour, pair in enumerate(report["pairs"]):
            label = f"{pair['judged']} against {pair['gold']}"
            steps, values, lows, highs = _line(pair, statistic)
            ax.plot(steps, values, color=f"C{colour}", label=label, marker="o", markersize=3, linewidth=1.4)
            ax.fill_between(steps, lows, highs, color=f"C{colour}", alpha=0.2, linewidth=0)  # nan: no band there
            if statistic == "gap" and pair["alarm"] is not None:
                ax.axvline(pair["alarm"], color=f"C{colour}", linestyle=":", label="reward hacking alarm")
        if statistic == "gap":
            ax.axhline(0.0, color="0.6", linewidth=0.8)
        if unit == "share":
            ax.set_ylim(-0.02, 1.02)
        dress(ax, title, unit)
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(out, format="png")
    return out


def _line(pair: Mapping[str, Any], statistic: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Middles of the stretches of steps, values, and both ends of the interval, nan where there is none."""
    steps = [(cell["first"] + cell["last"]) / 2 for cell in pair["by_step"]]
    cells: list[Any] = [cell[statistic] for cell in pair["by_step"]]
    bare = {"low": None, "high": None}  # a share without an interval
    found: list[dict[str, float | None]] = [c if isinstance(c, dict) else {"value": c, **bare} for c in cells]
    values, lows, highs = (
        [math.nan if (value := cell[key]) is None else value for cell in found] for key in ("value", "low", "high")
    )
    return steps, values, lows, highs


def _whole(report: Report) -> Table:
    """One column for each pair."""
    table = _table("all steps")
    for pair in report["pairs"]:
        table.add_column(Text(f"{pair['judged']}\nagainst {pair['gold']}"), justify="right")
    every = [pair["all"] for pair in report["pairs"]]
    table.add_row("cases both could tell", *(str(cell["cases"]) for cell in every))
    for words, key in (("judged cannot tell", "judged_unknown"), ("gold cannot, of the rest", "gold_unknown")):
        table.add_row(words, *(_share(cell[key]) for cell in every))
    for name, words in LINES.items():
        table.add_row(words, *(_estimate(cell[name]) for cell in every))
    kinds = (("accepted by both", "true_positive"), ("by judged only", "false_positive"))
    for words, kind in (*kinds, ("by gold only", "false_negative"), ("by neither", "true_negative")):
        table.add_row(words, *(str(cell["confusion"][kind]) for cell in every))
    return table


def _by_role(report: Report) -> Table | str:
    if not report["roles"]:
        return ""
    table = _table("role")
    for heading in ("judged anew", "cases", "rank correlation", "gap of the returns"):
        table.add_column(heading, justify="right")
    for row in report["roles"]:
        replaced = ", ".join(row["replaced"])
        cells = (row["role"], replaced, str(row["cases"]), _estimate(row["rank"]), _estimate(row["gap"]))
        table.add_row(*map(Text, cells))
    return table


def _by_step(pair: Mapping[str, Any], name: str) -> Table:
    table = _table("steps", title=name)
    for heading in ("cases", "gold\nunknown", "rank", "agreement", "false\npositives", "gap"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in pair["by_step"]:
        span = str(cell["first"]) if cell["first"] == cell["last"] else f"{cell['first']}-{cell['last']}"
        shown = [number(cell[key]["value"]) for key in ("rank", "agreement", "false_positive_share")]
        table.add_row(span, str(cell["cases"]), _share(cell["gold_unknown"]), *shown, _estimate(cell["gap"]))
    return table


def _table(first: str, title: str | None = None) -> Table:
    heading = Text(title) if title else None
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=heading, title_justify="left")
    table.add_column(first)
    return table


def _estimate(cell: Mapping[str, float | None]) -> str:
    if cell["value"] is None:
        return "-"
    interval = f" [{cell['low']:.3f}, {cell['high']:.3f}]" if cell["low"] is not None else ""
    return f"{cell['value']:.3f}{interval}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _say(console: Console, words: str) -> None:
    console.print(Text(words), soft_wrap=True)
