"""Triplets: sound proposals, banned words, two runs, and the three tasks; golds are right and near misses wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from selfplay.deadline import DeadlinePassed, deadline
from selfplay.testing import check_verifier
from verifiers.literals import BANNED, MAX_OUTPUT, Ran, Runner, runner
from verifiers.triplets import Triplets, ValidTriplet

ADD = "def f(a, b):\n    return a + b"
SORT = "def f(items):\n    return sorted(set(items))"
PAIR = "def f(text):\n    return (text[0], {text}, {'n': len(text)})"


@pytest.fixture(scope="module")
def jail() -> Iterator[Runner]:
    made = Runner(workers=1, cpu_s=0.5, memory_mib=128)
    yield made
    made.close()


def case(task: str, answer: str, **slots: str) -> dict[str, str]:
    return {"query": "", "reference": "", "task": task, "program": ADD, "input": "1, 2", "answer": answer, **slots}


def score(jail: Runner, *args: Any, **slots: str) -> float:
    return Triplets(jail)([case(*args, **slots)])[0]


def fault(jail: Runner, program: str, *inputs: str) -> str:
    return jail.prove([(program, inputs or ("1",))])[0].fault


# -- what a sound proposal is ------------------------------------------------------------------------------------------

SOUND = {
    ("def f(x):\n    return x", "'Hello World'"): "'Hello World'",
    (ADD, "1, 2"): "3",
    (ADD, "1, 2,"): "3",
    (ADD, "  1,  # one\n2  "): "3",
    (ADD, "'a', 'b'"): "'ab'",
    (SORT, "[3, 1, 3]"): "[1, 3]",
    (PAIR, "'xy'"): "('x', {'xy'}, {'n': 2})",
    ("def f(x):\n    return set('hello') | set()", "0"): "{'e', 'h', 'l', 'o'}",
    ("def f(x):\n    return set(), (), (1,), {}, frozenset([2])", "0"): "(set(), (), (1,), {}, {2})",
    ("def f(x):\n    return [True, 1.0, -0.5, b'a', 2j]", "0"): "[True, 1.0, -0.5, b'a', 2j]",
    ("f = lambda x: x", "{'a': [1, (2,)]}"): "{'a': [1, (2,)]}",
    ("import math\ndef f(x):\n    return math.comb(x, 2)", "5"): "10",
    ("def f(x):\n    return None if x else 1", "0"): "1",
    ("def f(x):\n    return x * 2_000", "'é'"): repr("é" * 2_000),
    ("def f(times):\n    return times.upper()", "'os'"): "'OS'",
}
UNSOUND = {
    ("def g(x):\n    return x", "1"): "crash",
    ("def f(x):\n    return x / 0", "1"): "crash",
    ("def f(x):\n    return x", ""): "crash",
    ("def f(x):\n    return x", "1, 2"): "crash",
    ("def f(x):\n    return x", "1 + 1"): "crash",
    ("def f(x):\n    return x", "x"): "crash",
    ("def f(x):\n    return x", "x=1"): "crash",
    ("def f(x):\n    return x", "__import__('math').pi"): "crash",
    ("def f(x):\n    return x", "(" * 500): "crash",
    ("def f(x) return x", "1"): "rejected",
    ("def f(x):\n    return '''", "1"): "rejected",
    ("def f(x):\n    x", "1"): "nothing",
    ("def f(x):\n    return object()", "1"): "crash",
    ("def f(x):\n    return lambda: x", "1"): "crash",
    ("def f(x):\n    return float('nan')", "1"): "crash",
    ("def f(x):\n    return [float('inf')]", "1"): "crash",
    ("def f(x):\n    x.append(x)\n    return x", "[]"): "crash",
    ("class L(list):\n    pass\ndef f(x):\n    return L()", "1"): "crash",
    ("def f(x):\n    while x:\n        pass", "1"): "timeout_cpu",
    ("def f(x):\n    return [0] * 10**9", "1"): "memory",
    ("def f(x):\n    return 'a' * 3000", "1"): "output_limit",
    ("def f(x):\n    return 'a' * 30000", "1"): "output_limit",
    ("def f(x):\n    return __import__('ti' + 'me').perf_counter_ns()", "1"): "differs",  # past the banned words
    ("def f(x):\n    return list({c * 2 for c in 'abcdefghijkl'})", "1"): "differs",  # by the order of a set
    ("def f(x):\n    return hash(x)", "'a'"): "differs",
    ("import random\ndef f(x):\n    return random.random()", "1"): "banned",
    ("def f(x):\n    import  time\n    return time.monotonic()", "1"): "banned",
    ("import os.path\ndef f(x):\n    return 1", "1"): "banned",
    ("def f(x):\n    print(x)\n    return x", "1"): "banned",
    ("def f(x):\n    return x  # time is up", "1"): "banned",
}  # fmt: skip


@pytest.mark.parametrize(("proposal", "output"), SOUND.items(), ids=range(len(SOUND)))
def test_sound(jail: Runner, proposal: tuple[str, str], output: str) -> None:
    assert jail.prove([(proposal[0], (proposal[1],))]) == [Ran((output,))]


@pytest.mark.parametrize(("proposal", "why"), UNSOUND.items(), ids=range(len(UNSOUND)))
def test_unsound(jail: Runner, proposal: tuple[str, str], why: str) -> None:
    assert fault(jail, *proposal) == why


@pytest.mark.parametrize("word", BANNED)
def test_a_banned_word_is_a_word(jail: Runner, word: str) -> None:
    assert fault(jail, f"from {word} import x\ndef f(x):\n    return x") == "banned"
    assert fault(jail, f"def f({word}_, my{word}):\n    return 1", "1, 2") == "", "part of another word"


def test_the_second_run_is_what_tells(jail: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a program finds to differ by: one output in the first run, another in the second, is no proposal."""
    runs = iter([[Ran(("1",))], [Ran(("2",))]])
    monkeypatch.setattr(jail, "run", lambda calls, again=False: next(runs))
    assert fault(jail, "def f(x):\n    return x + 0") == "differs"


