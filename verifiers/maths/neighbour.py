"""The program of ``MathVerify``'s worker: two texts in, math-verify's verdict out, null for an unread reference."""

from __future__ import annotations

import logging
from typing import Any, cast

import math_verify as untyped_math_verify  # pyright: ignore[reportMissingTypeStubs]

from verifiers.worker import serve

math_verify = cast("Any", untyped_math_verify)
_DELIMITERS = ("$", "\\boxed", "\\(", "\\[")


def _parsed(text: str) -> list[Any]:
    """What math-verify reads. A text without delimiters gets them, for there it reads LaTeX: its best results of the
    ways that were tried."""
    if not any(sign in text for sign in _DELIMITERS):
        text = f"${text}$"
    return list(math_verify.parse(text, parsing_timeout=None))


def answer(request: object) -> bool | None:
    """math-verify's verdict on ``[reference, answer]``. Its own time-outs are off: the parent kills this process."""
    reference, given = (str(text) for text in cast("list[object]", request))
    gold = _parsed(reference)
    return bool(math_verify.verify(gold, _parsed(given), timeout_seconds=None)) if gold else None


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # it warns of every text that it cannot read
    serve(answer)
