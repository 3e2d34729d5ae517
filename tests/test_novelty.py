"""Novelty: near-duplicates in the archive and within a call, the memory and its bound, and what a checkpoint keeps."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.archive import _shingles
from selfplay.deadline import deadline
from selfplay.testing import check_verifier
from selfplay.types import Stateful
from verifiers.isolated import isolate
from verifiers.novelty import Novelty
from verifiers.worker import WorkerTimeout


def cases(*queries: str) -> list[dict[str, str]]:
    return [{"query": query, "answer": "", "reference": ""} for query in queries]


def exact(a: str, b: str, size: int = 3) -> float:
    """The Jaccard index that the signatures estimate."""
    left, right = _shingles(a, size), _shingles(b, size)
    return len(left & right) / len(left | right)


LONG = "A farmer has seventeen sheep, and all but nine of them run away over the hills. How many has he left?"
NEAR = LONG.replace("seventeen", "sixteen")
FAR = "Name the longest river that crosses the equator twice on its way to the ocean, and the city at its mouth."


def test_the_contract() -> None:
    """With its memory, from one state; and frozen, as any verifier."""
    texts = (LONG, NEAR, FAR, "", "12 + 34 = ?", "12 + 35 = ?")
    verifier = Novelty()
    verifier(cases(FAR, "12 + 34 = ?"))
    check_verifier(verifier, cases(*texts), slot="query", memory=True)
    check_verifier(Novelty(slot="answer", frozen=True))
    check_verifier(Novelty(frozen=True), cases(*texts), slot="query")
    assert isinstance(verifier, Stateful)


def test_it_remembers_when_its_worker_is_killed() -> None:
    """As a panel runs it: in a process of its own, which is built again and told what it had seen."""
    verifier = isolate({"_target_": "verifiers.novelty.Novelty", "slot": "query", "seed": 3})
    assert verifier is not None and isinstance(verifier, Stateful)
    assert verifier(cases(LONG)) == [1.0]
    with pytest.raises(WorkerTimeout), deadline(0.0):
        verifier(cases(FAR))
    assert verifier(cases(LONG, FAR)) == [0.0, 1.0], "the call that failed has left nothing"
    verifier.close()


def test_new_then_known_then_nearly_known() -> None:
    """0, and for a near-duplicate 1 less the Jaccard index that ``exact`` gives."""
    verifier = Novelty()
    assert verifier(cases(LONG, FAR)) == [1.0, 1.0]
    assert verifier(cases(LONG)) == [0.0]
    assert 0.8 < exact(LONG, NEAR) < 0.95
    score = verifier(cases(NEAR))[0]
    assert score == pytest.approx(1 - exact(LONG, NEAR), abs=0.12), "three standard errors of 128 minima: 3 * 0.04"
    assert verifier(cases("Something else entirely, which nobody asked.")) == [1.0]


def test_numbers_make_a_question_new() -> None:
    """One shingle more or less in nine: far below 0.8. Case and blanks make nothing new."""
    verifier = Novelty()
    verifier(cases("12 + 34 = ?"))
    assert exact("12 + 34 = ?", "12 + 35 = ?") < 0.8
    assert verifier(cases("12 + 35 = ?", "What is 12 + 34?")) == [1.0, 1.0]
    verifier(cases("Solve x + 1 = 6."))
    assert verifier(cases("  SOLVE x  + 1 = 6. ")) == [0.0]


def test_near_duplicates_of_one_call_all_lose_and_siblings_do_not() -> None:
    verifier = Novelty(frozen=True)
    scores = verifier(cases(LONG, NEAR, FAR))
    assert scores[0] == scores[1] < 0.2 and scores[2] == 1.0
    assert verifier(cases(LONG, LONG, LONG)) == [1.0] * 3, "the siblings that answer one question"
    assert verifier(cases(LONG, LONG.upper())) == [0.0, 0.0], "but another's spelling of it is a duplicate"


def test_blank_is_never_new() -> None:
    verifier = Novelty()
    assert verifier(cases("", " ", "\n", "x")) == [0.0, 0.0, 0.0, 1.0]
    assert verifier.metrics()["archive"] == 1.0
    assert verifier(cases("y", "é", "\ud800", "\x00")) == [1.0] * 4, "short and odd texts are texts"


TEXTS = st.lists(st.sampled_from([LONG, NEAR, FAR, "12 + 34 = ?", "12 + 34 = ??", "", "ab", "AB"]), max_size=6)


@settings(max_examples=30, deadline=None)
@given(calls=st.lists(TEXTS, max_size=4), seed=st.integers(0, 99))
def test_the_order_within_calls_is_no_matter_for_scores_or_memory(calls: list[list[str]], seed: int) -> None:
    rng = random.Random(seed)
    straight, shuffled = Novelty(capacity=3), Novelty(capacity=3)
    for texts in calls:
        order = rng.sample(range(len(texts)), len(texts))
        scores = straight(cases(*texts))
        assert shuffled(cases(*(texts[i] for i in order))) == [scores[i] for i in order]
        assert list(straight._archive._kept) == list(shuffled._archive._kept)


def test_the_archive_is_bounded_and_the_longest_not_seen_leaves() -> None:
    """Capacity 2: A, B, then A again, then C: B is forgotten, A and C are known."""
    a, b, c = LONG, FAR, "What is the square of the number of days in a week?"
    verifier = Novelty(capacity=2)
    for text in (a, b, a, c):
        verifier(cases(text))
    frozen = verifier.metrics()["archive"]
    assert frozen == 2.0
    assert verifier(cases(c)) == [0.0] and verifier(cases(a)) == [0.0] and verifier(cases(b)) == [1.0]


def test_counts() -> None:
    verifier = Novelty()
    verifier(cases(LONG))
    verifier.metrics()
    verifier(cases(NEAR, FAR, FAR + "!", FAR, ""))
    assert verifier.metrics() == {"near_archive": 1.0, "near_each_other": 2.0, "archive": 4.0}
    assert verifier.metrics() == {"near_archive": 0.0, "near_each_other": 0.0, "archive": 4.0}


def test_a_checkpoint_keeps_the_memory(tmp_path: Path) -> None:
    """Two that were fed alike, one of them through a file: they go on alike, to the order of what is forgotten."""
    first, second = Novelty(seed=7, capacity=5), Novelty(seed=7, capacity=5)
    rng = random.Random(0)
    calls = [cases(*(f"What is {rng.randrange(9)} + {rng.randrange(9)}?" for _ in range(3))) for _ in range(8)]
    for call in calls[:4]:
        first(call)
    first.save(tmp_path)
    second(cases(LONG))
    second.load(tmp_path)
    assert [first(call) for call in calls[4:]] == [second(call) for call in calls[4:]]
    assert list(first._archive._kept) == list(second._archive._kept)
    told = json.loads((tmp_path / "archive.json").read_text(encoding="utf-8"))
    assert len(told["signatures"]) == 5 and all(type(n) is int for row in told["signatures"] for n in row)


def test_a_memory_of_other_settings_is_refused(tmp_path: Path) -> None:
    Novelty(seed=1).save(tmp_path)
    for other in (Novelty(seed=2), Novelty(seed=1, shingle=4), Novelty(seed=1, permutations=64)):
        with pytest.raises(ValueError, match="the archive was made with"):
            other.load(tmp_path)
    Novelty(seed=1, threshold=0.5, capacity=9).load(tmp_path)  # what does not change signatures may change


def test_a_seed_is_a_family_of_hashes() -> None:
    texts = (LONG, NEAR)
    assert Novelty(seed=3)(cases(*texts)) == Novelty(seed=3)(cases(*texts))
    assert len({Novelty(seed=seed)(cases(*texts))[0] for seed in range(5)}) > 1
    state = random.getstate()
    Novelty(seed=3)(cases(*texts))
    assert random.getstate() == state, "nothing is drawn from the global generator"


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 1.1}, {"permutations": 1}, {"shingle": 0}, {"capacity": 0}]
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Novelty(**options)
    with pytest.raises(ValueError, match="no slot 'hint'"):
        Novelty(slot="hint")(cases("a"))


def test_a_missing_package_is_one_sentence() -> None:
    """In an interpreter to which the package is unknown; importing the module costs none of it."""
    code = (
        "import sys, verifiers.novelty\n"
        "assert not {'datasketch', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.modules['datasketch'] = None\n"
        "try: verifiers.novelty.Novelty()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1 and "pip install datasketch" in done.stdout