def test_a_proof_is_found_once_but_never_kept_where_the_sandbox_failed(
    jail: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("def f(x):\n    return x * 7", ("6",))
    asked: list[Any] = []
    run = jail.run
    monkeypatch.setattr(
        jail, "run", lambda calls, again=False: asked.append(calls) or [Ran(fault="infra")] * len(calls)
    )
    assert jail.prove([call, call])[1].fault == "infra" and len(asked) == 2
    monkeypatch.setattr(jail, "run", lambda calls, again=False: asked.append(calls) or run(calls, again))
    assert jail.prove([call])[0].outputs == ("42",) and jail.prove([call])[0].outputs == ("42",)
    assert [len(calls) for calls in asked[2:]] == [1, 1, 0, 0], "two runs, then none"


def test_one_runner_for_equal_settings() -> None:
    assert runner(workers=1, cpu_s=0.25) is runner(workers=1, cpu_s=0.25) is not runner(workers=1, cpu_s=0.5)


def test_a_deadline_is_kept(jail: Runner) -> None:
    with pytest.raises(DeadlinePassed), deadline(0.0):
        jail.prove([(ADD, ("1, 2",))])


# -- deduction ---------------------------------------------------------------------------------------------------------

DEDUCTION = [
    ("3", 1.0), (" 3\n", 1.0), ("+3", 1.0), ("03", 0.0), ("0x3", 1.0), ("-3", 0.0), ("٣", 0.0),
    ("3.0", 1.0), ("1 + 2", 0.0), ("4", 0.0), ("'3'", 0.0), ("", 0.0), ("3 # or 4?", 1.0),
    ("It is\n```output\n3\n```", 1.0), ("```output\n4\n```\nno:\n```output\n3\n```", 1.0), ("(3", 0.0), ("[3]", 0.0),
    ("```\n3\n```", 1.0), ("<think>```output\n4\n```</think>```output\n3\n```", 1.0), ("The output is 3", 0.0),
    ("__import__('os').system('true')", 0.0), ("3" * 5_000, 0.0), ("(" * 100_000, 0.0), ("\x00", 0.0), ("\ud800", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "right"), DEDUCTION, ids=range(len(DEDUCTION)))
def test_deduction(jail: Runner, answer: str, right: float) -> None:
    assert score(jail, "deduction", answer) == right


@pytest.mark.parametrize(
    ("program", "text", "answer", "right"),
    [
        (SORT, "[2, 1]", "[1, 2]", 1.0), (SORT, "[2, 1]", "[2, 1]", 0.0), (SORT, "[2, 1]", "(1, 2)", 0.0),
        (PAIR, "'xy'", "('x', {'xy'}, {'n': 2})", 1.0), (PAIR, "'xy'", "['x', {'xy'}, {'n': 2}]", 0.0),
        ("def f(x):\n    return {'b', 'a'}, {'k': 1, 'l': 2}", "0", "({'a', 'b'}, {'l': 2, 'k': 1})", 1.0),
        ("def f(x):\n    return x == 1", "1", "True", 1.0), ("def f(x):\n    return x == 1", "1", "1", 1.0),
        ("def f(x):\n    return x == 1", "1", "False", 0.0), ("def f(x):\n    return x", "'a b'", "a b", 0.0),
        ("def f(x):\n    return x", "'a b'", '"a b"', 1.0),
    ],
)  # fmt: skip
def test_values_are_equal_as_python_has_it(jail: Runner, program: str, text: str, answer: str, right: float) -> None:
    assert score(jail, "deduction", answer, program=program, input=text) == right


def test_where_no_input_is_said_the_query_is_it(jail: Runner) -> None:
    calculator = "def f(question):\n    a, b = question.rstrip(' =?').split('+')\n    return int(a) + int(b)"
    slots = {"program": calculator, "input": ""}
    assert score(jail, "deduction", "46", query="12 + 34 = ?", **slots) == 1.0
    assert score(jail, "deduction", "47", query="12 + 34 = ?", **slots) == 0.0
    told = case("deduction", "46", query="twelve and thirty-four", **slots)
    assert (Triplets(jail)([told]), ValidTriplet(jail)([told])) == ([0.0], [0.0])


# -- abduction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("1, 2", 1.0), ("0, 3", 1.0), ("-7, 10", 1.0), ("1.5, 1.5", 1.0), ("```input\n2, 1\n```", 1.0), ("1, 1", 0.0),
        ("3", 0.0), ("", 0.0), ("1), (2", 0.0), ("1, 2, 3", 0.0), ("1 if True else 0, 2", 0.0), ("*[1, 2]", 0.0),
        ("1, 2)) or 3 #", 0.0), ("'1', '2'", 0.0), ("a=1, b=2", 0.0),
    ],
)  # fmt: skip
def test_abduction_takes_any_input_that_gives_the_same(jail: Runner, answer: str, right: float) -> None:
    assert score(jail, "abduction", answer) == right


