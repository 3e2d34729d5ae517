"""Strict pairs of reference and answer, by class: what a reader of docs/maths.md calls right, or wrong.

``maths_pairs.jsonl`` holds them, one per line. Both directions of error have their pairs, so that neither a lenient nor
a harsh reader passes. Most were written before they were tried; what the reader still gets wrong stays in the list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """One reference, one answer, and whether the answer is right."""

    kind: str
    reference: str
    answer: str
    right: bool


PAIRS: tuple[Pair, ...] = tuple(
    Pair(**json.loads(line)) for line in Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
)
