"""1 if the answer's last ```c block compiles as C11, else 0: a program for ``verifier=external``.

It runs ``cc -fsyntax-only``, so nothing is linked, assembled or run. The block is hostile text: it may include headers
as ``<stdio.h>`` and nothing else, because an include opens any file or device that the compiler can. What the compiler
says is thrown away: its diagnostics quote the files that it read. A compiler that is late is no verdict (null), and
without a compiler the program ends with status 1.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

SECONDS = 5.0
MAX_CHARS = 50_000

_OPEN, _CLOSE = re.compile(r"[ \t]*```[ \t]*[cC][ \t]*"), re.compile(r"[ \t]*```[ \t]*")
_SPLICE = re.compile(r"(?:\\|\?\?/)[ \t\v\f]*\n")  # a backslash, or its trigraph, at the end of a line
_HASH = re.compile(r"#|%:|\?\?=")  # with its digraph and its trigraph
_SPACE, _WORD = re.compile(r"\s*"), re.compile(r"include|include_next|import|embed|pragma\b")
_ALLOWED = re.compile(
    r"#[ \t]*(?:include[ \t]*<(?![/.])(?!.*\.\.)[\w./+-]+>[ \t]*(?:$|/[/*])|pragma[ \t]+(?:once|omp|STDC)\b)",
    re.MULTILINE,
)
_ASKS = re.compile(r"__has_include|__has_embed|_Pragma|__pragma")


def source_of(answer: str) -> str | None:
    """The last block, or None where there is none or it would open a file of its own choice."""
    block = last_block(answer.replace("\r\n", "\n"))
    if block is None or len(block) > MAX_CHARS or "\0" in block or "\r" in block:
        return None
    plain = _SPLICE.sub("", block)
    if _ASKS.search(plain) or not all(_ALLOWED.match(plain, place) for place in directives(plain)):
        return None
    return block


def last_block(answer: str) -> str | None:
    """What stands between the last pair of fences. Line by line: one expression for it would be slow on many fences."""
    found: str | None = None
    lines: list[str] | None = None
    for line in answer.split("\n"):
        if lines is None:
            lines = [] if _OPEN.fullmatch(line) else None
        elif _CLOSE.fullmatch(line):
            found, lines = "".join(f"{each}\n" for each in lines), None
        else:
            lines.append(line)
    return found


def directives(source: str) -> Iterator[int]:
    """Where a directive that may open a file begins. What looks like one inside a string or comment is named too."""
    for match in _HASH.finditer(source):
        at = match.end()
        while True:  # space and comments may stand between the sign and the word
            at = _SPACE.match(source, at).end()  # type: ignore[union-attr]
            if not source.startswith("/*", at):
                break
            end = source.find("*/", at + 2)
            at = end + 2 if end >= 0 else len(source)
        if _WORD.match(source, at):
            yield match.start()


def compiles(source: str) -> bool | None:
    """Whether ``cc`` takes it without an error; None where it does not end in time."""
    command = ["cc", "-std=c11", "-pedantic-errors", "-fsyntax-only", "-x", "c", "-"]
    try:
        done = subprocess.run(
            command, input=source.encode("utf-8", "replace"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return done.returncode == 0


def main() -> None:
    if shutil.which("cc") is None:
        sys.exit("compiles_c needs a C compiler that is called cc")
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        source = source_of(case["answer"])
        verdict = False if source is None else compiles(source)
        print("null" if verdict is None else int(verdict), flush=True)


if __name__ == "__main__":
    main()