# -- induction ---------------------------------------------------------------------------------------------------------

VISIBLE, HIDDEN = "[1]\n[2, 1]\n[]\n[3, 3]\n[0]\n", "[9, 8, 9]\n[1, 1]\n['b', 'a']\n[-1]\n[5, 4, 3]\n"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (SORT, 1.0),
        ("So:\n```python\ndef f(x):\n    out = []\n    for one in sorted(x):\n        if one not in out:\n"
         "            out.append(one)\n    return out\n```", 1.0),
        ("def f(items):\n    return sorted(items)", 0.0),
        ("def f(items):\n    return list(dict.fromkeys(items))", 0.0),
        ("def f(x):\n    return {'[1]': [1], '[2, 1]': [1, 2], '[]': [], '[3, 3]': [3], '[0]': [0]}[str(x)]", 0.0),
        ("def f(items):\n    return sorted(set(items)) if items[:1] != [-1] else [1]", 0.0),
        ("def g(items):\n    return sorted(set(items))", 0.0),
        ("def f(items) return", 0.0),
        ("", 0.0),
        ("def f(items):\n    while True: pass", 0.0),
    ],
)  # fmt: skip
def test_induction_wants_every_hidden_pair(jail: Runner, answer: str, right: float) -> None:
    """The fourth to last gets four of the five hidden pairs, which is wrong: the task is all or nothing."""
    slots = {"program": SORT, "input": "", "visible": VISIBLE, "hidden": HIDDEN}
    assert score(jail, "induction", answer, **slots) == right


