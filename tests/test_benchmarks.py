"""Every benchmark runs with tiny sizes, prints its table, and writes rows that hold what the table shows."""

from __future__ import annotations

import importlib
import importlib.util
import json
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import PLANS
from benchmarks.breakdown import PARTS
from benchmarks.gpu_rows import MAKERS
from benchmarks.models import SIZES, lengths, make, step
from benchmarks.report import Report, installed, parser
from benchmarks.timing import forget_peak, interleaved, peak_mib
from benchmarks.workers import Worker, WorkerError
from models import native
from models.engine import Engine

QUICK = ("ceilings", "breakdown", "kernels", "scaling", "loop_overhead")
"""Those that need no other process."""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(name: str, file: Path, *more: str) -> dict[str, Any]:
    """The JSON of a benchmark with the words that ``python -m benchmarks --quick`` gives it."""
    words = ["--json", str(file), "--threads", "1", *PLANS[name].quick.split(), *more]
    importlib.import_module(f"benchmarks.{name}").main(words)
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_prints_its_table_and_writes_its_rows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "kernels" and native.compiled() is None:
        pytest.skip("no C compiler, or no kernels for this processor")
    whole = run(name, tmp_path / "x.json")
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert whole["benchmark"] == name and whole["rows"]
    assert len(table) == 2 + len(whole["rows"])
    assert len({line.count("|") for line in table}) == 1 and len({len(line) for line in table}) == 1
    assert whole["machine"]["cpu"] and whole["machine"]["torch"] and whole["machine"]["threads"] == 1
    assert whole["settings"]["threads"] == 1


@pytest.mark.slow
def test_generation_compares_the_same_work(tmp_path: Path) -> None:
    rows = run("generation", tmp_path / "x.json", "--lengths", "equal", "--dtype", "float32", "--repeats", "1")["rows"]
    assert [row["rows"] for row in rows] == [1, 4]
    for row in rows:
        assert row["tokens"] == {"ours": 8 * row["rows"], "hf": 8 * row["rows"]}
        assert row["vs_hf"] == pytest.approx(row["seconds"]["hf"] / row["seconds"]["ours"])


def test_the_parts_of_the_time_are_all_of_it(tmp_path: Path) -> None:
    generation, update = run("breakdown", tmp_path / "x.json")["rows"]
    assert generation["gemm"] > 0 and min(row["operators"] for row in (generation, update)) > 100
    for row in (generation, update):
        parts = [row[part] for part in PARTS]
        assert min(parts) >= 0 and sum(parts) > 0.99  # kernels alone may exceed it where a call was slower in between


@pytest.mark.slow
def test_sides_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    rows = run("update", tmp_path / "x.json", "--sides", "eager", "ours float32", "--steps", "1")["rows"]
    assert [row["side"] for row in rows] == ["eager", "ours float32"]
    assert all(row["seconds"] > 0 and row["peak_mib"] > 100 and row["extra_mib"] >= 0 for row in rows)
    assert rows[1]["vs_eager"] == pytest.approx(rows[0]["seconds"] / rows[1]["seconds"])


@pytest.mark.slow
def test_memory_is_measured_in_a_fresh_process(tmp_path: Path) -> None:
    (row,) = run("memory", tmp_path / "x.json")["rows"]
    assert row["vocab"] == 512 and row["held_mib"] + row["extra_mib"] == pytest.approx(row["peak_mib"])
    assert row["logits_mib"] == pytest.approx(4 * 4 * 512 * 4 / 2**20)


@pytest.mark.slow
def test_a_step_is_measured_against_trl_or_alone(tmp_path: Path) -> None:
    sides = ["ours"] if installed("trl") is None else ["trl_tuned", "ours"]
    whole = run("trl_step", tmp_path / "x.json", "--sides", *sides, "--lengths", "equal", "--isa", "avx2")
    assert [row["side"] for row in whole["rows"]] == sides
    assert all(row["tokens"] == 4 * 8 for row in whole["rows"])
    assert whole["rows"][-1]["facts"]["threads"] == 1
    assert whole["rows"][-1]["facts"]["capability"] == "AVX2"
    if len(sides) > 1:
        speeds = [row["tokens_per_s"] for row in whole["rows"]]
        assert whole["rows"][-1]["vs_trl_tuned"] == pytest.approx(speeds[1] / speeds[0])


@pytest.mark.slow
def test_the_gpu_script_runs_on_a_cpu(tmp_path: Path) -> None:
    (row,) = run("gpu", tmp_path / "x.json", "--rows", "update")["rows"]
    assert row["row"] == "update" and row["tokens"] == 4 * 4 and row["share"] > 0 and row["mfu"] > 0


