"""Text to tokens. Whatever no rule names is unreadable: there is no fallback to a more permissive reading."""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.maths.tree import Unreadable

MAX_TOKENS = 600


class Token(NamedTuple):
    """``kind`` is num, cmd (``text`` without its backslash), word, text (from ``\\text{}``), op or end."""

    kind: str
    text: str
    spaced: bool = False


END = Token("end", "")

_TOKEN = re.compile(
    r"""(?P<space>\s+|(?<=[\w}])~)
      | (?P<rep>\d*\.\d*\\(?:overline|bar|dot)\s*\{?\d+\}?)
      | (?P<num>(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)? | \d{1,3}(?:[ ]\d{3})+(?!\d)(?:\.\d+)? | \d+(?:\.\d+)? | \.\d+)
            (?:[eE][+-]?\d{1,5}(?![\w(]))?)
      | \\(?:text|textbf|textit|mathrm|mathbf|mathit|mathsf|textrm|mbox|operatorname\*?)\s*\{(?P<text>[^{}\\$]*)\}
      | \\(?P<cmd>[a-zA-Z]+)
      | (?P<esc>\\[{}$&\\])
      | (?P<word>[^\W\d_]+'?(?:[^\W\d_]+)?)
      | (?P<op>\*\*|<=|>=|!=|==|[-+*/^!%()\[\]{}|=<>,;:_&$])
    """,
    re.VERBOSE,
)


def tokenize(text: str) -> list[Token]:
    """Tokens of a text that ``plain`` has prepared. Raises ``Unreadable`` on a strange character or too many tokens."""
    tokens: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unreadable(f"no rule reads {text[position]!r}")
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "space":
            spaced = True
            continue
        content = match[kind]
        if kind == "num":
            content = content.replace(",", "").replace(" ", "")
        elif kind == "rep":
            kind, content = "num", re.sub(r"\\[a-z]+", "o", re.sub(r"[\s{}]", "", content))
        elif kind == "esc":
            kind = "op"
        elif kind == "text":
            content = content.strip()
        elif content == "**":
            content = "^"
        elif content == "==":
            content = "="
        tokens.append(Token(kind, content, spaced))
        spaced = False
        if len(tokens) > MAX_TOKENS:
            raise Unreadable(f"more than {MAX_TOKENS} tokens")
    return tokens
