"""The lines of a record that two verifiers have judged: what is read, what is refused, and what a kill leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfplay.judged import Judged, group_of, judged_cases, judged_episodes
from selfplay.record import RecordError


def read(log: Path, notes: list[str] | None = None) -> list[Judged]:
    return [row for _, row in judged_episodes(log, [] if notes is None else notes)]


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    log = folder / "episodes.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return log


GOOD = {
    "step": 1,
    "index": 0,
    "turns": [{"role": "solver", "group": 1}],
    "case": {"query": "1 + 1", "answer": "2", "reference": "2"},
    "verdict": {"score": 1.0},
    "returns": {"solver": 1.0},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"step": None}, "needs a whole number 'step'"),
        ({"step": 1.5}, "needs a whole number 'step'"),
        ({"step": 0}, "goes back from step 1 to step 0"),
        ({"index": "x"}, "needs a whole number 'index'"),
        ({"case": {"query": 3}}, "needs a 'case' of texts"),
        ({"case": None}, "needs a 'case' of texts"),
        ({"verdict": [1]}, "needs an object 'verdict'"),
        ({"verdict": {"score": "1"}}, "verdict.score is neither a number nor null"),
        ({"verdict": {"score": True}}, "verdict.score is neither a number nor null"),
        ({"returns": None}, "needs an object 'returns'"),
        ({"turns": 1}, "needs a list 'turns'"),
        ({"turns": [3]}, "has a turn without a 'role'"),
        ({"turns": [{"role": "solver"}]}, "needs a whole number 'group'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    log = tmp_path / "episodes.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in (GOOD, GOOD | change)), encoding="utf-8")
    with pytest.raises(RecordError, match=sentence) as caught:
        read(log)
    assert f"{log}, line 2" in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[]", "NaN x"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    log = tmp_path / "episodes.jsonl"
    log.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match="line 2 is not"):
        read(log)


def test_null_is_cannot_tell_and_a_stranger_slot_is_welcome(tmp_path: Path) -> None:
    odd = GOOD | {"verdict": {"score": None}, "case": {"query": "1", "plan": "half \ud800"}}
    first, second = read(write(tmp_path, GOOD, odd))
    assert first.stored == {"score": 1.0} and first.returns == {"solver": 1.0} and first.new == {}
    assert math.isnan(second.stored["score"])
    assert second.case == {"query": "1", "answer": "", "reference": "", "plan": "half \ud800"}


def test_an_episode_that_nobody_judged_is_passed_over(tmp_path: Path) -> None:
    assert [row.index for row in read(write(tmp_path, GOOD | {"verdict": {}, "case": {}}, GOOD | {"index": 1}))] == [1]


def test_a_line_that_a_kill_cut_is_noted_and_left_out(tmp_path: Path) -> None:
    log = write(tmp_path, GOOD, GOOD | {"index": 1})
    for lost in (1, 5, 40):
        log.write_bytes(log.read_bytes()[:-lost])
        notes: list[str] = []
        assert [row.index for row in read(log, notes)] == [0]
        assert notes == ["episodes.jsonl was cut within line 2: read up to line 1."]


def test_bytes_read_lead_to_the_end(tmp_path: Path) -> None:
    log = write(tmp_path, GOOD, GOOD)
    assert [read for read, _ in judged_episodes(log, [])] == [log.stat().st_size // 2, log.stat().st_size]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"Cannot read .*nowhere.jsonl"):
        read(tmp_path / "nowhere.jsonl")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    case = {"query": "a\n\u2028\ud800", "answer": "b", "reference": "", "plan": "c"}
    row = Judged(3, 4, case, "x", {"score": 0.1, "b": math.inf}, {"score": math.nan}, {"solver": -1.0})
    path = tmp_path / "scores.jsonl"
    path.write_text(row.line() * 2, encoding="ascii")
    _, found = judged_cases(path, [])
    assert (found.step, found.index, found.case, found.group, found.returns) == (3, 4, case, "x", row.returns)
    assert found.stored["score"] == 0.1 and math.isnan(found.stored["b"]) and math.isnan(found.new["score"])
    assert found.line() == row.line()


def test_answers_to_one_question_are_one_group() -> None:
    asked = {"query": "1 + 1", "answer": "2"}
    assert group_of(asked, 1, 7) == group_of({**asked, "answer": "3"}, 9, 8) != group_of({"query": "1 + 2"}, 1, 7)
    silent = {"query": "", "answer": "2"}
    assert group_of(silent, 1, 7) != group_of(silent, 1, 8) and group_of(silent, 1, 7) != group_of(silent, 2, 7)
