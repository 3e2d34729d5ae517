"""What becomes of a program: outcomes one by one, typed values, limits, tests in a second jail.

What hostile programs try is in test_attacks.py, batches and workers in test_sandbox_workers.py. All of this runs as
root and as a user without rights.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sandboxes import ADD, BACKENDS, opened
from verifiers.sandbox import Limits, Sandbox, typed

sandbox = pytest.fixture(scope="module", params=BACKENDS)(opened)


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_calls_give_values_in_order(sandbox: Sandbox) -> None:
    result = sandbox.run(ADD, "add", [[1, 2], ["a", "b"], [[1], [2]]])
    assert (result.outcome, result.values, result.detail) == ("pass", (3, "ab", [1, 2]), "")
    assert 0 < result.cpu_s < 0.5 and result.memory > 1 << 20


def test_a_script_reads_stdin_and_prints(sandbox: Sandbox) -> None:
    source = "import sys\nprint(int(input()) + 1)\nprint(sys.stdin.read().upper(), end='')\nsys.exit(0)\n"
    result = sandbox.run(source, inputs=("41\nzwölf\n",))
    assert (result.outcome, result.stdout, result.values) == ("pass", "42\nZWÖLF\n", ())
    assert sandbox.run("print(__name__)").stdout == "__main__\n"
    assert sandbox.run("import sys\nprint('a', end='')\nsys.stdout.flush()\nexit()\n").outcome == "pass"


@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        ("def f(x):\n    return 1 / x\n", "crash", "ZeroDivisionError: division by zero"),
        ("def g(x):\n    return x\n", "crash", "no function 'f'"),
        ("f = 3\n", "crash", "no function 'f'"),
        ("import sys\ndef f(x):\n    sys.exit(0)\n", "crash", "SystemExit"),
        ("import os\ndef f(x):\n    os._exit(0)\n", "crash", "0 of 1 values"),
        ("raise ValueError('a\\nb\\x1b[31m')\n", "crash", "ValueError: a b"),
        ("def f(x):\n    return f(x)\n", "crash", "RecursionError"),
        ("import ctypes\ndef f(x):\n    ctypes.string_at(0)\n", "crash", "signal 11"),
        ("def f(x):\n    return {1: 2}\n", "crash", "key of type int"),
        ("def f(x):\n    return object()\n", "crash", "type object"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a\n", "crash", "deeper than 20"),
        ("def f(x):\n    return '\\ud800'\n", "crash", "surrogate"),
        ("def f(x):\n    return 10 ** 5000\n", "crash", "4300 digits"),
        ("def f(x):\n    yield 1\n", "crash", "type generator"),
        ("def f(x:\n", "rejected", "SyntaxError"),
        ("def f(x): return 1\x00", "rejected", "null"),
        ("x = '\ud800'", "rejected", "UnicodeEncodeError"),
        ("x = " + "(" * 5000 + ")" * 5000, "rejected", ""),
        ("while True:\n    pass\n", "timeout_cpu", "0.5 s"),
        ("def f(x):\n    return sum(range(10 ** 12))\n", "timeout_cpu", "0.5 s"),
        ("def f(x):\n    return len(bytearray(1 << 30))\n", "memory", "MemoryError"),
        (
            "def f(x):\n    a = []\n    while True:\n        a.append('x' * 100000 + str(len(a)))\n",
            "memory",
            "MemoryError",
        ),
        ("def f(x):\n    while True:\n        print('x' * 1000)\n", "output_limit", "65536 bytes on stdout"),
        ("def f(x):\n    return 'x' * (2 << 20)\n", "output_limit", "bytes of JSON"),
    ],
)
def test_outcomes(sandbox: Sandbox, source: str, outcome: str, detail: str) -> None:
    result = sandbox.run(source, "f", [[0]])
    assert result.outcome == outcome, result.detail
    assert detail in result.detail and result.detail.isprintable() and len(result.detail) <= 500
    assert result.values == ()


@pytest.mark.parametrize("source", ["import sys\nsys.exit(1)\n", "raise SystemExit('no')\n", "1 / 0\n"])
def test_a_script_that_ends_badly(sandbox: Sandbox, source: str) -> None:
    assert sandbox.run("print('said')\n" + source).outcome == "crash"


def test_the_library_is_there(sandbox: Sandbox) -> None:
    """Modules that others load late too, where a worker is cut off from the library's files; and time zones."""
    source = (
        "import codecs, doctest, mmap, optparse, zoneinfo\n"
        "def f(zone):\n"
        "    words = codecs.encode('ab', 'rot_13'), 'xé'.encode('punycode').decode(), 'あ'.encode('shift_jis').hex()\n"
        "    return *words, zoneinfo.ZoneInfo(zone).key if zone else ''\n"
    )
    zone = "Europe/Vienna" if Path("/usr/share/zoneinfo/Europe/Vienna").exists() else ""
    result = sandbox.run(source, "f", [[zone]])
    assert result.values == (["no", "x-bga", "82a0", zone],), result.detail


def test_too_many_values_are_none(sandbox: Sandbox) -> None:
    forged = "import os\ndef f(x):\n    os.write(3, b'v 1\\n' * 3)\n    return 1\n"
    assert sandbox.run(forged, "f", [[0]]).outcome == "crash"


# -- values ----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\n\u2028é", max_size=3), inner, max_size=4),
    max_leaves=12,
)


def same(left: object, right: object) -> bool:
    """Equal in value and in type, all the way down; nan is nan."""
    return type(left) is type(right) and repr(left) == repr(right)


