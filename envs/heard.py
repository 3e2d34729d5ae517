"""What was said at a table, as each seat has heard it."""

from __future__ import annotations

from typing import Any

SILENCE = "(Nobody has spoken yet.)"


class Heard:
    """The words of a game so far, in order; it never changes, so that games that branch share it."""

    __slots__ = ("_rows",)

    def __init__(self, rows: tuple[tuple[str, str, tuple[str, ...] | None], ...] = ()) -> None:
        self._rows = rows

    def after(self, name: str, words: str, seat: str, to: tuple[str, ...] | None) -> Heard:
        """What there is to hear once ``name``, in that seat, has said ``words`` to these seats and roles, or to all;
        a seat hears itself. Of several lines of text all but the first are indented: nobody writes a line for
        somebody else. Words of nobody, ``""``, stand as they are."""
        said = "\n  ".join(words.strip().splitlines())
        return Heard((*self._rows, (seat, f"{name}: {said}" if name else said, to)))

    def by(self, seat: str, *roles: str) -> str:
        """The transcript of a seat that has these roles, by its name and by what it was dealt."""
        rows = [row for who, row, to in self._rows if to is None or who == seat or not {seat, *roles}.isdisjoint(to)]
        return "\n".join(rows) or SILENCE

    def __deepcopy__(self, memo: dict[int, Any]) -> Heard:
        return self

    def __copy__(self) -> Heard:
        return self

    def __repr__(self) -> str:
        return f"Heard({self._rows!r})"
