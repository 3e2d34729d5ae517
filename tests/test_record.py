"""The record: valid JSON whatever comes, equal bytes for equal runs, resumable, readable by TensorBoard."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfplay.curves import compare, draw
from selfplay.record import Recorder, RecordError, Stopwatch, log_files, read
from selfplay.types import Action, Completion, Episode, Turn

NAN = float("nan")


def strict(line: str) -> object:
    """Parse as the JSON standard does: NaN and Infinity are errors."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def episode(answer: str = "4", score: float = 1.0) -> Episode:
    sampled = Completion(answer, (1, 2), (3, 4, 5), (-0.1, -0.2, -0.3), "stop")
    turns = (
        Turn("challenger", "challenger_0", {"system": "Ask.", "user": ""}, Action("2+2?"), 0),
        Turn("solver", "solver_0", {"system": "", "user": "2+2?"}, Action(answer, sampled), 1),
        Turn("verifier", "verifier_0", {"query": "2+2?", "answer": answer}, Action({"score": score}), 2),
    )
    case = {"query": "2+2?", "answer": answer, "reference": ""}
    return Episode(turns, {"challenger": -score, "solver": score}, case, {"score": score})


def test_the_gate_has_a_log_of_its_own_where_there_is_one(tmp_path: Path) -> None:
    refused = {"query": "2+2?\n", "admitted": False, "reason": "easy", "solve_rate": 1.0, "similarity": NAN}
    with Recorder(tmp_path / "run", tensorboard=False, gated=True) as recorder:
        recorder.step(0, {}, [], {})
        recorder.step(1, {}, [], {}, [refused, {"query": "3+3?"}])
    assert recorder.logs == log_files(tmp_path / "run", gated=True) and recorder.logs[3].name == "gate.jsonl"
    first, second = map(strict, recorder.logs[3].read_text().splitlines())
    assert first == {"step": 1, **refused, "similarity": None} and second == {"step": 1, "query": "3+3?"}


def test_one_line_per_step_and_per_episode(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", tensorboard=False) as recorder:
        recorder.step(1, {"reward/solver": 0.1, "loss": 2}, [episode(), episode("5", 0.0)], {"total": 1.5})
        assert [log.name for log in recorder.logs] == ["metrics.jsonl", "episodes.jsonl", "timings.jsonl"]
    metrics, episodes, timings = (log.read_text() for log in recorder.logs)
    assert metrics == '{"step": 1, "loss": 2, "reward/solver": 0.1}\n'
    assert timings == '{"step": 1, "total": 1.5}\n'
    first, second = map(strict, episodes.splitlines())
    assert isinstance(first, dict) and isinstance(second, dict)
    assert list(first) == ["step", "index", "turns", "case", "verdict", "returns", "forfeit"]
    assert first["turns"] == [
        {"role": "challenger", "seat": "challenger_0", "observation": {"system": "Ask.", "user": ""}, "move": "2+2?",
         "group": 0, "tokens": None, "finish": None},
        {"role": "solver", "seat": "solver_0", "observation": {"system": "", "user": "2+2?"}, "move": "4",
         "group": 1, "tokens": 3, "finish": "stop"},
        {"role": "verifier", "seat": "verifier_0", "observation": {"query": "2+2?", "answer": "4"},
         "move": {"score": 1.0}, "group": 2, "tokens": None, "finish": None},
    ]  # fmt: skip
    assert (first["index"], second["index"], second["returns"]) == (0, 1, {"challenger": 0.0, "solver": 0.0})


@settings(max_examples=60, deadline=None)
@given(
    metrics=st.dictionaries(st.text().filter(lambda name: name != "step"), st.floats() | st.integers(), max_size=4),
    answer=st.text(st.characters()) | st.sampled_from(["\ud800", "a\u2028b\x85c\x1b[2J\n"]),
    score=st.floats(),
)
def test_every_number_and_every_text_survives(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], answer: str, score: float
) -> None:
    with Recorder(tmp_path_factory.mktemp("run"), tensorboard=False) as recorder:
        recorder.step(3, metrics, [episode(answer, score)], {})
    raw = recorder.logs[0].read_bytes() + recorder.logs[1].read_bytes()
    assert raw.isascii() and raw.count(b"\n") == 2
    strict(raw.split(b"\n")[0].decode())
    (row,), (line,) = read(recorder.logs[0]), read(recorder.logs[1])
    assert row == {"step": 3, **{name: value if math.isfinite(value) else None for name, value in metrics.items()}}
    assert line["case"]["answer"] == line["turns"][1]["move"] == answer
    assert line["verdict"]["score"] == (score if math.isfinite(score) else None)


