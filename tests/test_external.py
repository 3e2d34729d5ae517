"""External programs as verifiers: the protocol, what goes wrong with a program, and the programs that are shipped."""

from __future__ import annotations

import logging
import math
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfplay.deadline import DeadlinePassed, deadline
from selfplay.testing import NASTY, check_verifier
from selfplay.types import Case
from tests.test_worker import ended
from verifiers.external import External
from verifiers.panel import Panel

PROGRAMS = Path(__file__).resolve().parent.parent / "verifiers" / "programs"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A program of these lines; ``case`` is the first case and ``cases`` are all."""

    def build(body: str) -> str:
        head = "import json, os, sys, time\ncases = [json.loads(line) for line in sys.stdin]\ncase = cases[0]\n"
        file = tmp_path / f"program_{len(list(tmp_path.iterdir()))}.py"
        file.write_text(head + textwrap.dedent(body), encoding="utf-8")
        return str(file)

    return build


def case(answer: str, query: str = "q", reference: str = "") -> Case:
    return {"query": query, "answer": answer, "reference": reference}


def counts(verifier: External) -> dict[str, float]:
    return {name: count for name, count in verifier.metrics().items() if count}


# -- the protocol ------------------------------------------------------------------------------------------------------


def test_a_case_goes_in_and_a_score_comes_out(write: Write) -> None:
    """The last line counts; equal cases are judged once; other slots go in as well."""
    program = External(
        write("print('thinking', 9)\nprint(len(case['answer']) / 10 + len(case.get('draft', '')))\nprint()")
    )
    assert program([case("a"), case("abc"), case("a"), {**case("a"), "draft": "x"}]) == [0.1, 0.3, 0.1, 1.1]
    assert counts(program) == {"programs": 3.0}
    assert counts(program) == {}, "since the last call"
    assert program([]) == []


@pytest.mark.parametrize(
    ("printed", "score"), [("1", 1.0), ("-2.5", -2.5), ('{"score": 0.25, "why": "x"}', 0.25), ("1e-3", 0.001)]
)
def test_what_is_a_score(write: Write, printed: str, score: float) -> None:
    assert External(write(f"print({printed!r})"))([case("a")]) == [score]


@pytest.mark.parametrize("printed", ["null", "NaN", '{"score": null}'])
def test_cannot_tell(write: Write, printed: str) -> None:
    program = External(write(f"print({printed!r})"))
    assert math.isnan(program([case("a")])[0])
    assert counts(program) == {"programs": 1.0, "cannot_tell": 1.0}


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "yes",
        "1 of 1",
        "true",
        '"1"',
        "Infinity",
        "1e999",
        "[1]",
        '{"points": 1}',
        "1_0",
        "0x1",
        "[" * 5000,
        "9" * 5000,
    ],
)
def test_what_is_no_score(write: Write, printed: str) -> None:
    program = External(write(f"print('1'); print({printed!r})" if printed else "pass"))
    assert math.isnan(program([case("a")])[0])
    assert counts(program) == {"programs": 1.0, "no_score": 1.0}


def test_any_text_survives_the_way_in(write: Write) -> None:
    """Surrogates, NUL, line ends, quotes and shell words come out of the program's JSON as they were; hence its score,
    a sum over code points, is the one computed here."""
    nasty = [*NASTY, "$(touch pwned); `id` | rm -rf *\n--help\r\n\u2028 {python}", "'\"\\"]
    total = External(write("print(sum((i + 1) * ord(c) for i, c in enumerate(case['answer'])) % 997)"))
    expected = [float(sum((i + 1) * ord(c) for i, c in enumerate(text)) % 997) for text in nasty]
    assert total([case(text) for text in nasty]) == expected


def test_a_batch_is_one_program(write: Write, tmp_path: Path) -> None:
    """It sees equal cases as often as they are, and prints one line each; too few lines are no scores."""
    program = External(write("for c in cases: print(sum(d == c for d in cases) / len(cases))"), batch=True)
    assert program([case("a"), case("b"), case("a"), case("a")]) == [0.75, 0.25, 0.75, 0.75]
    assert counts(program) == {"programs": 1.0}
    assert program([]) == []
    short = External(write("print(1)"), batch=True)
    assert all(math.isnan(score) for score in short([case("a"), case("b")]))
    assert counts(short) == {"programs": 1.0, "no_score": 1.0}
    large = [case("x" * 20_000, str(number)) for number in range(40)]  # more than pipes hold, in both directions
    echo = External(write("for c in cases: print(c['answer'], file=sys.stderr); print(len(c['answer']))"), batch=True)
    assert echo(large) == [20_000.0] * 40


def test_it_keeps_the_contract(write: Write) -> None:
    check_verifier(External(write("print(float(case['answer'].strip() == '2'))")))
    check_verifier(External(write("for c in cases: print(float(c['answer'].strip() == '2'))"), batch=True))


# -- commands ----------------------------------------------------------------------------------------------------------


def test_how_a_command_may_be_written(write: Write, tmp_path: Path) -> None:
    file = write("print(float('a b' in sys.argv))")
    for command in (["{python}", file, "a b"], [file, "a b"], f"{{python}} {file} 'a b'", f'{file} "a b"'):
        assert External(command)([case("x")]) == [1.0]
    assert External(Path(file).name, cwd=str(tmp_path))([case("x")]) == [0.0]
    assert External(["sh", "-c", "cat > /dev/null; echo 0.5"])([case("x")]) == [0.5]


@pytest.mark.parametrize("command", ["no-such-program-here", "./missing.py", ["{python}", "missing.py"], "/missing/x"])
def test_a_program_that_is_not_there(command: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"verifier\.command: there is no program"):
        External(command)


def test_bad_settings_are_named(write: Write) -> None:
    with pytest.raises(ValueError, match="command is empty"):
        External([])
    with pytest.raises(ValueError, match="timeout must be above 0"):
        External("true", timeout=0)
    with pytest.raises(ValueError, match="at least 1"):
        External("true", parallel=0)


def test_the_program_sees_little_of_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_KEY", "s3cret")
    monkeypatch.setenv("MY_SETTING", "7")
    program = write("print(int(os.environ.get('MY_SETTING', 0)) + 100 * ('A_SECRET_KEY' in os.environ))")
    assert External(program)([case("a")]) == [0.0]
    assert External(program, env=["MY_SETTING", "NOT_SET"])([case("a")]) == [7.0]


def test_programs_run_side_by_side(write: Write, tmp_path: Path) -> None:
    """Each waits until it sees the other's file: one after the other they would both be late."""
    meet = f"""
        here = {str(tmp_path)!r}
        open(here + '/' + case['answer'], 'w').close()
        while not all(os.path.exists(here + '/' + name) for name in ('left', 'right')): time.sleep(0.01)
        print(1)
    """
    assert External(write(meet), parallel=2, timeout=60.0)([case("left"), case("right")]) == [1.0, 1.0]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("print(1); sys.exit(3)", "bad_exit"),
        ("print(1); raise KeyError('look')", "bad_exit"),
        ("print(1, flush=True); os.kill(os.getpid(), 11)", "bad_exit"),
        ("while True: print('x' * 1000)", "flooded"),
        ("x = bytearray(1 << 30); print(len(x) > 0)", "bad_exit"),
    ],
)
def test_failures_are_nan_and_counted(write: Write, body: str, kind: str) -> None:
    program = External(write(body), memory_mib=256, timeout=60.0)
    assert math.isnan(program([case("a")])[0])
    assert counts(program) == {"programs": 1.0, kind: 1.0}