@pytest.mark.parametrize("slots", [{"visible": ""}, {"hidden": ""}, {"hidden": "x\n"}, {"visible": "[{}]\n"}])
def test_an_induction_without_good_inputs_is_not_sound(jail: Runner, slots: dict[str, str]) -> None:
    told = case("induction", SORT, **{"program": SORT, "input": "", "visible": VISIBLE, "hidden": HIDDEN, **slots})
    assert (ValidTriplet(jail)([told]), Triplets(jail)([told])) == ([0.0], [0.0])


# -- what is nobody's fault --------------------------------------------------------------------------------------------


def test_the_sandboxs_own_fault_is_nan(jail: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case("deduction", "3"), case("abduction", "1, 2"), case("deduction", "4", program="def f(): random")]
    broken = Runner(workers=1)
    monkeypatch.setattr(broken, "run", lambda calls, again=False: [Ran(fault="infra")] * len(calls))
    for verifier in (Triplets(broken), ValidTriplet(broken)):
        scores = verifier(cases)
        assert math.isnan(scores[0]) and math.isnan(scores[1]) and scores[2] == 0.0, "a banned word needs no sandbox"
    half = Runner(workers=1)
    monkeypatch.setattr(half, "prove", jail.prove)
    monkeypatch.setattr(half, "run", lambda calls, again=False: [Ran(fault="infra")] * len(calls))
    monkeypatch.setattr(half, "same", lambda pairs: [None] * len(pairs))
    assert all(math.isnan(score) for score in Triplets(half)(cases[:2])) and ValidTriplet(half)(cases[:2]) == [1.0, 1.0]


def test_no_program_is_nan_and_an_executors_error_on_a_sound_one_too(jail: Runner) -> None:
    for verifier in (Triplets(jail), ValidTriplet(jail)):
        assert math.isnan(verifier([{"query": "q", "answer": "a", "reference": ""}])[0])
    told = case("deduction", "", error="crash")
    assert math.isnan(Triplets(jail)([told])[0]) and ValidTriplet(jail)([told]) == [1.0]
    told["program"] = "def f(a, b):\n    return a / 0"
    assert (Triplets(jail)([told]), ValidTriplet(jail)([told])) == ([0.0], [0.0])


def test_what_is_counted(jail: Runner) -> None:
    score_, valid = Triplets(jail), ValidTriplet(jail)
    cases = [case("deduction", "3"), case("deduction", "4"), case("deduction", "3", program="import os"),
             case("deduction", "3", program=""), case("deduction", "3", input="'a', 1")]  # fmt: skip
    assert score_(cases)[:3] == [1.0, 0.0, 0.0] and valid(cases)[:3] == [1.0, 1.0, 0.0]
    assert score_.metrics() == {"solved": 1.0, "unsolved": 3.0, "unknown": 1.0}
    assert valid.metrics() == {"sound": 2.0, "unsound_banned": 1.0, "no_program": 1.0, "unsound_crash": 1.0}
    assert valid.metrics() == {} and score_.metrics()["solved"] == 0.0


@pytest.mark.parametrize("kind", [Triplets, ValidTriplet])
def test_verifiers_like_others(jail: Runner, kind: type[Triplets] | type[ValidTriplet]) -> None:
    slots = {"program": SORT, "input": "", "visible": VISIBLE, "hidden": HIDDEN}
    cases = [
        case("deduction", "3"), case("deduction", "4"), case("abduction", "0, 3"), case("abduction", "x"),
        case("induction", SORT, **slots), case("induction", "def f(x): return x", **slots), case("", "\ud800"),
        case("deduction", "3", program="\ud800"), case("deduction", "3", input="\ud800"),
        case("deduction", "3", program="x" * 200_000), case("tomorrow", "3"),
    ]  # fmt: skip
    check_verifier(kind(jail), cases, blank_may_score=kind is ValidTriplet)
    check_verifier(kind(jail))


def test_the_longest_output_is_told_in_the_prompt() -> None:
    from envs import shipped

    text = (shipped.FOLDER / "triplets.yaml").read_text(encoding="utf-8")
    assert f"{MAX_OUTPUT:,} characters" in text and f"{', '.join(BANNED)}." in text
