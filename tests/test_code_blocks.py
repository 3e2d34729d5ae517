"""Where a program is in an answer: fences of every kind, thoughts, outputs beside the code."""

from __future__ import annotations

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
