"""The syntax verifier: what parses is 1, near misses are 0, and nothing hostile reaches the trainer's own parser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.testing import check_verifier
from verifiers.syntax import Syntax


@pytest.fixture(scope="module")
def python() -> Iterator[Syntax]:
    made = Syntax(workers=1)
    yield made
    made.close()


def judge(verifier: Syntax, text: str) -> float:
    return verifier([{"query": "", "answer": text, "reference": ""}])[0]


PYTHON = {
    "x = 1": 1.0, "def f():\n    return 1": 1.0, "Sure:\n```python\nx = [1]\n```\n": 1.0, "# only a comment": 1.0,
    "raise SystemExit": 1.0, "while True: pass": 1.0, "import os; os._exit(1)": 1.0, "lambda: (yield)": 1.0,
    "": 0.0, "x = ": 0.0, "def f() return 1": 0.0, "Sure, here you are.": 0.0, "```python\nx = (\n```": 0.0,
    "return 1": 0.0, "x = 1\x00": 0.0, "x = '\ud800'": 0.0, "(" * 5_000 + ")" * 5_000: 0.0, "x" * 200_000: 0.0,
    "-" * 100_000 + "1": 0.0, " x = 1": 0.0, "0777": 0.0, "f(a=1, a=2)": 0.0,
}  # fmt: skip
JSON = {
    "{}": 1.0, "[1, 2.5, null, true]": 1.0, '"text"': 1.0, " 1 ": 1.0, "9" * 10_000: 1.0, "1e999": 1.0,
    'Here:\n```json\n{"a": [1]}\n```': 1.0, "```\n[]\n```": 1.0,
    "": 0.0, "{'a': 1}": 0.0, "[1,]": 0.0, "NaN": 0.0, "[Infinity]": 0.0, "-Infinity": 0.0, "True": 0.0, "01": 0.0,
    '{"a" 1}': 0.0,
    "[" * 100_000 + "]" * 100_000: 0.0, '"' + "a" * 200_000 + '"': 0.0, '"\t"': 0.0, "1 2": 0.0, "// 1\n1": 0.0,
}  # fmt: skip
EXPRESSION = {
    "1/2": 1.0, "\\frac{1}{2}": 1.0, "x^2 + 1": 1.0, "so \\boxed{3\\sqrt{2}}": 1.0, "The answer is 5 km.": 1.0,
    "": 0.0, "\\frac{1}{": 0.0, "1 + + * 2": 0.0, "__import__('os').system('true')": 0.0, "((((": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "score"), PYTHON.items(), ids=range(len(PYTHON)))
def test_python(python: Syntax, text: str, score: float) -> None:
    assert judge(python, text) == score


@pytest.mark.parametrize(("text", "score"), JSON.items(), ids=range(len(JSON)))
def test_json(text: str, score: float) -> None:
    assert judge(Syntax("json"), text) == score


@pytest.mark.parametrize(("text", "score"), EXPRESSION.items(), ids=range(len(EXPRESSION)))
def test_expression(text: str, score: float) -> None:
    assert judge(Syntax("expression"), text) == score


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=4)))
def test_what_json_writes_parses_and_its_beginning_does_not(value: object) -> None:
    text = json.dumps([value])
    assert judge(Syntax("json"), text) == 1.0 and judge(Syntax("json"), text[:-1]) == 0.0


def test_another_slot_and_metrics() -> None:
    verifier = Syntax("json", slot="query")
    cases = [{"query": text, "answer": "[", "reference": ""} for text in ("[]", "[", "{}")]
    assert verifier(cases) == [1.0, 0.0, 1.0]
    assert verifier.metrics() == {"parsed": 2.0, "broken": 1.0, "unknown": 0.0}
    assert verifier.metrics()["parsed"] == 0.0


@pytest.mark.parametrize("kind", ["json", "expression"])
def test_a_verifier_like_others(kind: str) -> None:
    check_verifier(Syntax(kind))  # type: ignore[arg-type]


def test_python_is_a_verifier_like_others(python: Syntax) -> None:
    check_verifier(python)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind='yaml'"):
        Syntax("yaml")  # type: ignore[arg-type]
