"""Whether a text has the form that was asked for, by a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar


def text_of(case: Mapping[str, str], slot: str) -> str:
    """The text in ``slot``. Raises ``ValueError`` naming the slots that there are."""
    if slot not in case:
        raise ValueError(f"the case has no slot {slot!r}; it has {', '.join(sorted(case))}.")
    return case[slot]


class Format:
    """1 where the pattern matches the text in ``slot``, else 0; a blank text scores 0 whatever the pattern says.

    ``full`` wants the pattern to match the whole text; without it, somewhere in the text is enough. The default
    pattern is one line with no blanks around it: "say the answer and stop", which any model can learn and which
    costs a policy that rambles. Others, each in ``'...'`` on the command line or in YAML:

    - ``(?s)<think>.+</think>\\s*<answer>[^<>]+</answer>``: a thought, then an answer in tags
    - ``\\\\boxed\\{[^{}]+\\}`` with ``full: false``: an answer in a box

    A pattern may need time exponential in the text, so the verifier belongs in a process that can be killed, where a
    panel puts it. Raises ``ValueError`` for a pattern that is none, saying where.
    """

    slot_keys: ClassVar[Mapping[str, Sequence[str]]] = {"slot": ()}

    def __init__(self, pattern: str = r"\S(?:.*\S)?", slot: str = "answer", full: bool = True) -> None:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            place = "" if error.pos is None else f" at position {error.pos}: {pattern[error.pos : error.pos + 20]!r}"
            raise ValueError(f"pattern={pattern!r} is no regular expression: {error.msg}{place}.") from error
        except (OverflowError, RecursionError) as error:
            raise ValueError(f"pattern={pattern[:80]!r} is too large: {error}.") from error
        self._matches = compiled.fullmatch if full else compiled.search
        self._slot = slot

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in {0, 1} per case."""
        texts = [text_of(case, self._slot) for case in cases]
        return [float(bool(text.strip()) and self._matches(text) is not None) for text in texts]
