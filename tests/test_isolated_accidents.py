"""Accidents of a verifier's own process: what it leaves behind, reads, never says, cannot keep."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import isolated_zoo
from tests.test_isolated import alive, cases, make, scores
from tests.test_worker import ended
from verifiers.isolated import Isolated, Remembering
from verifiers.panel import Panel, VerifierFailed
from verifiers.worker import MAX_LOG


@pytest.mark.parametrize("gives", ["mapping", "set", "bytes"])
def test_what_has_no_order_or_only_looks_like_numbers_is_no_list_of_scores(gives: str) -> None:
    """The keys of a mapping are numbers here, and so are bytes: neither is what the verifier thinks of a case."""
    for verifier in (make("Gives"), isolated_zoo.Gives()):
        panel = Panel(score=verifier)
        assert all(map(math.isnan, scores(panel, gives, gives)))
        assert panel.metrics()["verifiers/score/wrong_count"] == 1
        panel.close()


def test_a_worker_that_ends_is_noticed_and_leaves_no_child(tmp_path: Path) -> None:
    """The child holds the reply pipe open, so the worker's end is not seen there; the deadline is not waited for."""
    note = tmp_path / "child"
    panel = Panel(score=make("Does"), deadline=100.0)
    assert math.isnan(scores(panel, f"leave {note}")[0])
    assert panel.metrics()["verifiers/score/died"] == 1
    assert ended([int(note.read_text())])
    panel.close()


def test_a_program_that_it_starts_cannot_take_a_request() -> None:
    panel = Panel(score=make("Does"), deadline=60.0)
    assert scores(panel, "read") == [0.0], "there is nothing to read"
    assert scores(panel, "a") == [1.0]
    panel.close()


def test_the_end_of_the_trainer_ends_a_call_under_way() -> None:
    code = """
        import threading, time
        from tests.test_isolated import cases, make
        verifier = make("Does")
        threading.Thread(target=verifier, args=[cases("sleep")], daemon=True).start()
        time.sleep(0.5)
        print(*verifier._worker.pids, flush=True)
        time.sleep(1e6)
    """
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=root, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(pids) == 1 and alive(pids[0])
        trainer.kill()
    assert ended(pids)


def test_metrics_that_never_come_cost_a_deadline_and_no_score() -> None:
    panel = Panel(score=make("Metrics"), deadline=2.0)
    for _ in range(2):
        assert scores(panel, "a") == [1.0]
        assert panel.metrics()["verifiers/score/metrics_failed"] == 1
    panel.close()


def test_a_state_that_cannot_be_saved_names_the_verifier(tmp_path: Path) -> None:
    verifier = make("CannotSave")
    assert isinstance(verifier, Remembering)
    with pytest.raises(VerifierFailed, match="CannotSave cannot save its state: ValueError: what was seen"):
        verifier.save(tmp_path)
    verifier.close()


def test_what_it_prints_takes_no_more_than_a_log() -> None:
    """Ten calls print 12 bytes more than a tenth of the bound each: the log is forgotten and does not grow."""
    verifier = Isolated({"_target_": "tests.isolated_zoo.Prints", "number": MAX_LOG // 10 + 12}, ["tests"])
    sizes: list[int] = []
    for _ in range(25):
        assert verifier(cases("a")) == [1.0]
        (process,) = verifier._worker._processes
        sizes.append(Path(f"/proc/{process.child.pid}/fd/2").stat().st_size)
    assert max(sizes) <= MAX_LOG and sizes[-1] < sizes[8]
    verifier.close()
