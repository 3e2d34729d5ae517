"""The sandbox as a whole: batches, threads, deadlines, workers that are lost, forks, back ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from selfplay.deadline import DeadlinePassed, deadline
from tests.sandboxes import ADD, BACKENDS, QUICK, ROOT, opened
from verifiers.sandbox import Program, Report, Sandbox, SandboxUnavailable, backends, probe

sandbox = pytest.fixture(scope="module", params=BACKENDS)(opened)


# -- batches, threads, deadlines -------------------------------------------------------------------------------------


def test_results_come_in_order() -> None:
    with Sandbox(workers=2) as sandbox:
        assert sandbox.run_many([]) == []
        slow = "import time\ndef f(n):\n    time.sleep(0.3 if n % 5 == 0 else 0)\n    return n\n"
        results = sandbox.run_many([Program(slow, "f", ([n],)) for n in range(20)])
        assert [result.values for result in results] == [(n,) for n in range(20)]


def test_threads_share_the_workers() -> None:
    with Sandbox(workers=2) as sandbox:
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda n=n: found.append(sandbox.run(ADD, "add", [[n, 1]]).values))
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [(n,) for n in range(1, 7)]


def test_the_same_program_says_the_same_again(sandbox: Sandbox) -> None:
    source = "import random\ndef f():\n    return [random.random(), hash('text'), list({'a', 'b', 'c'})]\n"
    assert len({repr(sandbox.run(source, "f", [[]]).values) for _ in range(3)}) == 1


def test_a_deadline_ends_a_call(sandbox: Sandbox) -> None:
    sleep = Program("import time\ntime.sleep(60)\n")
    with pytest.raises(DeadlinePassed), deadline(0.5):
        sandbox.run_many([sleep] * 4)
    assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,)


@pytest.mark.parametrize(
    "program",
    [Program(ADD, inputs=([1, 2],)), Program(ADD, "add", (1,)), Program(ADD, tests="assert True")],
    ids=["a script with arguments", "an input that is no list", "tests of no function"],
)
def test_a_program_that_makes_no_sense_is_refused(sandbox: Sandbox, program: Program) -> None:
    with pytest.raises(ValueError, match=r"function|text|arguments"):
        sandbox.run_many([program])
    assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,)


# -- workers ---------------------------------------------------------------------------------------------------------


def gone(pids: set[int]) -> bool:
    """Whether the kernel has taken these processes down, within 10 s."""
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and state(pid) != "Z" for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def below(pid: int) -> set[int]:
    """Descendants of a process."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_close_leaves_nothing() -> None:
    before = below(os.getpid())
    sandbox = Sandbox(workers=2)
    sandbox.run_many([Program(ADD, "add", ([1, 2],))] * 4)
    started = below(os.getpid()) - before
    assert len(started) >= 2
    sandbox.close()
    assert gone(started)
    assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,), "a closed sandbox starts again"
    started = below(os.getpid()) - before
    del sandbox
    assert gone(started), "a sandbox that nobody holds ends its workers"


def test_a_killed_worker_is_replaced_and_its_program_tried_again() -> None:
    with Sandbox(workers=1) as sandbox:
        (worker,) = sandbox.pids
        killer = threading.Timer(0.5, os.kill, (worker, signal.SIGKILL))
        killer.start()
        result = sandbox.run("import time\ndef f():\n    time.sleep(1.5)\n    return 7\n", "f", [[]])
        killer.join()
        assert (result.outcome, result.values) == ("pass", (7,))
        assert worker not in sandbox.pids


_TRAINER = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from verifiers.sandbox import Sandbox
sandbox = Sandbox(workers=1)
sandbox.run("def f(): return 1", "f", [[]])
if sys.argv[1] == "fork" and os.fork():
    print("ready", flush=True)
    os.wait()
    print(sandbox.run("def f(): return 2", "f", [[]]).values, flush=True)
elif sys.argv[1] == "fork":
    assert sandbox.run("def f(): return 3", "f", [[]]).values == (3,)
    sandbox.close()
    os._exit(0)
else:
    print("ready", flush=True)
    sandbox.run("import time; time.sleep(600)")
"""


def test_a_killed_trainer_leaves_nothing() -> None:
    trainer = subprocess.Popen([sys.executable, "-c", _TRAINER, "sleep"], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None and trainer.stdout.readline() == "ready\n"
    time.sleep(0.5)
    started = below(trainer.pid)
    assert len(started) >= 2
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    assert gone(started)


def test_a_fork_has_workers_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRAINER, "fork"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ready\n(2,)\n" and done.stderr == ""


# -- back ends -------------------------------------------------------------------------------------------------------


def test_auto_takes_the_strongest_that_holds() -> None:
    holding = [report.backend for report in probe() if report.holds]
    if not holding:
        pytest.skip("no back end holds here")
    with Sandbox(workers=1) as sandbox:
        assert sandbox.backend == holding[0]
    assert [report.backend for report in probe()] == list(backends.SAFE)
    about = backends.BACKENDS
    assert all(report.attacks and report.reason == about[report.backend].about for report in probe() if report.holds)


def test_a_back_end_that_does_not_hold_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="'nothing' is unknown"):
        Sandbox("nothing")
    report = Report("bwrap", False, "bwrap is not installed")
    if probe(["bwrap"])[0] == report:
        with pytest.raises(SandboxUnavailable, match=r"^no sandbox holds .*bwrap is not installed") as refusal:
            Sandbox("bwrap")
        assert "\n" not in str(refusal.value)


def test_the_probe_sees_through_a_back_end_that_does_not_hold() -> None:
    """The attacks are real: where nothing stops them they come through."""
    report = probe(["unsafe_local"])[0]
    assert not report.holds and "was not stopped" in report.reason


def test_unsafe_local_warns(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox("unsafe_local", workers=1) as sandbox:
        assert "unsafe_local" in caplog.text
        assert sandbox.backend == "unsafe_local"
        assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,)
        assert sandbox.run("while True: pass", limits=QUICK).outcome == "timeout_cpu"