@given(JSON)
def test_typed_json_keeps_types(value: object) -> None:
    line = typed.encode(value, 1 << 20)
    assert line.isascii() and "\n" not in line
    assert same(typed.decode(line), value)


@given(st.text())
def test_any_line_is_a_value_or_illegal(text: str) -> None:
    try:
        typed.check(typed.decode(text), len(text))
    except typed.IllegalValue:
        return


@settings(max_examples=10, deadline=None)
@given(st.lists(JSON, max_size=3))
def test_values_come_back_as_they_went_in(values: list[object]) -> None:
    with Sandbox(workers=1) as sandbox:
        result = sandbox.run("def same(x):\n    return x\n", "same", [[value] for value in values])
    assert result.outcome == "pass" and same(list(result.values), values)


def test_exact_types(sandbox: Sandbox) -> None:
    source = "def f():\n    return (True, 1, 1.0, '1', None, (1, 2), float('nan'), float('-inf'), 10 ** 4000, -0.0)\n"
    (found,) = sandbox.run(source, "f", [[]]).values
    kinds = [bool, int, float, str, type(None), list, float, float, int, float]
    assert [type(one) for one in found] == kinds
    assert found[5] == [1, 2] and math.isnan(found[6]) and found[7] == -math.inf and found[8] == 10**4000
    assert math.copysign(1, found[9]) == -1


def test_depth_is_bounded_at_twenty() -> None:
    """[[...]] with 20 lists inside the first is the deepest; one more is refused, on both sides."""
    value: list[object] = []
    for _ in range(20):
        value = [value]
    assert typed.decode(typed.encode(value, 100)) == value
    with pytest.raises(typed.IllegalValue):
        typed.encode([value], 100)
    with pytest.raises(typed.IllegalValue):
        typed.decode("[" * 22 + "]" * 22)
    with pytest.raises(typed.IllegalValue):
        typed.decode("[" * 100_000)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_cpu_time_counts_and_not_the_clock(sandbox: Sandbox) -> None:
    result = sandbox.run("import time\ndef f():\n    time.sleep(0.8)\n    return 1\n", "f", [[]])
    assert result.outcome == "pass" and result.cpu_s < 0.5


def test_a_kill_comes_soon_after_the_limit(sandbox: Sandbox) -> None:
    spin = "def spin():\n    while True: pass\n"
    threads = f"import threading\n{spin}for _ in range(3): threading.Thread(target=spin).start()\n"
    for source in ("while True: pass", "sum(range(10 ** 12))", threads):
        result = sandbox.run(source)
        assert result.outcome == "timeout_cpu" and result.cpu_s <= 0.5 + 0.2


def test_who_sleeps_past_the_backstop_is_not_excused(sandbox: Sandbox) -> None:
    began = time.monotonic()
    result = sandbox.run("import time\ntime.sleep(60)\n", limits=Limits(wall_s=0.5))
    assert (result.outcome, result.detail) == ("timeout_cpu", "it slept for 0.5 s")
    assert time.monotonic() - began < 30


def test_limits_of_one_program(sandbox: Sandbox) -> None:
    source = "def f():\n    return len(bytearray(200 << 20))\n"
    assert sandbox.run(source, "f", [[]]).outcome == "memory"
    assert sandbox.run(source, "f", [[]], limits=Limits(memory_mib=400)).values == (200 << 20,)
    long = "print('x' * 100)"
    assert sandbox.run(long, limits=Limits(output_bytes=101)).outcome == "pass"
    assert sandbox.run(long, limits=Limits(output_bytes=100)).outcome == "output_limit"
    with pytest.raises(ValueError, match="cpu_s"):
        Limits(cpu_s=0)


# -- tests in a second jail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ("assert add(1, 2) == 3\nassert add(a='x', b='y') == 'xy'\n", "pass"),
        ("assert add(1, 2) == 4, 'four'\n", "wrong"),
        ("add(1, 'a')\n", "wrong"),
        ("try:\n    add(1, 'a')\n    assert False\nexcept TypeError as e:\n    assert 'int' in str(e)\n", "pass"),
        ("add(1)\n", "wrong"),
        ("add(object(), 1)\n", "crash"),
        ("nothing\n", "crash"),
        ("assert add(1, 2) ==\n", "rejected"),
        ("import sys\nsys.exit(0)\n", "crash"),
        ("while True: pass\n", "timeout_cpu"),
    ],
)  # fmt: skip
def test_tests_call_the_solution(sandbox: Sandbox, tests: str, outcome: str) -> None:
    result = sandbox.run(ADD, "add", tests=tests)
    assert result.outcome == outcome, result.detail


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("import os\ndef add(a, b):\n    os._exit(0)\n", "crash"),
        (
            "class Equal:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Equal()\n",
            "crash",
        ),
        ("def add(a, b):\n    while True: pass\n", "timeout_cpu"),
        ("def sub(a, b):\n    return a - b\n", "crash"),
        ("import os\nos.write(3, b'v 3\\n' * 9 + b'd\\n')\ndef add(a, b):\n    return 4\n", "crash"),
        ("import builtins\nbuiltins.AssertionError = KeyError\ndef add(a, b):\n    return 4\n", "wrong"),
    ],
)
def test_the_solution_cannot_reach_its_tests(sandbox: Sandbox, source: str, outcome: str) -> None:
    assert sandbox.run(source, "add", tests="assert add(1, 2) == 3\n").outcome == outcome


def test_many_calls_are_carried(sandbox: Sandbox) -> None:
    tests = "assert [add(n, 1) for n in range(200)] == list(range(1, 201))\n"
    assert sandbox.run(ADD, "add", tests=tests, limits=Limits()).outcome == "pass"
