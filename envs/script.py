"""One line of a game's script: who speaks, what they are told, and what their words fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from string import Formatter
from typing import Any, cast

SEAT = re.compile(r"(?P<role>[A-Za-z]\w*?)(?:_(?P<number>\d+))?")
KEYS = ("role", "says", "told", "moves", "to", "at_once")
TRANSCRIPT = "transcript"
"""What a seat has heard so far: may be told like a slot, and nobody says it."""


class GameError(ValueError):
    """A game that cannot be played as it is written, in one sentence."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Line:
    """``role`` is told ``told`` (a format string over the slots said so far) and says ``says``: a slot, or a regular
    expression that its whole move must match and whose named groups fill slots.

    With ``moves`` the move, or what it has in the line's first slot, must be one of these texts, in whatever case.
    Who hears what fills the first slot is ``to``, seats and roles; None is everybody. A line ``at_once`` is said at the
    same time as the one before it: neither is told the other.
    """

    role: str
    seat: str
    told: str
    says: str
    pattern: re.Pattern[str] | None
    slots: tuple[str, ...]
    moves: tuple[str, ...] = ()
    to: tuple[str, ...] | None = None
    at_once: bool = False

    @classmethod
    def parse(cls, data: Mapping[str, Any], number: int) -> Line:
        """A line from YAML: ``{role, says, told, moves, to, at_once}``, the last four as wanted. ``role`` may name a
        seat, ``juror_2``. Raises ``GameError``."""
        place = f"turns[{number}]"
        for key in data:
            if key not in KEYS:
                raise GameError(f"{place} has an unknown key {key!r}{nearest(key, KEYS)}")
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
        if TRANSCRIPT in slots:
            raise GameError(f"{place} says {TRANSCRIPT!r}, which is what a seat has heard: call the slot otherwise")
        at_once = data.get("at_once", False)
        if not isinstance(at_once, bool):
            raise GameError(f"{place}.at_once={at_once!r}: use true or false")
        if at_once and not number:
            raise GameError(f"{place}.at_once: there is no line before the first one to be said at the same time as")
        to = data.get("to")
        return cls(
            role,
            f"{role}_{seat['number'] or 0}",
            data.get("told") or "",
            says,
            pattern,
            slots,
            _texts(data.get("moves"), f"{place}.moves") or (),
            _texts(to, f"{place}.to") if to is not None else None,
            at_once,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Line:
        return self  # a line never changes

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
        if self.moves and (legal := self._legal(move)) is not None:
            return {**dict.fromkeys(self.slots, ""), self.slots[0]: legal}
        if self.pattern is None:
            return None if self.moves else {self.slots[0]: move}
        match = self.pattern.fullmatch(move)
        if match is None:
            return None
        said = {slot: text or "" for slot, text in match.groupdict().items()}
        if not self.moves:
            return said
        legal = self._legal(said[self.slots[0]])
        return None if legal is None else {**said, self.slots[0]: legal}

    def _legal(self, move: str) -> str | None:
        """The legal move that ``move`` is, as the game writes it."""
        wanted = move.strip()
        if wanted in self.moves:
            return wanted
        folded = wanted.casefold()
        return next((legal for legal in self.moves if legal.casefold() == folded), None)


def check_script(lines: tuple[Line, ...], slots_before: tuple[str, ...]) -> None:
    """Every slot is said before it is told, and who speaks at once with others speaks once. Raises ``GameError``."""
    said, at_once = [*slots_before, TRANSCRIPT], list[Line]()
    for number, line in enumerate(lines):
        if not line.at_once:
            said += (slot for other in at_once for slot in other.slots)
            at_once = []
        for name in line.fields():
            if name not in said:
                raise GameError(
                    f"turns[{number}]: {line.role} is told {{{name}}} before anyone has said it{nearest(name, said)}"
                )
        if any(line.seat == other.seat for other in at_once):
            raise GameError(f"turns[{number}]: {line.seat} is to speak twice at once; write a seat, as {line.role}_1")
        at_once.append(line)


def check_sight(lines: Iterable[Line], sees: Mapping[str, Sequence[str]], dealt: Mapping[str, str]) -> None:
    """No seat that ``sees`` names, by itself, by the role that it was ``dealt`` or by that of its line, is told a slot
    that is not in its list. Raises ``GameError``."""
    for line in lines:
        mine = next((name for name in (line.seat, dealt.get(line.seat, ""), line.role) if name in sees), None)
        for name in line.fields() if mine else ():
            if mine and name not in sees[mine] and name != TRANSCRIPT:
                raise GameError(f"{mine} is told {{{name}}}, which sees.{mine} keeps from it")


def _texts(values: object, place: str) -> tuple[str, ...] | None:
    """A list of distinct texts, from YAML. Raises ``GameError``."""
    if values is None:
        return None
    if not isinstance(values, list | tuple):
        raise GameError(f"{place}={values!r} is not a list of texts")
    found = cast("Sequence[object]", values)
    for value in found:
        if isinstance(value, bool):
            raise GameError(f"{place}: YAML reads yes, no, on and off as {value}: write the word in quotes")
        if not isinstance(value, str | int) or not str(value).strip():
            raise GameError(f"{place} has {value!r}, which is not a text")
    texts = tuple(str(value).strip() for value in found)
    folded = [text.casefold() for text in texts]
    for text in texts:
        if folded.count(text.casefold()) > 1:
            raise GameError(f"{place} has {text!r} twice")
    return texts
