"""Whether a text is new to the run: near-duplicates are found in an archive that lasts as long as the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from selfplay.archive import Archive
from verifiers.format import text_of

_COUNTERS = ("near_archive", "near_each_other")


class Novelty:
    """1 for a text without near-duplicates, 1 - similarity for one that has some, 0 for a blank text.

    The similarity is that of ``selfplay.archive.Archive``, whose settings are ``threshold``, ``permutations``,
    ``shingle``, ``capacity`` and ``seed``. A text is held against two things:

    - *the archive* of the texts of earlier calls, at most ``capacity`` of them. A call's texts enter it once the call
      has been scored, so the same call scores lower the second time. The text longest not seen leaves first. With
      ``frozen`` nothing enters. A memory is what keeps a Challenger from going round in circles: diversity within a
      batch alone can be had by cycling through modes (arXiv 2602.13103).
    - *the other texts of the call*: near-duplicates among them all lose, whatever their order. Equal texts are one
      item here, for the siblings that answer one query all show that query; that several tables asked the very same
      is noticed by the next call.

    Everything random comes from ``seed``. The archive travels in checkpoints as numbers. Raises ``ImportError`` without
    ``datasketch``.
    """

    slot_keys: ClassVar[Mapping[str, Sequence[str]]] = {"slot": ()}

    def __init__(
        self,
        slot: str = "query",
        threshold: float = 0.8,
        permutations: int = 128,
        shingle: int = 3,
        capacity: int = 4096,
        frozen: bool = False,
        seed: int = 0,
    ) -> None:
        self._slot, self._frozen = slot, frozen
        self._archive = Archive(threshold, permutations, shingle, capacity, seed)
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in [0, 1] per case; then the texts enter the archive."""
        texts = [text_of(case, self._slot) for case in cases]
        items = {text: self._archive.sketch(text) for text in sorted(set(texts)) if text.strip()}
        beside, threshold = self._archive.beside(items), self._archive.threshold
        scores: dict[str, float] = {}
        for text, sketch in items.items():
            known, here = self._archive.nearest(sketch), beside[text]
            self._counts["near_archive"] += known >= threshold
            self._counts["near_each_other"] += here >= threshold
            nearest = max(known, here)
            scores[text] = 1.0 - nearest if nearest >= threshold else 1.0
        if not self._frozen:
            for sketch in items.values():
                self._archive.add(sketch)
        return [scores.get(text, 0.0) for text in texts]

    def metrics(self) -> dict[str, float]:
        """Since the last call: distinct texts ``near_archive`` and ``near_each_other``; and the size of the
        ``archive``."""
        metrics = {name: float(self._counts[name]) for name in _COUNTERS} | {"archive": float(len(self._archive))}
        self._counts.clear()
        return metrics

    def save(self, folder: Path) -> None:
        self._archive.save(folder)

    def load(self, folder: Path) -> None:
        """Take the saved archive in place of this one. Raises ``ValueError`` if it was made by other settings."""
        self._archive.load(folder)
