"""The executor in a seat: it runs the program that it is shown, and says what came out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from selfplay.types import Action, Chat

_SHOWN = re.compile(
    r"(?>[\s\S]*?```python\n(?P<program>[\s\S]*?)\n```\s*```(?P<kind>inputs?)\n)(?P<text>[\s\S]*?)\n?```\s*"
)  # atomic: of many blocks the first ones count, and a text that does not end is no reason to try the others


class Runner(Protocol):
    """Runs programs that define ``f``, such as ``verifiers.literals.Runner``."""

    def prove(self, calls: Sequence[tuple[str, tuple[str, ...]]]) -> Sequence[Any]:
        """For each program with its inputs what it gives: ``outputs``, texts, or the ``fault`` that it has."""
        ...


@dataclass(frozen=True)
class Executor:
    """Says the output of a program ``f`` on the input that stands beside it, or ``error: <why>``.

    It is told a block of ``python`` and a block of ``input``, the arguments of one call, and says the output. Where
    the second block is ``inputs``, one call a line, it says a line ``f(<input>) == <output>`` for each. The ``runner``
    comes from outside; what it finds unsound is an error, and so is a move of more than ``max_chars`` characters.
    """

    runner: Runner
    max_chars: int = 16_384

    def act(self, observations: Sequence[Chat], seeds: Sequence[int]) -> list[Action]:
        """One move per observation, all programs in one call of the runner; no random numbers are drawn."""
        shown = [_SHOWN.fullmatch(observation["user"]) for observation in observations]
        calls = [(match["program"], _inputs(match)) for match in shown if match is not None]
        ran = iter(self.runner.prove(calls))
        return [Action(self._move(match, next(ran)) if match else "error: no program") for match in shown]

    def _move(self, match: re.Match[str], ran: Any) -> str:
        if ran.fault:
            return f"error: {ran.fault}"
        if match["kind"] == "input":
            said = ran.outputs[0]
        else:
            said = "\n".join(f"f({text}) == {out}" for text, out in zip(_inputs(match), ran.outputs, strict=True))
        return said if len(said) <= self.max_chars else "error: too long"


def _inputs(match: re.Match[str]) -> tuple[str, ...]:
    if match["kind"] == "input":
        return (match["text"].strip(),)
    return tuple(line for line in match["text"].split("\n") if line.strip())