def test_the_first_failure_is_logged_with_its_stderr(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and what steers a terminal is taken out of it."""
    program = External(write("print('no compiler\\x1b[2J here', file=sys.stderr); sys.exit(4)"))
    with caplog.at_level(logging.ERROR):
        program([case("a"), case("b"), case("c")])
    assert counts(program) == {"programs": 3.0, "bad_exit": 3.0}
    assert len(caplog.records) == 1
    assert "exit status 4" in caplog.text and "no compiler?[2J here" in caplog.text and "\x1b" not in caplog.text


def test_one_failure_does_not_touch_the_others(write: Write) -> None:
    scores = External(write("print(1 / len(case['answer']))"))([case("ab"), case(""), case("abcd")])
    assert scores[0] == 0.5 and math.isnan(scores[1]) and scores[2] == 0.25


STUBBORN = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child == 0: time.sleep(600)
    with open(case['answer'], 'w') as file: file.write(f"{os.getpid()} {child}")
"""


def pids(note: Path) -> list[int]:
    for _ in range(400):
        if note.exists() and len(note.read_text().split()) == 2:
            return [int(pid) for pid in note.read_text().split()]
        time.sleep(0.05)
    raise AssertionError("the program did not start")


def test_a_late_program_is_killed_with_its_children(write: Write, tmp_path: Path) -> None:
    program = External(write(STUBBORN + "    time.sleep(600)"), timeout=3.0)
    assert math.isnan(program([case(str(tmp_path / "note"))])[0])
    assert counts(program) == {"programs": 1.0, "timeouts": 1.0}
    assert ended(pids(tmp_path / "note"))


def test_what_a_finished_program_leaves_behind_is_killed(write: Write, tmp_path: Path) -> None:
    """Its child holds the pipes, and would hold a reader that waits for their end."""
    program = External(write(STUBBORN + "    print(0.5)"), timeout=300.0)
    assert program([case(str(tmp_path / "note"))]) == [0.5]
    assert ended(pids(tmp_path / "note"))


def test_the_callers_deadline_ends_the_programs(write: Write, tmp_path: Path) -> None:
    program = External(write(STUBBORN + "    time.sleep(600)"), timeout=500.0, parallel=1)
    cases = [case(str(tmp_path / name)) for name in ("note", "never", "begun")]
    with pytest.raises(DeadlinePassed), deadline(3.0):
        program(cases)
    assert ended(pids(tmp_path / "note"))
    assert not (tmp_path / "never").exists(), "a program is not started when time is up"
    assert counts(program) == {"programs": 1.0}
    panel = Panel(score=program, deadline=3.0)
    assert math.isnan(panel.act(cases, [0, 1, 2])[0].move["score"])
    assert panel.metrics()["verifiers/score/timeouts"] == 1.0, "the panel's count, under the panel's name"


def test_close_ends_what_runs(write: Write, tmp_path: Path) -> None:
    program = External(write(STUBBORN + "    time.sleep(600)"), timeout=500.0)
    thread = threading.Thread(target=program, args=([case(str(tmp_path / "note"))],))
    thread.start()
    started = pids(tmp_path / "note")
    program.close()
    thread.join(60.0)
    assert not thread.is_alive() and ended(started)
