"""Whether a text is new to the run: near-duplicates are found in an archive that lasts as long as the run."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfplay.seeds import derive
from verifiers.equality import plain
from verifiers.format import text_of

_FILE = "archive.json"
_MISSES = 0.01
_COUNTERS = ("near_archive", "near_each_other")


class Novelty:
    """1 for a text without near-duplicates, 1 - similarity for one that has some, 0 for a blank text.

    The similarity of two texts is the Jaccard index of their sets of ``shingle`` consecutive characters (case and
    blanks folded, a shorter text is one shingle), estimated from ``permutations`` minima of random hashes: standard
    error at most 0.5 / sqrt(permutations), 0.044 as it is. Texts at or above ``threshold`` are near-duplicates. They
    are looked up by locality-sensitive hashing, which misses a pair at the threshold with probability at most 1 %.

    A text is held against two things:

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
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold} must be above 0 and at most 1.")
        if permutations < 2 or shingle < 1 or capacity < 1:
            raise ValueError(
                f"permutations={permutations} must be at least 2, shingle={shingle} and capacity={capacity} at least 1."
            )
        try:
            import datasketch  # brings scipy, so only here
        except ImportError as error:
            raise ImportError(f"novelty needs datasketch ({error}): pip install datasketch") from error
        self._slot, self._threshold, self._shingle, self._capacity = slot, threshold, shingle, capacity
        self._frozen, self._seed, self._bands = frozen, seed, _bands(threshold, permutations)
        library: Any = datasketch  # its annotations are partial
        self._library = library
        # datasketch wants 32 bits of seed.
        self._blank: Any = library.MinHash(permutations, seed=derive(seed, "novelty") % 2**32, scheme="affine32")
        self._archive: dict[bytes, Any] = {}  # signature -> MinHash; the longest not seen first
        self._index = self._new_index()
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score in [0, 1] per case; then the texts enter the archive."""
        texts = [text_of(case, self._slot) for case in cases]
        items = {text: self._sketch(text) for text in sorted(set(texts)) if text.strip()}
        together = self._new_index()
        for text, sketch in items.items():
            together.insert(text, sketch)
        scores: dict[str, float] = {}
        for text, sketch in items.items():
            known = max((sketch.jaccard(self._archive[key]) for key in self._index.query(sketch)), default=0.0)
            beside = (sketch.jaccard(items[other]) for other in together.query(sketch) if other != text)
            here = max(beside, default=0.0)
            self._counts["near_archive"] += known >= self._threshold
            self._counts["near_each_other"] += here >= self._threshold
            nearest = max(known, here)
            scores[text] = 1.0 - nearest if nearest >= self._threshold else 1.0
        if not self._frozen:
            for sketch in items.values():
                self._remember(sketch)
        return [scores.get(text, 0.0) for text in texts]

    def metrics(self) -> dict[str, float]:
        """Since the last call: distinct texts ``near_archive`` and ``near_each_other``; and the size of the
        ``archive``."""
        metrics = {name: float(self._counts[name]) for name in _COUNTERS} | {"archive": float(len(self._archive))}
        self._counts.clear()
        return metrics

    def save(self, folder: Path) -> None:
        """Write the archive as JSON: signatures as lists of numbers, the longest not seen first."""
        signatures = [sketch.hashvalues.tolist() for sketch in self._archive.values()]
        content = json.dumps({"settings": self._settings(), "signatures": signatures}, separators=(",", ":"))
        (folder / _FILE).write_text(content, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take the saved archive in place of this one. Raises ``ValueError`` if it was made by other settings."""
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if content["settings"] != self._settings():
            raise ValueError(f"the archive was made with {content['settings']}, this verifier has {self._settings()}.")
        self._archive, self._index = {}, self._new_index()
        for numbers in content["signatures"]:
            sketch = self._blank.copy()
            sketch.hashvalues[:] = numbers
            self._remember(sketch)

    def _settings(self) -> dict[str, int]:
        """What a signature depends on."""
        return {"permutations": len(self._blank), "shingle": self._shingle, "seed": self._seed}

    def _new_index(self) -> Any:
        state = random.getstate()  # each index draws itself a name that we have no use for
        index = self._library.MinHashLSH(num_perm=len(self._blank), params=self._bands)
        random.setstate(state)
        return index

    def _sketch(self, text: str) -> Any:
        sketch = self._blank.copy()
        sketch.update_batch(sorted(_shingles(text, self._shingle)))
        return sketch

    def _remember(self, sketch: Any) -> None:
        key = sketch.hashvalues.tobytes()
        if key in self._archive:
            self._archive[key] = self._archive.pop(key)  # seen again: the newest
            return
        self._archive[key] = sketch
        self._index.insert(key, sketch)
        if len(self._archive) > self._capacity:
            oldest = next(iter(self._archive))
            del self._archive[oldest]
            self._index.remove(oldest)


def _shingles(text: str, size: int) -> set[bytes]:
    text = plain(text)
    pieces: Iterator[str] = (text[start : start + size] for start in range(max(1, len(text) - size + 1)))
    return {piece.encode("utf-8", "surrogatepass") for piece in pieces}


def _bands(threshold: float, permutations: int) -> tuple[int, int]:
    """(b, r): b bands of r minima each. A pair of similarity s shares a band with probability 1 - (1 - s^r)^b; r is the
    largest, which brings the fewest others, that still finds a pair at the threshold."""
    for rows in range(permutations // 2, 0, -1):
        bands = permutations // rows
        if (1 - threshold**rows) ** bands <= _MISSES:
            return bands, rows
    raise ValueError(f"threshold={threshold} is too low to be found with permutations={permutations}: raise either.")
