"""Who slept, and who was kept waiting: by a loaded machine, by its own tests, by a trainer that was busy or stopped."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from inspect import signature

import pytest

from tests.sandboxes import ADD, BACKENDS, ROOT, opened
from verifiers.panel import Panel
from verifiers.sandbox import Limits, Program, Sandbox
from verifiers.sandbox.run import Run

sandbox = pytest.fixture(scope="module", params=BACKENDS)(opened)

BRIEF = Limits(cpu_s=2.0, wall_s=60.0, idle_s=0.5)


# -- sleep -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(60)\n",
        "import time\nfor _ in range(1000): time.sleep(0.06)\n",
        "import threading\nthreading.Event().wait()\n",
        "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass\ntime.sleep(60)\n",
    ],
    ids=["at once", "often", "in a lock", "after work"],
)
def test_who_sleeps_is_ended_long_before_the_backstop(sandbox: Sandbox, source: str) -> None:
    began = time.monotonic()
    result = sandbox.run(source, limits=BRIEF)
    assert (result.outcome, result.detail) == ("timeout_cpu", "it slept for 0.5 s")
    assert time.monotonic() - began < BRIEF.backstop / 2


def test_who_works_is_left_alone(sandbox: Sandbox) -> None:
    work = "import time\nuntil = time.process_time() + 1\nwhile time.process_time() < until: pass\n"
    assert sandbox.run(f"{work}time.sleep(0.2)\n", limits=BRIEF).outcome == "pass"


def test_a_batch_of_sleepers_ends_before_the_deadline_of_a_panel() -> None:
    """By default 64 programs that use up their CPU time and then sleep, on two workers."""
    limits, deadline = Limits(), signature(Panel).parameters["deadline"].default
    assert limits.idle == 4.0 and Limits(cpu_s=0.5).idle == 3.0 and Limits(idle_s=1.0).idle == 1.0
    assert 64 / 2 * (limits.cpu_s + limits.idle) < deadline
    with pytest.raises(ValueError, match="idle_s must be above 0"):
        Limits(idle_s=0)


# -- two jails -------------------------------------------------------------------------------------------------------


def test_tests_that_wait_for_work_do_not_sleep(sandbox: Sandbox) -> None:
    work = "import time\ndef f(x):\n    until = time.process_time() + 1\n    while time.process_time() < until: pass\n"
    assert sandbox.run(work, "f", tests="assert f(1) is None\n", limits=BRIEF).outcome == "pass"


def test_calls_that_cross_are_no_sleep(sandbox: Sandbox) -> None:
    """What each of them waits for the trainer, in which other threads may run, is more than the two may sleep."""
    tests = "assert [add(n, 1) for n in range(2000)] == list(range(1, 2001))\n"
    assert sandbox.run(ADD, "add", tests=tests, limits=Limits(idle_s=0.1, wall_s=60)).outcome == "pass"


@pytest.mark.parametrize(
    ("solution", "tests"),
    [("import time\ndef add(a, b):\n    time.sleep(60)\n", "add(1, 2)\n"), (ADD, "import time\ntime.sleep(60)\n")],
)
def test_a_pair_that_sleeps_is_ended(sandbox: Sandbox, solution: str, tests: str) -> None:
    result = sandbox.run(solution, "add", tests=tests, limits=BRIEF)
    assert (result.outcome, result.detail) == ("timeout_cpu", "tests: it slept for 0.5 s")


# -- the trainer -----------------------------------------------------------------------------------------------------

_TRAINER = f"""
import os, sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
from verifiers.sandbox import Limits, Sandbox
if sys.argv[2] == "folders":
    import tempfile
    tempfile._candidate_tempdir_list = lambda: []
sandbox = Sandbox(sys.argv[1], workers=1)
sandbox.run("def f(): return 1", "f", [[]])

def feed():
    text = "x" * (1 << 21)
    source = "import sys, time; time.sleep(0.5); print(len(sys.stdin.read()))"
    print(sandbox.run(source, inputs=[text], limits=Limits(idle_s=2.0)), flush=True)

if sys.argv[2] == "fork":
    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(0.25)
    if not os.fork():
        time.sleep(60)
        os._exit(0)
    thread.join()
    os._exit(0)
elif sys.argv[2] == "stop":
    solution = "import time\\ndef f(x):\\n    time.sleep(0.01)\\n    return x\\n"
    tests = "for n in range(100): assert f(n) == n\\n"
    print("ready", flush=True)
    print(sandbox.run(solution, "f", tests=tests, limits=Limits(idle_s=1.0)), flush=True)
else:
    print(sandbox.run("print(7)"), flush=True)
"""


@pytest.fixture
def trainer(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A trainer of its own, which does what the parameter says and prints the result."""
    words = [sys.executable, "-W", "ignore", "-c", _TRAINER, sandbox.backend, request.param]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    yield process
    os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, and so its group's number is its own
    process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("trainer", ["fork"], indirect=True)
def test_a_fork_of_the_trainer_does_not_hold_a_programs_stdin(trainer: subprocess.Popen[str]) -> None:
    told = line(trainer)
    assert "outcome='pass'" in told and "stdout='2097152\\n'" in told


@pytest.mark.parametrize("trainer", ["stop"], indirect=True)
def test_who_waits_for_a_stopped_trainer_does_not_sleep(trainer: subprocess.Popen[str]) -> None:
    assert line(trainer) == "ready\n"
    time.sleep(0.4)
    os.kill(trainer.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(trainer.pid, signal.SIGCONT)
    assert "outcome='pass'" in line(trainer)


@pytest.mark.parametrize("trainer", ["folders"], indirect=True)
def test_no_folder_for_temporary_files_is_needed(trainer: subprocess.Popen[str]) -> None:
    assert "outcome='pass'" in line(trainer)


def test_a_run_that_finds_no_descriptors_leaves_none() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,)
        before = count()
        free = os.dup(0)
        os.close(free)
        for more in (3, 4, 5):  # after the first pipe, the second, half of the third
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    sandbox.run_many([Program(ADD, "add", ([1, 2],))])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,)
            assert count() == before


def test_a_line_that_comes_byte_by_byte_costs_its_length() -> None:
    """A byte late in a long line costs what an early one does."""
    run = Run(0, {"mode": "call", "inputs": [[]]}, b"", Limits())
    run.ends[2], pipe = os.pipe()
    os.set_blocking(run.ends[2], False)

    def feed(parts: list[bytes]) -> float:
        began = time.process_time()
        for part in parts:
            os.write(pipe, part)
            run.read()
        return time.process_time() - began

    early = feed([b'r\nc\nv "', *[b"x"] * 10_000])
    feed([b"x" * 10_000] * 100)
    late = feed([*[b"x"] * 10_000, b'"\n'])
    os.close(pipe)
    run.close()
    assert run.fault is None and run.values == ["x" * 1_020_000]
    assert late < 4 * early
