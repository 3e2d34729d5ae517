"""An archive of texts that finds near-duplicates: bounded, seeded, and kept in checkpoints as numbers."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfplay.seeds import derive

_FILE = "archive.json"
_MISSES = 0.01


def plain(text: str) -> str:
    """The text as words are compared: compatible characters as one (NFKC), no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Archive:
    """Texts by their signatures, at most ``capacity`` of them; the one longest not added leaves first.

    The similarity of two texts is the Jaccard index of their sets of ``shingle`` consecutive characters (case and
    blanks folded, a shorter text is one shingle), estimated from ``permutations`` minima of random hashes: standard
    error at most 0.5 / sqrt(permutations), 0.044 as it is. Texts at or above ``threshold`` are near-duplicates. They
    are looked up by locality-sensitive hashing, which misses a pair at the threshold with probability at most 1 %.

    Everything random comes from ``seed``. Raises ``ValueError``, and ``ImportError`` without ``datasketch``.
    """

    def __init__(
        self,
        threshold: float = 0.8,
        permutations: int = 128,
        shingle: int = 3,
        capacity: int = 4096,
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
            raise ImportError(f"near-duplicates need datasketch ({error}): pip install datasketch") from error
        self.threshold, self._shingle, self._capacity, self._seed = threshold, shingle, capacity, seed
        self._bands = _bands(threshold, permutations)
        library: Any = datasketch  # its annotations are partial
        self._library = library
        # datasketch wants 32 bits of seed.
        self._blank: Any = library.MinHash(permutations, seed=derive(seed, "novelty") % 2**32, scheme="affine32")
        self._kept: dict[bytes, Any] = {}  # signature -> MinHash; the longest not added first
        self._index = self._new_index()

    def __len__(self) -> int:
        return len(self._kept)

    def sketch(self, text: str) -> Any:
        """The signature of a text, which is what the archive compares and keeps."""
        sketch = self._blank.copy()
        sketch.update_batch(sorted(_shingles(text, self._shingle)))
        return sketch

    def nearest(self, sketch: Any) -> float:
        """The similarity in [0, 1] to the most similar text that is kept; 0 where none comes near the threshold."""
        return max((sketch.jaccard(self._kept[key]) for key in self._index.query(sketch)), default=0.0)

    def beside(self, sketches: Mapping[str, Any]) -> dict[str, float]:
        """Of each text the same, to the others of ``sketches`` instead of the archive."""
        together = self._new_index()
        for text, sketch in sketches.items():
            together.insert(text, sketch)
        return {
            text: max((sketch.jaccard(sketches[name]) for name in together.query(sketch) if name != text), default=0.0)
            for text, sketch in sketches.items()
        }

    def add(self, sketch: Any) -> None:
        """Keep a text; one that is there already becomes the newest."""
        key = sketch.hashvalues.tobytes()
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)
            return
        self._kept[key] = sketch
        self._index.insert(key, sketch)
        if len(self._kept) > self._capacity:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._index.remove(oldest)

    def save(self, folder: Path) -> None:
        """Write ``archive.json``: signatures as lists of numbers, the longest not added first."""
        signatures = [sketch.hashvalues.tolist() for sketch in self._kept.values()]
        content = json.dumps({"settings": self._settings(), "signatures": signatures}, separators=(",", ":"))
        (folder / _FILE).write_text(content, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take the saved archive in place of this one. Raises ``ValueError`` if it was made by other settings."""
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if content["settings"] != self._settings():
            raise ValueError(f"the archive was made with {content['settings']}, this one has {self._settings()}.")
        self._kept, self._index = {}, self._new_index()
        for numbers in content["signatures"]:
            sketch = self._blank.copy()
            sketch.hashvalues[:] = numbers
            self.add(sketch)

    def _settings(self) -> dict[str, int]:
        """What a signature depends on."""
        return {"permutations": len(self._blank), "shingle": self._shingle, "seed": self._seed}

    def _new_index(self) -> Any:
        state = random.getstate()  # each index draws itself a name that we have no use for
        index = self._library.MinHashLSH(num_perm=len(self._blank), params=self._bands)
        random.setstate(state)
        return index


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