@pytest.mark.parametrize("row", ["decode", "generate", "update", "step"])
def test_the_gpu_rows_make_all_their_tokens(row: str) -> None:
    settings = {"size": "small", "dtype": "float32", "branch": [2, 2], "prompt": 8, "max_tokens": 4, "learner": {}}
    call, more = MAKERS[row](settings, torch.device("cpu"))
    assert call() == 4 * 4
    assert more(1.0)["dtype"] == "float32"


def test_a_row_without_time_says_so(tmp_path: Path) -> None:
    (row,) = run("gpu", tmp_path / "x.json", "--rows", "decode", "--seconds", "0")["rows"]
    assert row["note"] == "no time was left" and "seconds" not in row


def test_verdicts_are_counted(tmp_path: Path) -> None:
    rows = run("verifiers", tmp_path / "x.json", "--only", "format", "majority")["rows"]
    assert [(row["verifier"], row["cases"], row["judged"]) for row in rows] == [("format", 16, 1), ("majority", 16, 1)]


@pytest.mark.slow
def test_a_step_of_self_play_is_main_py_itself(tmp_path: Path) -> None:
    (row,) = run("selfplay_step", tmp_path / "x.json")["rows"]
    assert row["generate"] + row["judge"] + row["update"] + row["other"] == pytest.approx(1, abs=0.02)
    assert row["tokens_per_s"] > 0


# -- the parts they share --------------------------------------------------------------------------------------------


def test_a_side_that_ends_or_hangs_is_an_error() -> None:
    with pytest.raises(WorkerError, match="ended with status"):
        Worker("benchmarks.no_such_module", {}, threads=1).step()
    with pytest.raises(WorkerError, match="took more than"):
        Worker("benchmarks.update", {"size": "micro"}, threads=1, timeout=0.01).step()


def test_every_side_is_called_the_same_number_of_times() -> None:
    calls: list[str] = []
    found = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warmup=1)
    assert calls == ["a", "b"] * 4 and set(found) == {"a", "b"}
    calls.clear()
    interleaved({"a": lambda: calls.append("a")}, 3, warmup=0, budget=0.0)
    assert calls == ["a"]


def test_the_peak_can_start_anew() -> None:
    with mmap.mmap(-1, 64 << 20) as block:  # not from malloc, which may keep what is freed
        block.write(b"x" * len(block))
        with_block = peak_mib()
    assert forget_peak() < with_block - 32
    assert peak_mib() < with_block - 32


def test_lengths_have_their_mean_and_their_limit() -> None:
    assert lengths(3, 7, None) == [7, 7, 7]
    drawn = lengths(4000, 1000, 8.0)
    assert 7.5 < sum(drawn) / len(drawn) < 8.5 and min(drawn) == 1
    assert max(lengths(4000, 16, 8.0)) == 16


@pytest.mark.parametrize(("mean", "expected"), [(None, 0.0), (4.0, 0.25)])
def test_the_end_token_has_the_chance_that_the_mean_asks_for(mean: float | None, expected: float) -> None:
    model, tokenizer = make(SIZES["micro"], mean)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "w1 w2"}], return_tensors="pt", return_dict=False)
    with torch.no_grad():
        chance = float(model(ids).logits[0, -1].softmax(-1)[tokenizer.eos_token_id])
    assert chance == pytest.approx(expected, rel=0.25, abs=1e-9)


def test_a_fabricated_step_has_what_a_rollout_gives() -> None:
    engine = Engine(*make(SIZES["micro"], None), name="micro")
    episodes = step(64, 5, [3, 2, 4, 1], 2, engine)
    said = [episode.turns[0].action.completion for episode in episodes]
    assert [len(completion.token_ids) for completion in said] == [3, 2, 4, 1]
    assert said[0].prompt_ids == said[1].prompt_ids != said[2].prompt_ids
    with torch.no_grad():
        logprobs_BT, mask_BT = engine.logprobs(said)
    assert logprobs_BT[mask_BT].tolist() == pytest.approx([x for c in said for x in c.logprobs], abs=1e-5)


def test_what_json_does_not_know_becomes_null(tmp_path: Path) -> None:
    options = parser("Doc.").parse_args(["--json", str(tmp_path / "x.json"), "--threads", "1"])
    report = Report("x", "X", {"a": ("a", ".1f"), "b": ("b", "")}, options)
    report.add(a=float("nan"), b=None)
    report.finish()
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [{"a": None, "b": None}]


def test_the_list_of_all_benchmarks_is_whole() -> None:
    for name in PLANS:
        assert importlib.util.find_spec(f"benchmarks.{name}") is not None
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(name in done.stdout for name in PLANS)
