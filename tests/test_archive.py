"""The archive of near-duplicates: what is near, its bound, its seed, and what a checkpoint keeps of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.archive import Archive, _bands, _shingles, plain
from selfplay.types import Stateful

LONG = "A farmer has seventeen sheep, and all but nine of them run away over the hills. How many has he left?"
NEAR = LONG.replace("seventeen", "sixteen")
FAR = "Name the longest river that crosses the equator twice on its way to the ocean, and the city at its mouth."


def exact(a: str, b: str, size: int = 3) -> float:
    """The Jaccard index that the signatures estimate."""
    left, right = _shingles(a, size), _shingles(b, size)
    return len(left & right) / len(left | right)


def similarity(archive: Archive, text: str) -> float:
    return archive.nearest(archive.sketch(text))


def test_new_then_known_then_nearly_known() -> None:
    """Three standard errors of 128 minima are 3 * 0.5 / sqrt(128) = 0.13."""
    archive = Archive()
    assert similarity(archive, LONG) == 0.0 and len(archive) == 0, "to look is not to add"
    archive.add(archive.sketch(LONG))
    assert similarity(archive, LONG) == 1.0 == similarity(archive, f"  {LONG.upper()}\n")
    assert 0.8 < exact(LONG, NEAR) < 0.95
    assert similarity(archive, NEAR) == pytest.approx(exact(LONG, NEAR), abs=0.13)
    assert similarity(archive, FAR) == 0.0


def test_beside_each_other() -> None:
    archive = Archive()
    sketches = {text: archive.sketch(text) for text in (LONG, NEAR, FAR)}
    found = archive.beside(sketches)
    assert found[LONG] == found[NEAR] == pytest.approx(exact(LONG, NEAR), abs=0.13) and found[FAR] == 0.0
    assert archive.beside({}) == {} and len(archive) == 0


def test_the_archive_is_bounded_and_the_longest_not_added_leaves() -> None:
    """Capacity 2: A, B, then A again, then C: B is forgotten, A and C are known."""
    archive = Archive(capacity=2)
    a, b, c = LONG, FAR, "What is the square of the number of days in a week?"
    for text in (a, b, a, c):
        archive.add(archive.sketch(text))
    assert len(archive) == 2
    assert [similarity(archive, text) for text in (a, b, c)] == [1.0, 0.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=12), max_size=12), seed=st.integers(0, 9))
def test_a_checkpoint_keeps_the_archive_to_the_byte(
    texts: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, two, first, second = (
        *(Archive(capacity=5, seed=seed) for _ in range(2)),
        *(tmp_path_factory.mktemp("archive") for _ in range(2)),
    )
    for text in texts:
        one.add(one.sketch(text))
    one.save(first)
    two.add(two.sketch("what load throws away"))
    two.load(first)
    two.save(second)
    assert (first / "archive.json").read_bytes() == (second / "archive.json").read_bytes()
    for text in (*texts, "one more", "another one"):
        assert similarity(one, text) == similarity(two, text)
        one.add(one.sketch(text))
        two.add(two.sketch(text))
    assert len(one) == len(two) <= 5
    assert isinstance(one, Stateful)


def test_an_archive_of_other_settings_is_refused(tmp_path: Path) -> None:
    Archive(seed=1).save(tmp_path)
    with pytest.raises(ValueError, match=r"made with .*'seed': 1.*, this one has .*'seed': 2"):
        Archive(seed=2).load(tmp_path)


def test_every_process_makes_the_same_signatures(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from selfplay.archive import Archive
archive = Archive(seed=3)
archive.add(archive.sketch({LONG!r}))
archive.save(Path({str(tmp_path)!r}))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)
    archive = Archive(seed=3)
    archive.load(tmp_path)
    assert similarity(archive, LONG) == 1.0
    other = Archive(seed=4).sketch(LONG).hashvalues.tolist()
    assert other != json.loads((tmp_path / "archive.json").read_text())["signatures"][0]


def test_nobody_elses_random_numbers_are_drawn() -> None:
    before = random.getstate()
    archive = Archive()
    archive.beside({LONG: archive.sketch(LONG)})
    assert random.getstate() == before


def test_bands_by_hand() -> None:
    """At 0.8, r = 6: b = 128 // 6 = 21, and (1 - 0.8^6)^21 = 0.0017 <= 0.01; r = 7: b = 18, and 0.0143 > 0.01."""
    assert (1 - 0.8**6) ** 21 < 0.01 < (1 - 0.8**7) ** 18
    assert _bands(0.8, 128) == (21, 6)
    assert _bands(1.0, 128) == (2, 64)


def test_shingles_by_hand() -> None:
    assert _shingles("Ab  c", 3) == {b"ab ", b"b c"}
    assert _shingles("ab", 3) == {b"ab"} and _shingles("", 3) == {b""}
    assert plain("  ＡＢ\tc ") == "ab c"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"threshold": 0.0}, "threshold=0.0 must be above 0 and at most 1"),
        ({"threshold": 1.1}, "threshold=1.1 must be above 0 and at most 1"),
        ({"threshold": 0.01}, "threshold=0.01 is too low to be found with permutations=128"),
        ({"permutations": 1}, "permutations=1 must be at least 2"),
        ({"capacity": 0}, "capacity=0 at least 1"),
    ],
)
def test_refusals(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Archive(**wrong)  # type: ignore[arg-type]
