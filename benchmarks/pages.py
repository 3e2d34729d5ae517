"""A table in a page of the documentation, between two marks: ``<!-- name -->`` and ``<!-- /name -->``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Columns = Mapping[str, tuple[str, str]]
"""A row's key -> its header, and the format of its numbers."""


def put(page: Path, name: str, columns: Columns, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as a Markdown table with the day on which they were made, in place of what stood between the marks.

    Raises ``ValueError`` where the page does not have each mark once.
    """
    text = page.read_text(encoding="utf-8")
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(opening) != 1 or text.count(closing) != 1:
        raise ValueError(f"{page} needs a line {opening.strip()} and below it {closing}, once each")
    before, rest = text.split(opening)
    stamp = f"Made by `python -m benchmarks.{name}` on {time.strftime('%Y-%m-%d')}."
    lines = "\n".join([stamp, "", *table(columns, rows), ""])
    page.write_text(f"{before}{opening}{lines}{closing}{rest.split(closing, 1)[1]}", encoding="utf-8")


def table(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown; None is a dash, and a column is flush right where some row has a number in it."""
    numeric = [any(isinstance(row[key], int | float) for row in rows) for key in columns]
    lines = [[header for header, _ in columns.values()], ["---:" if number else "---" for number in numeric]]
    lines += [[_cell(row[key], form) for key, (_, form) in columns.items()] for row in rows]
    return [
        f"| {' | '.join(lines[0])} |",
        f"|{'|'.join(lines[1])}|",
        *(f"| {' | '.join(line)} |" for line in lines[2:]),
    ]


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if form and isinstance(value, int | float) else str(value)
