"""One line of a game's script: who speaks, what they are told, and what their words fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from string import Formatter

SEAT = re.compile(r"(?P<role>[A-Za-z]\w*?)(?:_(?P<number>\d+))?")


class GameError(ValueError):
    """A game that cannot be played as it is written, in one sentence."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Line:
    """``role`` is told ``told`` (a format string over the slots said so far) and says ``says``: a slot, or a regular
    expression that its whole move must match and whose named groups fill slots."""

    role: str
    seat: str
    told: str
    says: str
    pattern: re.Pattern[str] | None
    slots: tuple[str, ...]

    @classmethod
    def parse(cls, data: Mapping[str, str], number: int) -> Line:
        """A line from YAML: ``{role, says, told}``. ``role`` may name a seat, ``juror_2``. Raises ``GameError``."""
        place = f"turns[{number}]"
        for key in data:
            if key not in ("role", "says", "told"):
                raise GameError(f"{place} has an unknown key {key!r}{nearest(key, ('role', 'says', 'told'))}")
        for key in ("role", "says"):
            if not isinstance(data.get(key), str) or not data[key]:
                raise GameError(f"{place} needs a {key!r}")
        seat = SEAT.fullmatch(data["role"])
        if seat is None:
            raise GameError(f"{place}.role={data['role']!r} is not a name of letters, digits and underscores")
        role, says = seat["role"], data["says"]
        if says.isidentifier():
            pattern, slots = None, (says,)
        else:
            try:
                pattern = re.compile(says)
            except re.error as error:
                raise GameError(f"{place}.says={says!r} is not a regular expression: {error}") from error
            slots = tuple(pattern.groupindex)
            if not slots:
                raise GameError(f"{place}.says={says!r} is neither a slot nor an expression with a named group")
        return cls(role, f"{role}_{seat['number'] or 0}", data.get("told") or "", says, pattern, slots)

    def fields(self) -> tuple[str, ...]:
        """The slots that ``told`` shows. Raises ``GameError`` where it is not a plain template."""
        try:
            fields = [field[1:] for field in Formatter().parse(self.told) if field[1] is not None]
        except ValueError as error:
            raise GameError(f"{self.role} is told a broken template ({error}); write {{{{ for a brace") from error
        names = [str(name) for name, _, _ in fields]
        for name, form, conversion in fields:
            if form or conversion:
                raise GameError(f"{self.role} is told {{{name}}} with a format; a slot is shown as it was said")
            if not str(name).isidentifier():
                raise GameError(f"{self.role} is told {{{name}}}, which is not a slot; write {{{{ for a brace")
        return tuple(names)

    def read(self, move: str, max_chars: int) -> dict[str, str] | None:
        """What the move fills, or None where it breaks the rules: blank, too long, or not of the pattern."""
        if len(move) > max_chars or not move.strip():
            return None
        if self.pattern is None:
            return {self.slots[0]: move}
        match = self.pattern.fullmatch(move)
        return None if match is None else {slot: text or "" for slot, text in match.groupdict().items()}


def check_script(lines: tuple[Line, ...], slots_before: tuple[str, ...]) -> None:
    """Every slot is said before it is told. Raises ``GameError``."""
    said = list(slots_before)
    for number, line in enumerate(lines):
        for name in line.fields():
            if name not in said:
                raise GameError(
                    f"turns[{number}]: {line.role} is told {{{name}}} before anyone has said it{nearest(name, said)}"
                )
        said += line.slots
