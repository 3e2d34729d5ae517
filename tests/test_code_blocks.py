"""Where a program is in an answer: fences of every kind, thoughts, outputs beside the code."""

from __future__ import annotations

import time

import pytest

from verifiers.code_cases import block


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("x = 1", "x = 1"),
        ("\ufeffx = 1", "x = 1"),
        ("~~~py\nb\n~~~", "b\n"),
        ("```python\r\ne\r\n```\r\n", "e\r\n"),
        ("```{.python}\na\n```", "a\n"),
        ("```\nout\n```\n```python\nc\n```\n```\noutput\n```", "c\n"),
        ("   ```python\n   d\n     e\n   ```", "d\n  e\n"),
        ("````python\n```\nf\n````", "```\nf\n"),
        ("```python\ncut at its len", "cut at its len"),
        ("<think>```python\nno\n```</think>```python\nyes\n```", "yes\n"),
        ("```js\nx\n```", ""),
    ],
)
def test_the_block_that_is_meant(answer: str, program: str) -> None:
    assert block(answer) == program


@pytest.mark.parametrize("line", ["```" + " " * 3_000 + "x`", "```a" + " " * 20_000 + "b", "~~~" + " ~" * 20_000])
def test_a_line_that_is_nearly_a_fence_costs_its_length(line: str) -> None:
    """An expression that went back over its spaces took 26 s for 3,000 of them, and nothing can interrupt one."""
    began = time.process_time()
    block(line)
    assert time.process_time() - began < 1.0