def test_the_order_of_the_metrics_does_not_show(tmp_path: Path) -> None:
    for name, metrics in (("a", {"loss": 1.0, "kl/solver": NAN}), ("b", {"kl/solver": NAN, "loss": np.float32(1)})):
        with Recorder(tmp_path / name, tensorboard=False) as recorder:
            recorder.step(1, metrics, [episode()], {})
    for log in ("metrics.jsonl", "episodes.jsonl"):
        assert (tmp_path / "a" / log).read_bytes() == (tmp_path / "b" / log).read_bytes()


def test_resume_appends_and_refuses_half_a_line(tmp_path: Path) -> None:
    for step in (1, 2):
        with Recorder(tmp_path, tensorboard=False, episodes_every=2) as recorder:
            recorder.step(step, {"loss": 0.5}, [episode()], {})
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [1, 2]
    assert [row["step"] for row in read(tmp_path / "episodes.jsonl")] == [2]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    with pytest.raises(RecordError, match=r"metrics\.jsonl ends in the middle of a line"):
        Recorder(tmp_path, tensorboard=False)


def test_a_step_is_on_file_before_the_recorder_is_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, tensorboard=False)
    recorder.step(1, {"loss": 0.5}, [episode()], {"total": 1.0})
    assert [len(read(log)) for log in recorder.logs] == [1, 1, 1]
    recorder.flush()
    recorder.close()
    recorder.close()


def test_tensorboard_reads_it_and_forgets_what_a_killed_run_wrote_too_much(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def scalars(name: str) -> list[tuple[int, float]]:
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        return [(event.step, event.value) for event in events.Scalars(name)]

    before = time.time()
    with Recorder(tmp_path) as recorder:
        for step in (1, 2, 3):
            recorder.step(step, {"loss": step / 4}, [], {"generate": 8.0})
    assert scalars("loss") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert scalars("timings/generate") == [(1, 8.0), (2, 8.0), (3, 8.0)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert all(before <= event.wall_time <= time.time() for event in events.Scalars("loss"))
    with Recorder(tmp_path) as recorder:  # the checkpoint was of step 1
        recorder.step(2, {"loss": 0.125}, [], {})
    assert scalars("loss") == [(1, 0.25), (2, 0.125)]


def test_the_summary_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with Recorder(tmp_path, tensorboard=False) as recorder:
        recorder.summary({"steps": 1})
        path = recorder.summary({"steps": np.int64(2), "heldout": {"last": NAN, "all": (0.5, 0.25)}})
        with pytest.raises(RecordError, match="not set"):
            recorder.summary({"roles": {"solver"}})
    assert strict(path.read_text()) == {"steps": 2, "heldout": {"last": None, "all": [0.5, 0.25]}}
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(("s", "."))) == ["summary.json"]


def test_bad_input_is_named(tmp_path: Path) -> None:
    with Recorder(tmp_path, tensorboard=False) as recorder:
        with pytest.raises(RecordError, match="'loss': 'low' as a number"):
            recorder.step(1, {"loss": "low"}, [], {})  # type: ignore[dict-item]
        with pytest.raises(RecordError, match="'step': 4"):
            recorder.step(1, {"step": 4}, [], {})
    assert read(recorder.logs[0]) == []
    with pytest.raises(RecordError, match="episodes_every must be at least 1, not 0"):
        Recorder(tmp_path, tensorboard=False, episodes_every=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"Cannot use .*run for the record: .*file.*\.$"):
        Recorder(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ('{"a": 1}\n\n{"a": 2}\n', "line 2 is not JSON"),
        ('{"a": 1}\n[]\n', "line 2 is not a JSON object"),
        ('{"a": 1}\n{"a": 2}', "line 2 has no end of line"),
        ("\n", "line 1 is not JSON"),
    ],
)
def test_read_names_file_and_line(tmp_path: Path, raw: str, fault: str) -> None:
    (tmp_path / "m.jsonl").write_text(raw)
    with pytest.raises(RecordError, match=rf"m\.jsonl, {fault}"):
        read(tmp_path / "m.jsonl")


