"""Where the answer is in what a model said: one fixed order of places, and no number is ever fished out of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator

from verifiers.maths.text import MAX_CHARS
from verifiers.thoughts import spoken

_MARKER = re.compile(r"\banswer(?:\s{1,4}is\s{0,4}:?|[\s*]{0,8}:)|####", re.IGNORECASE)
_SAID = re.compile(
    r"(?=so\b|thus|hence|therefore|the )(?:(?:so|thus|hence|therefore),?\s+)?"
    r"(?:the (?:result|total|sum|product|value) is:?\s+)?(?!the )([^\n]{1,200})",
    re.IGNORECASE,
)
"""A last line that only leads up to the answer: "So the total is 48", "Thus, 48"."""
_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).){0,2000})</answer>", re.IGNORECASE | re.DOTALL)
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])")
_MATHS_FIRST = re.compile(r"\A\$([^$]{1,500})(?<!\\)\$\s{0,4}(?=[a-zA-Z\\%][^$]*\Z)")
"""Maths that its unit follows outside of the dollars: "$5$ cm"."""
_WRAPPERS = (
    ("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ("__", "__"), ('"', '"'),
)  # fmt: skip


def candidates(text: str) -> Iterator[str]:
    """Yield the texts that may be read as the answer, most binding first; the reader takes the first that parses.

    The last ``\\boxed{}`` outside ``<think>`` is the only candidate where there is one; else what follows the last
    "answer is", "answer:" or "####" (or is in ``<answer>`` tags); else the whole text, then its last line, without
    a "thus" or "the total is" before it.
    """
    text = spoken(text)
    if "\\boxed" in text or "\\fbox" in text:
        yield trim(_boxed(text))
        return
    tagged = _TAGGED.findall(text)
    if tagged:
        yield trim(tagged[-1])
        return
    markers = list(_MARKER.finditer(text))
    if markers:
        lines = text[markers[-1].end() :].strip(" \t\n*:").split("\n", 1)
        said = trim(_SENTENCE_END.split(lines[0], maxsplit=1)[0])
        yield trim(said.replace("**", "", 1)) if said.count("**") == 1 else said  # the other one was at the marker
        return
    whole = trim(text)
    last = trim(whole.rsplit("\n", 1)[1]) if "\n" in whole else ""
    said = _SAID.fullmatch(last or whole)
    if said is not None:
        yield trim(said[1])
    if not whole.rpartition("\n")[2].lstrip().startswith("="):  # "3 + 5" and on the next line "= 8"
        yield whole
    if last:
        yield last


def _boxed(text: str) -> str:
    """What the last box holds; "" where its braces never close."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    rest = text[start:].split("box" if text.startswith("\\fbox", start) else "boxed", 1)[1].lstrip()
    if not rest.startswith("{"):
        return rest[:1]
    depth = 0
    for index, char in enumerate(rest):
        if char in "{}" and (index == 0 or rest[index - 1] != "\\"):
            depth += 1 if char == "{" else -1
            if depth == 0:
                return rest[1:index]
    return ""


def trim(text: str) -> str:
    """Take off what only decorates: white space, emphasis, maths delimiters, a full stop, a leading "="."""
    while True:
        before = text
        text = text.strip()
        if len(text) > MAX_CHARS:  # over the reader's budget anyway
            return text
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        text = text.removesuffix(",").removesuffix("\\")
        if text.startswith("=") and not text.startswith("=="):
            text = text[1:]
        for left, right in _WRAPPERS:
            inner = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inner and left not in inner.replace("\\$", ""):
                text = inner
        text = _MATHS_FIRST.sub(r"\1 ", text)
        if text == before:
            return text
