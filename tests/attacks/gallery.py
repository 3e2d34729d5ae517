"""The attack programs: text files with a head that says what each is, and what may become of it.

A head is ``# key: value`` lines, the value JSON where it is not a plain word:

| key | meaning | default |
|---|---|---|
| class | what is attacked; ``honest`` for programs that must pass | |
| note | one line for people | |
| mode | ``call``, ``stdio`` or ``tests`` (what follows the line ``# --- tests ---`` are assertions) | call |
| function, inputs, expected | the call and what is right; by default a secret that no program knows | solve, [[1]] |
| limits | arguments of ``Limits`` | ``{"cpu_s": 0.5}`` |
| outcomes | those that are acceptable | pass crash |
| twice | run a second time, which must not notice the first | false |
| repeat | tokens to replace by a text n times over, for sources too long to be kept | |

``@NAME@`` stands for something on the machine: the names are those of ``Range.places``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "programs"
TESTS = "# --- tests ---\n"
HONEST = "honest"


@dataclass(frozen=True)
class Attack:
    """One file."""

    name: str
    kind: str
    note: str
    text: str
    mode: str = "call"
    function: str = "solve"
    inputs: Any = field(default_factory=lambda: [[1]])
    expected: Any = None
    limits: Mapping[str, Any] = field(default_factory=lambda: {"cpu_s": 0.5})
    outcomes: tuple[str, ...] = ("pass", "crash")
    twice: bool = False
    repeat: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def honest(self) -> bool:
        return self.kind == HONEST

    def written(self, places: Mapping[str, str]) -> tuple[str, str]:
        """Source and tests with every token replaced."""
        text = self.text
        for name, place in places.items():
            text = text.replace(f"@{name}@", place)
        for token, (part, times) in self.repeat.items():
            text = text.replace(token, part * times)
        source, _, tests = text.partition(TESTS)
        return source, tests

    def right(self, sealed: str) -> Any:
        """What is expected: one output for each input, or one text."""
        if self.expected is not None:
            return self.expected
        return sealed if self.mode == "stdio" else [sealed] * len(self.inputs)

    def reference(self, places: Mapping[str, str], sealed: str) -> str:
        """The tests as a case of the code executor has them."""
        if self.mode == "tests":
            return json.dumps({"function": self.function, "tests": self.written(places)[1]})
        if self.mode == "stdio":
            return json.dumps({"stdin": [self.inputs], "stdout": [self.right(sealed)]})
        return json.dumps({"function": self.function, "inputs": self.inputs, "outputs": self.right(sealed)})


def read(file: Path) -> Attack:
    """One file. Raises ``ValueError`` where its head is not as above."""
    text = file.read_text(encoding="utf-8")
    head: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        key, colon, value = line[2:].partition(": ")
        if colon:
            head[key] = json.loads(value) if value[:1] in '[{"' or value in ("true", "false") else value
    head.pop("-*- coding", None)
    if "class" not in head or "note" not in head:
        raise ValueError(f"{file.name} does not say its class and note")
    if "outcomes" in head:
        head["outcomes"] = tuple(head["outcomes"].split())
    elif head["class"] == HONEST:
        head["outcomes"] = ("pass",)
        head.setdefault("limits", {"cpu_s": 2.0})
    return Attack(file.name.removesuffix(".py.txt"), kind=head.pop("class"), text=text, **head)


def gallery() -> list[Attack]:
    """Every file, in the order of the names."""
    return [read(file) for file in sorted(FOLDER.glob("*.py.txt"))]