def test_read_takes_an_empty_file_but_not_an_absent_one(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("")
    assert read(tmp_path / "m.jsonl") == []
    with pytest.raises(RecordError, match=r"absent\.jsonl.*No such file"):
        read(tmp_path / "absent.jsonl")


def test_stopwatch_counts_every_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock moves 1 s per reading: start 0, enter 1, 2, leave 3, 4, lap 5; so other 1 + 1, a 1 + 1, b 1."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    watch = Stopwatch()
    with watch("a"), watch("b"):
        pass
    assert watch.lap() == {"other": 2.0, "a": 2.0, "b": 1.0, "total": 5.0}
    with pytest.raises(KeyError), watch("a"):
        raise KeyError
    assert watch.lap() == {"other": 2.0, "a": 1.0, "total": 3.0}
    with pytest.raises(ValueError, match="'total'"), watch("total"):
        pass


def test_stopwatch_books_metered_work_on_the_phase_that_did_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings of the clock are 1 s apart. The meter is read at 0 (what was done before the run: dropped), when "a"
    opens (0.25, other), when "b" opens inside it (0.5, a), when "b" ends (0.125, b), when "a" ends (0.25, a), and at
    the lap (0). So a has (0.5 + 0.25) of 2 s, b 0.125 of 1 s, other 0.25 of 2 s."""
    ticks, done = iter(range(100)), iter([9.0, 0.25, 0.5, 0.125, 0.25, 0.0, 0.0])
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    watch = Stopwatch(lambda: next(done))
    with watch("a"), watch("b"):
        pass
    shares = {"roofline/other": 0.125, "roofline/a": 0.375, "roofline/b": 0.125}
    assert watch.lap() == {"other": 2.0, "a": 2.0, "b": 1.0, "total": 5.0, **shares}
    assert watch.lap() == {"other": 1.0, "total": 1.0}, "no work, no share"


def picture_size(path: Path) -> tuple[int, int]:
    raw = path.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


def test_curves_draw_the_panels_that_have_numbers(tmp_path: Path) -> None:
    with Recorder(tmp_path, tensorboard=False) as recorder:
        recorder.step(0, {"eval/heldout_accuracy": 0.25}, [], {})
    one_panel = picture_size(draw(tmp_path))
    with Recorder(tmp_path, tensorboard=False) as recorder:
        recorder.step(1, {"reward/solver": 0.5, "kl/solver": NAN}, [], {})  # no KL panel: it has no value
    two_panels = picture_size(draw(tmp_path))
    assert two_panels == (2 * one_panel[0], one_panel[1])


def test_curves_without_a_number_are_an_error(tmp_path: Path) -> None:
    with Recorder(tmp_path, tensorboard=False) as recorder:
        recorder.step(1, {"loss": 0.5, "kl/solver": NAN}, [], {})
    with pytest.raises(ValueError, match=r"metrics\.jsonl holds none"):
        draw(tmp_path)


def test_compare_draws_seeds_and_names_what_is_missing(tmp_path: Path) -> None:
    for seed, metrics in enumerate(({"loss": 1.0}, {"loss": 3.0}, {"kl/solver": 1.0})):
        with Recorder(tmp_path / str(seed), tensorboard=False) as recorder:
            recorder.step(1, metrics, [], {})
    runs = {"ours": [tmp_path / "0", tmp_path / "1"], "other": [tmp_path / "2"]}
    wide = picture_size(compare(runs, tmp_path / "both.png", ["loss", "kl/solver"]))
    narrow = picture_size(compare(runs, tmp_path / "one.png", ["loss"]))
    assert wide == (2 * narrow[0], narrow[1])
    with pytest.raises(ValueError, match="'los'; the nearest is 'loss'"):
        compare(runs, tmp_path / "x.png", ["los"])
    with pytest.raises(ValueError, match="'mixed' have no step in common"):
        compare({"mixed": [tmp_path / "0", tmp_path / "2"]}, tmp_path / "x.png", ["loss"])
    assert not (tmp_path / "x.png").exists()
