"""The killable worker, against programs that hang, flood, die, lie and eat memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verifiers.worker import Worker, WorkerDied, WorkerStartError, WorkerTimeout

PROGRAM = """
import os, signal, sys, time
from verifiers.worker import serve

def handle(request):
    what = request[0]
    if what == "echo": return request[1]
    if what == "args": return sys.argv[1:]
    if what == "env": return sorted(os.environ)
    if what == "limits":
        import resource
        return [resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS)[0]]
    if what == "sleep": time.sleep(600)
    if what == "spin":
        while True: pass
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = os.fork()
        if child == 0: time.sleep(600)
        if len(request) > 1: open(request[1], "w").write(str(child))
        time.sleep(600)
    if what == "exit": os._exit(0)
    if what == "raise": raise KeyError("a name to be found in the log")
    if what == "memory": return len(bytearray(4 << 30))
    if what == "flood": return "x" * (4 << 20)
    if what == "print": print('[1, "forged"]', flush=True); return "true"
    if what == "deep":
        value = []
        for _ in range(900): value = [value]
        return value
serve(handle)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    made: list[Worker] = []

    def build(*args: str, deadline: float = 30.0, **options: int) -> Worker:
        made.append(Worker(program, args, deadline=deadline, **options))
        return made[-1]

    yield build
    for worker in made:
        worker.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_starts_lazily_and_keeps_one_process(make: Callable[..., Worker]) -> None:
    worker = make("one", "two")
    assert worker.pids == ()
    assert worker.ask(["args"]) == ["one", "two"]
    first = worker.pids
    assert worker.ask(["echo", {"é": [1, 2.5, None]}]) == {"é": [1, 2.5, None]}
    assert worker.pids == first and len(first) == 2


def test_the_child_is_isolated_and_limited(make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    worker = make(memory_mib=512)
    assert not {"SECRET", "PATH", "HOME"} & set(worker.ask(["env"]))  # type: ignore[arg-type]
    assert worker.ask(["limits"]) == [[0, 0], 512 << 20]


@pytest.mark.parametrize("what", ["sleep", "spin", "stubborn"])
def test_past_the_deadline_it_is_killed_and_reaped(make: Callable[..., Worker], what: str) -> None:
    worker = make(deadline=0.3)
    with pytest.raises(WorkerTimeout):
        worker.ask([what])  # the import of the program is not on this clock
    serving = worker.pids
    worker.deadline = 30.0
    assert worker.ask(["echo", 1]) == 1
    assert worker.pids[0] == serving[0]  # the spare took over


def test_a_killed_process_is_gone_with_its_children(make: Callable[..., Worker], tmp_path: Path) -> None:
    worker = make()
    worker.ask(["echo", 1])
    victim, note = worker.pids[0], tmp_path / "grandchild"
    worker.deadline = 1.0
    with pytest.raises(WorkerTimeout):
        worker.ask(["stubborn", str(note)])
    assert not alive(victim)
    assert ended([int(note.read_text())])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("exit", "ended without a reply"),
        ("raise", "a name to be found in the log"),
        ("memory", "MemoryError"),
        ("flood", "more than 1048576 bytes"),
    ],
)
def test_death_is_reported_and_survived(make: Callable[..., Worker], what: str, message: str) -> None:
    worker = make()
    with pytest.raises(WorkerDied, match=message):
        worker.ask([what])
    assert worker.ask(["echo", 2]) == 2


def test_what_a_program_prints_is_no_reply(make: Callable[..., Worker]) -> None:
    worker = make()
    assert worker.ask(["print"]) == "true"
    assert worker.ask(["echo", 3]) == 3


def test_large_requests_and_deep_replies(make: Callable[..., Worker]) -> None:
    worker = make(max_reply=8 << 20)
    text = "y" * (2 << 20)
    assert worker.ask(["echo", text]) == text
    with pytest.raises((WorkerDied, WorkerTimeout)):
        make(deadline=0.5).ask(["sleep", text])
    deep = worker.ask(["deep"])
    assert isinstance(deep, list)


def test_a_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import a_module_that_is_not_there\n")
    worker = Worker(program, deadline=1.0)
    with pytest.raises(WorkerStartError, match="a_module_that_is_not_there"):
        worker.ask(None)
    assert worker.pids == ()


def test_any_thread_may_ask(make: Callable[..., Worker]) -> None:
    worker, replies = make(), dict[int, object]()

    def ask(number: int) -> None:
        replies[number] = worker.ask(["echo", number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {number: number for number in range(16)}


def test_collection_and_close_end_the_processes(make: Callable[..., Worker], tmp_path: Path) -> None:
    worker = Worker(tmp_path / "program.py", deadline=30.0)
    worker.ask(["echo", 1])
    pids = worker.pids
    del worker
    gc.collect()
    assert not any(map(alive, pids))
    other = make()
    other.ask(["echo", 1])
    pids = other.pids
    other.close()
    other.close()
    assert not any(map(alive, pids)) and other.ask(["echo", 4]) == 4


def test_the_end_of_the_parent_ends_the_child(make: Callable[..., Worker], tmp_path: Path) -> None:
    make()
    code = f"""
        from pathlib import Path
        from verifiers.worker import Worker
        import os, sys
        worker = Worker(Path({str(tmp_path / "program.py")!r}), deadline=30.0)
        worker.ask(["echo", 1])
        print(*worker.pids, flush=True)
        if sys.argv[1] == "killed":
            os._exit(1)
    """
    for how in ("ended", "killed"):
        command = [sys.executable, "-c", textwrap.dedent(code), how]
        root = Path(__file__).resolve().parent.parent
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        pids = [int(pid) for pid in done.stdout.split()]
        assert len(pids) == 2
        assert ended(pids)


def ended(pids: list[int]) -> bool:
    """Whether all of them end: an orphan sees the end of its input, and a loaded machine is given time."""
    for _ in range(400):
        if not any(map(running, pids)):
            return True
        time.sleep(0.05)
    return False


def running(pid: int) -> bool:
    """Alive and no zombie: in a container an orphan may wait long for somebody to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("deadline", "memory"), [(0.0, 1024), (-1.0, 1024), (float("nan"), 1024), (1.0, 8)])
def test_bad_settings_are_named(tmp_path: Path, deadline: float, memory: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Worker(tmp_path / "program.py", deadline=deadline, memory_mib=memory)
