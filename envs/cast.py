"""Personas as data: who they are, what they alone know, and in which seats of a game they sit."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, cast

from envs.script import SEAT, GameError, nearest

SEATINGS = ("named", "drawn", "pairs")
KEYS = ("members", "seating", "seats")
PLAYERS_KEYS = ("sampling", "adapter")
"""What a member's player is told, and no game looks at."""
MOST = 16


@dataclass(frozen=True, slots=True)
class Persona:
    """``system`` is who they are, ``knows`` what they alone know: the two are the system text of their seat."""

    name: str
    system: str
    knows: str = ""

    @property
    def text(self) -> str:
        return "\n\n".join(filter(None, (self.system, self.knows)))

    @classmethod
    def parse(cls, data: object, number: int) -> Persona:
        place = f"personas.members[{number}]"
        if not isinstance(data, Mapping):
            raise GameError(f"{place}={data!r} is not a mapping of name and system")
        member = cast("Mapping[str, Any]", data)
        known = ("name", "system", "knows", *PLAYERS_KEYS)
        for key in member:
            if key not in known:
                raise GameError(f"{place} has an unknown key {key!r}{nearest(key, known)}")
        texts = [member.get(key) or "" for key in ("name", "system", "knows")]
        if not all(isinstance(text, str) for text in texts) or not texts[0].strip() or len(texts[0].splitlines()) > 1:
            raise GameError(f"{place} needs a name of one line, and texts for system and knows")
        return cls(texts[0].strip(), *texts[1:])


class Cast:
    """A set of 1 to 16 personas and how they are seated: ``{members, seating, seats}``.

    - ``named``: ``seats`` maps a seat, or a role, to a name; who is not in it has no persona.
    - ``drawn``: every game's own seed seats different personas in all seats, or in those of the roles that ``seats``
      lists.
    - ``pairs``: two such seats, and all ordered pairs of personas, one table after the other.

    Raises ``GameError``.
    """

    def __init__(self, data: Mapping[str, Any], seats: Sequence[str]) -> None:
        for key in data:
            if key not in KEYS:
                raise GameError(f"personas has an unknown key {key!r}{nearest(key, KEYS)}")
        listed: object = data.get("members")
        if not isinstance(listed, list | tuple) or not 1 <= len(cast("Sequence[object]", listed)) <= MOST:
            raise GameError(f"personas.members must be a list of 1 to {MOST} personas")
        self.members = tuple(Persona.parse(member, n) for n, member in enumerate(cast("Sequence[object]", listed)))
        self.names = tuple(member.name for member in self.members)
        for name in self.names:
            if self.names.count(name) > 1:
                raise GameError(f"personas.members has {name!r} twice")
            if name in seats or name in map(_role, seats):
                raise GameError(f"personas.members: {name!r} is a role of this game; call the persona otherwise")
        self.seating = str(data.get("seating") or "named")
        if self.seating not in SEATINGS:
            known = ", ".join(SEATINGS)
            raise GameError(f"personas.seating={self.seating!r} is unknown{nearest(self.seating, SEATINGS)}: {known}")
        self._named, self._seats = {}, tuple[str, ...]()
        chosen: Any = data.get("seats")
        if self.seating == "named":
            self._named = self._check_named(chosen, seats)
        else:
            self._seats = self._check_drawn(chosen, seats)

    def text_of(self, name: str) -> str:
        """The system text of the persona of that name."""
        return self.members[self.names.index(name)].text

    @property
    def longest(self) -> int:
        """Characters of the longest system text."""
        return max(len(member.text) for member in self.members)

    def seated(self, seed: int | None, table: int | None) -> dict[str, str]:
        """Seat -> name, for the game of this seed at this table of a rollout."""
        if self.seating == "named":
            return self._named
        if self.seating == "pairs":
            pairs = list(permutations(self.names, 2))
            number = table if table is not None else random.Random(seed).randrange(len(pairs))
            return dict(zip(self._seats, pairs[number % len(pairs)], strict=True))
        return dict(zip(self._seats, random.Random(seed).sample(self.names, len(self._seats)), strict=True))

    def _check_named(self, chosen: object, seats: Sequence[str]) -> dict[str, str]:
        if not isinstance(chosen, Mapping) or not chosen:
            raise GameError(
                "personas.seating=named needs personas.seats: seats or roles, and the names of who sits there"
            )
        named = cast("Mapping[str, str]", chosen)
        roles = tuple(dict.fromkeys(map(_role, seats)))
        for where, name in named.items():
            if where not in (*seats, *roles):
                raise GameError(f"personas.seats names {where!r}, who never speaks{nearest(where, (*roles, *seats))}")
            if name not in self.names:
                raise GameError(f"personas.seats.{where}={name!r} is no persona{nearest(str(name), self.names)}")
        found = {seat: named.get(seat, named.get(_role(seat))) for seat in seats}
        return {seat: name for seat, name in found.items() if name is not None}

    def _check_drawn(self, chosen: object, seats: Sequence[str]) -> tuple[str, ...]:
        roles = tuple(dict.fromkeys(map(_role, seats)))
        if chosen is not None and not isinstance(chosen, list | tuple):
            raise GameError(f"personas.seats={chosen!r}: with seating={self.seating} it is a list of roles or seats")
        wanted = cast("Sequence[str]", chosen or roles)
        for where in wanted:
            if where not in (*seats, *roles):
                raise GameError(f"personas.seats names {where!r}, who never speaks{nearest(where, (*roles, *seats))}")
        taken = tuple(seat for seat in seats if seat in wanted or _role(seat) in wanted)
        if self.seating == "pairs" and (len(taken) != 2 or len(self.members) < 2):
            raise GameError(
                f"personas.seating=pairs needs two seats and two personas or more, not {len(taken)} and "
                f"{len(self.members)}: name the roles in personas.seats"
            )
        if len(taken) > len(self.members):
            raise GameError(f"personas has {len(self.members)} members for {len(taken)} seats, and nobody sits twice")
        return taken


def _role(seat: str) -> str:
    match = SEAT.fullmatch(seat)
    return match["role"] if match else seat
