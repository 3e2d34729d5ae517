"""Differences over seeds and within one, and the tables of the benchmarks that compare runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import methods, runs
from benchmarks.pages import put, table
from benchmarks.paired import STUDENT_T, Difference, difference, half_width

COLUMNS = {"name": ("run", ""), "score": ("score", ".3f")}


def test_a_half_width_is_students() -> None:
    assert half_width([0.5]) is None
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)
    assert half_width([1.0, 2.0] * 10) == pytest.approx(STUDENT_T[10] * 0.512989 / 20**0.5, rel=1e-5)


def test_what_a_seed_has_of_its_own_falls_out() -> None:
    """Starts that lie far apart hide nothing: every seed gained about 0.1."""
    gain = difference([0.31, 0.60, 0.79], [0.2, 0.5, 0.7])
    assert gain.mean == pytest.approx(0.1) and gain.half == pytest.approx(4.303 * 0.01 / 3**0.5)
    assert gain.word == "up" and str(gain) == "+0.100 +- 0.025"
    assert difference([0.2, 0.5, 0.7], [0.31, 0.60, 0.79]).word == "down"
    assert difference([0.31, 0.4, 0.79], [0.2, 0.5, 0.7]).word == "no"


def test_a_single_seed_has_the_intervals_of_its_exams() -> None:
    exams = ((0.37, 0.43), (0.31, 0.39))
    assert difference([0.4], [0.35], exams) == Difference(pytest.approx(0.05), pytest.approx(0.05))
    assert difference([0.41], [0.35], exams).word == "up"
    assert difference([0.41], [0.35]).word == "-" and str(difference([0.41], [0.35])) == "+0.060"
    assert difference([0.5, 0.5], [0.4, 0.4], exams).half == 0  # of two seeds the exams have no say


# -- the table of a page ---------------------------------------------------------------------------------------------


def test_a_table_comes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n", encoding="utf-8")
    for score in (0.5, None):  # twice: what is there is replaced
        put(page, "x", COLUMNS, [{"name": "a", "score": score}, {"name": "b", "score": 0.25}])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- x -->\nMade by `python -m benchmarks.x` on 2")
    assert text.endswith("\n\n| run | score |\n|---|---:|\n| a | - |\n| b | 0.250 |\n<!-- /x -->\nafter\n")
    assert "old" not in text and text.count("<!--") == 2
    assert table(COLUMNS, [{"name": "a", "score": None}])[1] == "|---|---|"


@pytest.mark.parametrize("text", ["nothing", "<!-- x -->\n", "<!-- x -->\n<!-- x -->\n<!-- /x -->"])
def test_a_page_without_its_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "x.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="once each"):
        put(page, "x", COLUMNS, [])
    assert page.read_text(encoding="utf-8") == text


# -- runs in folders -------------------------------------------------------------------------------------------------


def test_a_run_is_begun_once_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, told = tmp_path / "x", list[tuple[str, ...]]()

    def command(*words: str) -> None:
        told.append(words)
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").touch()
        (folder / "summary.json").write_text(json.dumps({"finished": len(told) > 1}))

    monkeypatch.setattr(runs, "command", command)
    with pytest.raises(SystemExit, match="was stopped before its end"):
        runs.complete(folder, ["steps=3"])
    assert runs.complete(folder, ["steps=3"]) == {"finished": True}
    assert runs.complete(folder, ["steps=3"]) == {"finished": True}
    assert told == [("steps=3", f"run_dir={folder}", *runs.LEAN), (f"resume={folder}", "runtime.threads=1")]
    with pytest.raises(SystemExit, match="a run of other settings"):
        runs.complete(folder, ["steps=4"])


def test_the_newest_checkpoint_is_that_of_the_last_step(tmp_path: Path) -> None:
    for name in ("9", "10", "tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert runs.checkpoint(tmp_path).name == "10"
    with pytest.raises(SystemExit, match="has no checkpoint"):
        runs.checkpoint(tmp_path / "no")


# -- methods ---------------------------------------------------------------------------------------------------------


def seed(start: float, end: float, wins: float | None) -> dict[str, Any]:
    score = {"start": start, "end": end, "ci95": [end - 0.02, end + 0.02], "greedy": {"start": 0.9, "end": 0.8}}
    before = (start - 0.02, start + 0.02)
    rest = {"steps": 3, "tokens": 4.0, "seconds": 5.0, "wins": wins, "before_ci95": before}
    return {"heldout_accuracy": score, **rest}


def test_a_line_of_the_methods_says_what_changed() -> None:
    line = methods.summed([seed(0.3, 0.34, 0.6), seed(0.4, 0.45, 0.7)])
    assert line["before"] == pytest.approx(0.35) and line["least"] == 0.34 and line["wins"] == pytest.approx(0.65)
    assert line["changed"] == "no"  # two seeds and 0.045 +- 0.064
    assert methods.summed([seed(0.3, 0.32, None)])["changed"] == "no"
    alone = methods.summed([seed(0.3, 0.34, None)])
    assert alone["changed"] == "up" and alone["spread"] is None and alone["wins"] is None
    assert set(methods.COLUMNS) - {"method"} <= set(alone)


@pytest.mark.slow
def test_a_model_wins_half_of_the_duels_with_itself(tmp_path: Path) -> None:
    words = ["experiment=grpo", "seed=0", "steps=1", "branch.challenger=2", "exam.path=null", "lr=0"]
    runs.complete(tmp_path / "start", words)
    assert methods.win_rate(tmp_path / "start", "tiny", 0, 200) == pytest.approx(0.5, abs=0.06)
