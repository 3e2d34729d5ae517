"""Frames around the players' words: a judge sees where they begin and end, and no player can write the end.

A frame is named by a nonce, a hash of a seed and of the very texts inside. A player never sees it, and a text that
held its own nonce would be a fixed point of the hash. What looks like a frame, a verdict or a chat template's control
token in the players' words stays readable, behind a bracket that opens nothing.
"""

from __future__ import annotations

import re

from selfplay.seeds import derive

FRAMES = ("instruction", "response", "principle", "first", "second")
"""Tags that frame what is judged."""
VERDICTS = ("calculation", "score", "verdict", "winner")
"""Tags that hold what a judge decides."""

_CONTROLS = (
    "s|bos|eos|pad|unk|think|tool_call|tool_response|start_of_turn|end_of_turn|end_of_text|im_start|im_end|bos_token"
)
_INVISIBLE = r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]{0,4}"


def _loosely(name: str) -> str:
    """The name with invisible characters between its letters: ``<sc\u200bore>`` reads as a tag."""
    return _INVISIBLE + _INVISIBLE.join(map(re.escape, name)) + _INVISIBLE


_NAMES = "|".join(map(_loosely, (*FRAMES, *VERDICTS)))
_SHUT = r"[>\uff1e\ufe65]"
# Every length is bounded, so that the time is linear in the text; only the opening bracket is replaced, so that nesting
# makes nothing new.
_OPENING = re.compile(
    rf"""[<\uff1c\ufe64](?=
        [\s/]{{0,4}} (?:{_NAMES}) (?:[\s/][^>\uff1e\ufe65\n]{{0,80}})? \s{{0,4}}{_SHUT}  # ours, with attributes
      | /?(?:{_CONTROLS})\s*/?{_SHUT}                                    # </s>, <start_of_turn>
      | [|\uff5c][^<>|\uff5c\s]{{1,64}}[|\uff5c]{_SHUT}                    # <|im_end|>, and with wide bars
      | <?/?SYS>>
    ) | \[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG)\])""",
    re.IGNORECASE | re.VERBOSE,
)
_GUARD = "\u2039"


def nonce(seed: int, *texts: str) -> str:
    """16 hexadecimal digits for one question to a judge, a function of the seed and the texts, in none of them."""
    number = 0
    while True:
        # The lengths keep ("ab", "c") and ("a", "bc") apart: a path joins its parts with a slash.
        made = f"{derive(seed, 'nonce', number, *map(len, texts), *texts):016x}"
        if not any(made in text.lower() for text in texts):
            return made
        number += 1


def framed(nonce: str, name: str, text: str) -> str:
    """``<name nonce>`` text ``</name nonce>``, the text made harmless and without the nonce."""
    inside = re.sub(re.escape(nonce), "[...]", harmless(text), flags=re.I) if nonce else harmless(text)
    return f"<{name} {nonce}>\n{inside}\n</{name} {nonce}>"


def harmless(text: str) -> str:
    """The text with the opening bracket of our tags, and of the usual control tokens, as ``‹``: it can be read and
    opens nothing. A text without any is left as it is.

    An engine breaks its own model's control tokens besides (``models/chat.py``), of whatever shape.
    """
    return _OPENING.sub(_GUARD, text)
