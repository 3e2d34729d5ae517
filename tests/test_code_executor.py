"""The code executor: right programs in several styles pass, near misses do not, and what is not their fault is nan."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.deadline import DeadlinePassed, deadline
from selfplay.testing import check_verifier
from verifiers.code_cases import Asserts, Streams, UnreadableTests, block, equal, equal_text, read_tests
from verifiers.code_executor import CodeExecutor

ROOT = Path(__file__).resolve().parent.parent
TASKS = [json.loads(line) for line in (ROOT / "envs/code_tasks.jsonl").read_text(encoding="utf-8").splitlines()]

ADD = json.dumps({"function": "add", "inputs": [[1, 2], [-1, 1], [2, 2]], "outputs": [3, 0, 4]})
SUM = json.dumps({"stdin": ["1 2\n", "5 5\n"], "stdout": ["3\n", "10"]})
HOLDS = json.dumps({"function": "add", "tests": "assert add(1, 2) == 3\nassert add(0, 0) == 0"})
PRIMES = json.dumps({"function": "primes", "inputs": [[10]], "outputs": [[2, 3, 5, 7]]})


@pytest.fixture(scope="module")
def executor() -> Iterator[CodeExecutor]:
    made = CodeExecutor(workers=1)
    yield made
    made.close()


def judge(executor: CodeExecutor, answer: str, reference: str = ADD, **slots: str) -> float:
    return executor([{"query": "", "answer": answer, "reference": reference, **slots}])[0]


def counted(executor: CodeExecutor) -> dict[str, float]:
    return {name: count for name, count in executor.metrics().items() if count}


# -- golds and near misses ---------------------------------------------------------------------------------------------

RIGHT = [
    ("def add(a, b):\n    return a + b", ADD),
    ("Here it is.\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.", ADD),
    ("```\nadd = lambda a, b: a + b\n```", ADD),
    ("```python\ndef add(a, b): return 0\n```\nNo, better:\n```python\ndef add(a, b): return a + b\n```", ADD),
    ("<think>\n```python\nbroken(\n```\n</think>\n```py\nimport operator\nadd = operator.add\n```", ADD),
    ("let me see </think>def add(a, b):\n    return sum((a, b))", ADD),
    ("class Adder:\n    def __call__(self, a, b):\n        return a + b\n\nadd = Adder()", ADD),
    ("def add(a, b):\n    step = 1 if b > 0 else -1\n    return add(a + step, b - step) if b else a", ADD),
    ("def add(a, b):\n    print('adding')\n    return helper(a, b)\n\ndef helper(*all):\n    return sum(all)", ADD),
    ("def found(n):\n    for k in range(2, n):\n        if all(k % d for d in range(2, k)):\n            yield k\n"
     "def primes(n):\n    return list(found(n))", PRIMES),
    ("def primes(n):\n    return tuple(k for k in range(2, n) if all(k % d for d in range(2, k)))", PRIMES),
    ("a, b = map(int, input().split())\nprint(a + b)", SUM),
    ("import sys\nprint(sum(map(int, sys.stdin.read().split())), end='  \\n\\n')", SUM),
    ("if __name__ == '__main__':\n    print(sum(map(int, input().split())))\n    raise SystemExit", SUM),
    ("def add(a, b):\n    return a + b", HOLDS),
]  # fmt: skip

WRONG = [
    ("def add(a, b):\n    return a + b + 1", ADD, "wrong"),
    ("def add(a, b):\n    return a - -b if a != 2 else 5", ADD, "wrong"),
    ("def add(a, b):\n    return str(a + b)", ADD, "wrong"),
    ("def add(a, b):\n    return float(a + b)", ADD, "wrong"),
    ("def add(a, b):\n    return [a + b]", ADD, "wrong"),
    ("def add(a, b):\n    print(a + b)", ADD, "wrong"),
    ("def add(a, b):\n    return None", ADD, "wrong"),
    ("def sum_of(a, b):\n    return a + b", ADD, "crash"),
    ("def add(a):\n    return a", ADD, "crash"),
    ("add = 3", ADD, "crash"),
    ("def add(a, b):\n    raise ValueError('no')", ADD, "crash"),
    ("def add(a, b):\n    return {a + b}", ADD, "crash"),
    ("def add(a, b) return a + b", ADD, "rejected"),
    ("I cannot do that.", ADD, "rejected"),
    ("```json\n3\n```", ADD, "no_code"),
    ("```python\n```", ADD, "no_code"),
    ("<think>def add(a, b): return a + b", ADD, "no_code"),
    ("", ADD, "no_code"),
    ("#" * 200_000, ADD, "rejected"),
    ("def add(a, b):\n    while True: pass", ADD, "timeout_cpu"),
    ("def add(a, b):\n    return 'x' * 10**10", ADD, "memory"),
    ("def add(a, b):\n    while True: print('x' * 1000)", ADD, "output_limit"),
    ("def add(a, b):\n    raise SystemExit(0)", ADD, "crash"),
    ("import os\nos._exit(0)", ADD, "crash"),
    ("def primes(n):\n    return [2, 3, 7, 5]", PRIMES, "wrong"),
    ("def primes(n):\n    yield from (2, 3, 5, 7)", PRIMES, "crash"),
    ("print(3)", SUM, "wrong"),
    ("a, b = map(int, input().split())\nprint(' ', a + b)", SUM, "wrong"),
    ("print('3\\n10')", SUM, "wrong"),
    ("def add(a, b):\n    return 3", HOLDS, "wrong"),
    ("def add(a, b):\n    raise ValueError", HOLDS, "wrong"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference"), RIGHT)
def test_right(executor: CodeExecutor, answer: str, reference: str) -> None:
    executor.metrics()
    assert judge(executor, answer, reference) == 1.0
    assert counted(executor) == {"pass": 1.0}


@pytest.mark.parametrize(("answer", "reference", "outcome"), WRONG)
def test_near_misses(executor: CodeExecutor, answer: str, reference: str, outcome: str) -> None:
    executor.metrics()
    assert judge(executor, answer, reference) == 0.0
    assert counted(executor) == {outcome: 1.0}


def test_true_is_not_one(executor: CodeExecutor) -> None:
    truth = json.dumps({"function": "f", "inputs": [[1], [0]], "outputs": [1, 0]})
    assert judge(executor, "def f(x): return x == 1", truth) == 0.0
    assert judge(executor, "def f(x): return int(x == 1)", truth) == 1.0
    assert judge(executor, "def f(x): return int(x == 1)", truth.replace("[1, 0]", "[true, false]")) == 0.0


# -- what is not the program's fault -----------------------------------------------------------------------------------

UNREADABLE = [
    "", "no JSON", "[]", "{}", '{"function": "f"}', '{"function": "f", "inputs": [[1]], "output": [1]}',
    '{"function": "f", "inputs": [], "outputs": []}', '{"function": "f", "inputs": [[1]], "outputs": [1, 2]}',
    '{"function": "f", "inputs": [1], "outputs": [1]}', '{"function": "a b", "inputs": [[1]], "outputs": [1]}',
    '{"stdin": [1], "stdout": ["1"]}', '{"stdin": "1", "stdout": "1"}', '{"function": "f", "tests": " "}',
    '{"function": "f", "tests": "assert f(1)", "inputs": [[1]]}', "[" * 100_000,
    '{"function": "f", "inputs": [[' + "[" * 30 + "]" * 30 + ']], "outputs": [1]}',
]  # fmt: skip


@pytest.mark.parametrize("reference", UNREADABLE, ids=range(len(UNREADABLE)))
def test_without_tests_nothing_can_be_told(executor: CodeExecutor, reference: str) -> None:
    executor.metrics()
    assert math.isnan(judge(executor, "def f(x): return x", reference))
    assert counted(executor) == {"no_tests": 1.0}


@pytest.mark.parametrize(
    "tests",
    ["pass", "assert True", "f(1) if False else None", "assert f(", "import nothing_of_that_name\nassert f(1)",
     "while True: pass", "try:\n    assert f(1)\nexcept BaseException:\n    pass"],
)  # fmt: skip
def test_assertions_that_hold_without_a_solution_are_no_tests(executor: CodeExecutor, tests: str) -> None:
    executor.metrics()
    reference = json.dumps({"function": "f", "tests": tests})
    assert math.isnan(judge(executor, "def f(x): return x", reference))
    assert counted(executor) == {"no_tests": 1.0}


def test_assertions_of_a_model_are_taken_where_no_reference_is(executor: CodeExecutor) -> None:
    right, wrong = "def twice(x): return 2 * x", "def twice(x): return x"
    tests = "```python\nassert isinstance(twice(1), int)\nassert twice(2) == 4\n```"
    assert judge(executor, right, "", tests=tests) == 1.0 and judge(executor, wrong, "", tests=tests) == 0.0
    assert judge(executor, right, "", tests="x = twice(2)\nassert x == 4", function="twice") == 1.0
    assert math.isnan(judge(executor, right, "", tests="x = twice(2)\nassert x == 4"))
    sealed = json.dumps({"function": "twice", "inputs": [[2]], "outputs": [5]})
    assert judge(executor, right, sealed, tests=tests) == 0.0, "the reference decides where there is one"
    assert read_tests("", tests) == Asserts("twice", "assert isinstance(twice(1), int)\nassert twice(2) == 4\n")


def test_a_verifier_like_others(executor: CodeExecutor) -> None:
    check_verifier(executor)
    answers = [
        "def add(a, b): return a + b",
        "def add(a, b): return a",
        "",
        "\x00",
        "\ud800",
        "(" * 10_000,
        "print('[3]')",
    ]
    check_verifier(executor, [{"query": "", "answer": answer, "reference": ADD} for answer in answers])


def test_order_and_repetition(executor: CodeExecutor) -> None:
    executor.metrics()
    right, wrong = "def add(a, b): return a + b", "def add(a, b): return a * b"
    cases = [{"query": "", "answer": answer, "reference": ADD} for answer in [right, wrong, right, ""] * 10]
    assert executor(cases) == [1.0, 0.0, 1.0, 0.0] * 10
    assert counted(executor) == {"pass": 20.0, "wrong": 10.0, "no_code": 10.0}


# -- settings ----------------------------------------------------------------------------------------------------------


def test_shares_and_tolerance() -> None:
    """Of four tests two pass, one fails, one raises: 2/4. 0.1 + 0.2 is 0.3 within 1e-9, and 3.0 is then 3."""
    reference = json.dumps({"function": "f", "inputs": [[1], [2], [0], [4]], "outputs": [1.0, 0.5, 0, 0.2]})
    made = CodeExecutor(workers=1, score="share", tolerance=1e-9)
    try:
        assert judge(made, "def f(x): return 1 / x", reference) == 0.5
        assert judge(made, "def f(x): return [0, 1, 0.5, 0, 0.2 + 1e-12][x]", reference) == 1.0
        assert judge(made, "a, b = map(int, input().split())\nprint(float(min(3, a + b)))", SUM) == 0.5
        assert judge(made, "import os\nos._exit(0)", reference) == 0.0
    finally:
        made.close()


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="score='most'"):
        CodeExecutor(score="most")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tolerance"):
        CodeExecutor(tolerance=-1.0)


def test_the_deadline_is_kept(executor: CodeExecutor) -> None:
    cases = [{"query": "", "answer": f"def add(a, b):\n    while {n}: pass", "reference": ADD} for n in range(1, 9)]
    with pytest.raises(DeadlinePassed), deadline(0.5):
        executor(cases)
    assert judge(executor, "def add(a, b): return a + b") == 1.0


# -- without a sandbox -------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats().map(lambda x: x + 0.0) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(values, values)
def test_equal_is_sameness_as_json_writes_it(a: object, b: object) -> None:
    """Sorted JSON keeps types apart ("1", "1.0", "true"); zeros have no sign here."""
    assert equal(a, a) and equal(json.loads(json.dumps(a)), a)
    written = [json.dumps(value, sort_keys=True) for value in (a, b)]
    assert equal(a, b) == (written[0] == written[1]) == equal(b, a)


def test_numbers_with_tolerance() -> None:
    assert equal([1, 2.0], [1.0, 2], 0.0) and not equal(1, True, 0.5) and not equal("1", 1, 0.5)
    assert equal(1000.0, 1000.9, 1e-3) and not equal(1000.0, 1001.1, 1e-3)
    assert equal(math.nan, math.nan, 0.1) and not equal(math.inf, 1e308, 0.1) and not equal(1.0, math.nan, 0.1)
    assert not equal(10**400, 1.0, 0.1) and equal(10**400, 10**400, 0.1)
    assert equal_text("0.30 a\n", "0.3 a", 1e-9) and not equal_text("0.30 a", "0.3 b", 1e-9)
    assert not equal_text("0.30", "0.3") and not equal_text("a", " a") and equal_text("a \n\n", "a")
    assert not equal_text("a\nb", "a\n\nb") and equal_text("", "\n")


@given(st.text(st.sampled_from("ab`\n p"), max_size=60))
def test_blocks_never_fail(text: str) -> None:
    assert isinstance(block(text), str) and (block(text) == text or "```" in text)


def test_blocks() -> None:
    assert block("````python\na\n```\nb\n````") == "a\n```\nb\n"
    assert block("```python\na\n```\n```text\nb\n```") == "a\n"
    assert block("```python\na") == "a", "a block that was cut at its length"
    assert block("x = '```'") == "x = '```'"
    assert isinstance(read_tests('{"stdin": ["1"], "stdout": ["1"]}'), Streams)
    with pytest.raises(UnreadableTests, match="neither"):
        read_tests(" ")


# -- what is shipped ---------------------------------------------------------------------------------------------------


def test_the_tasks_have_solutions(executor: CodeExecutor) -> None:
    """Every shipped solution passes; returning the first output for ever does not."""
    cases = [{"query": "", "answer": task["solution"], "reference": json.dumps(task["reference"])} for task in TASKS]
    assert len(TASKS) >= 40 and executor(cases) == [1.0] * len(TASKS)
    for case, task in zip(cases, TASKS, strict=True):
        tests = task["reference"]
        case["answer"] = f"def {tests['function']}(*_):\n    return {tests['outputs'][0]!r}"
    assert executor(cases) == [0.0] * len(TASKS)


def test_the_page_on_the_sandbox_runs() -> None:
    page = (ROOT / "docs/sandbox.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert snippets
    for snippet in snippets:
        done = subprocess.run([sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
