"""The judge of verifiers, on those with a memory: declared, carried by ``save`` and ``load``, and plain."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from selfplay.testing import check_verifier
from tests.test_testing_kit import Cases, case, exact, refused


class Novelty:
    """1 / (1 + how often the answer was there in earlier calls); blank text is never new."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __call__(self, cases: Cases) -> list[float]:
        answers = [case["answer"].strip() for case in cases]
        scores = [1 / (1 + self.seen[answer]) if answer else 0.0 for answer in answers]
        self.seen.update(answers)
        return scores

    def save(self, folder: Path) -> None:
        (folder / "seen.json").write_text(json.dumps(self.seen), encoding="utf-8")

    def load(self, folder: Path) -> None:
        self.seen = Counter(json.loads((folder / "seen.json").read_text(encoding="utf-8")))


class Merges(Novelty):
    """Adds what was saved to what it knows, so a resumed run would count twice."""

    def load(self, folder: Path) -> None:
        self.seen.update(json.loads((folder / "seen.json").read_text(encoding="utf-8")))


class Forgets(Novelty):
    def load(self, folder: Path) -> None:
        self.seen = Counter()


class Pickles(Novelty):
    """The first bytes of a pickle, as protocol 4 writes them."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "seen.bin").write_bytes(b"\x80\x04\x95\x00\x00")


def test_a_memory_is_allowed_when_it_says_so_and_travels() -> None:
    seasoned = Novelty()
    seasoned([case("2"), case("2")])
    for verifier in (Novelty(), seasoned):
        check_verifier(verifier, memory=True)
    refused(Novelty(), "scored differently the second time")
    refused(exact, re.escape("needs save(folder) and load(folder)"), memory=True)


@pytest.mark.parametrize(
    ("broken", "saying"),
    [(Merges, "second time"), (Forgets, "after load"), (Pickles, "save.. pickled seen.bin")],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_a_memory_that_does_not_come_back(broken: type[Novelty], saying: str) -> None:
    refused(broken(), saying, memory=True)


def test_what_is_asked_of_a_memory_is_asked_of_all_else_too() -> None:
    class Guesses(Novelty):
        def __call__(self, cases: Cases) -> list[float]:
            scores = super().__call__(cases)
            return [
                0.75 if not case["answer"].strip() else 0.5 * score for case, score in zip(cases, scores, strict=True)
            ]

    refused(Guesses(), "blank text scores 0.75", memory=True)
    check_verifier(Guesses(), memory=True, blank_may_score=True)
