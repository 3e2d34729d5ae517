"""The end of a run: ``summary.json`` and the sentence that says what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def summarize(rows: Sequence[Mapping[str, Any]], steps: int, tokens: int, seconds: float) -> dict[str, Any]:
    """From the rows of metrics.jsonl: the held-out accuracy at the start and at the end, and whether all was done."""
    scored = [row for row in rows if row.get("eval/heldout_accuracy") is not None]
    heldout = None
    if scored:
        first, last = scored[0], scored[-1]
        heldout = {
            "start": first["eval/heldout_accuracy"],
            "end": last["eval/heldout_accuracy"],
            "ci95": [last["eval/heldout_accuracy_low"], last["eval/heldout_accuracy_high"]],
            "greedy": {"start": first["eval/heldout_accuracy_greedy"], "end": last["eval/heldout_accuracy_greedy"]},
        }
    played = int(rows[-1]["step"]) if rows else 0
    return {
        "heldout_accuracy": heldout,
        "steps": played,
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "finished": played >= steps,
    }


def report(summary: Mapping[str, Any], folder: Path, picture: Path | None) -> str:
    """What a person wants to know when the bar is full."""
    lines: list[str] = []
    heldout = summary["heldout_accuracy"]
    if heldout:
        low, high = heldout["ci95"]
        greedy = heldout["greedy"]
        lines.append(
            f"held-out accuracy, sampled {heldout['start']:.3f} -> {heldout['end']:.3f} "
            f"[{low:.3f}, {high:.3f}], best guess {greedy['start']:.3f} -> {greedy['end']:.3f}"
        )
    state = "finished" if summary["finished"] else f"stopped; go on with: python main.py resume={folder}"
    lines.append(f"{summary['steps']} steps, {summary['tokens']} tokens, {summary['seconds']} s, {state}")
    lines.append(f"model and logs: {folder}" + (f", curves: {picture}" if picture else ""))
    return "\n".join(lines)
