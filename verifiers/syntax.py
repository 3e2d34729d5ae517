"""The syntax verifier: does a text parse as Python, as JSON, or as mathematics?"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from selfplay import deadline
from verifiers.code_cases import MAX_SOURCE, block
from verifiers.maths.extract import candidates
from verifiers.maths.tree import Unreadable
from verifiers.maths.values import read
from verifiers.sandbox import Limits, Program, Sandbox

_COMPILE = """
def parses(text):
    try:
        compile(text, "answer", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True
"""
"""Runs in the jail; the text is its argument and is compiled, never run."""
_JSON = frozenset({"", "json"})


class Syntax:
    """Score 1.0 what parses and 0.0 what does not; nan where the jail could not tell.

    ``kind`` is the language of the ``slot``:

    - ``python``: the last Python block outside ``<think>``, or the whole text, compiles. That happens in the sandbox
      alone, for a hostile text can crash a compiler; nothing of it is run.
    - ``json``: the last JSON block, or the whole text, is JSON as the standard has it (no NaN, no trailing comma) and
      holds at most 131,072 characters.
    - ``expression``: it holds an answer that the maths verifier can read.

    ``backend`` is the sandbox's, which is started for ``python`` only. Raises ``SandboxUnavailable``.
    """

    runs_in: ClassVar[Literal["worker", "thread", "main"]] = "thread"
    slot_keys: ClassVar[Mapping[str, Sequence[str]]] = {"slot": ()}

    def __init__(
        self,
        kind: Literal["python", "json", "expression"] = "python",
        slot: str = "answer",
        backend: str = "auto",
        workers: int | None = None,
    ) -> None:
        if kind not in ("python", "json", "expression"):
            raise ValueError(f"kind={kind!r} is unknown: python, json or expression")
        self.kind, self.slot = kind, slot
        self.sandbox = Sandbox(backend, workers=workers, limits=Limits(cpu_s=2.0)) if kind == "python" else None
        self._counts = Counter[str]()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        texts = [case[self.slot] for case in cases]
        known = self._compile(list(dict.fromkeys(map(block, texts)))) if self.kind == "python" else {}
        scores: list[float] = []
        for text in texts:
            if self.kind == "python":
                score = known[block(text)]
            else:
                deadline.check()
                score = float(_is_json(text) if self.kind == "json" else _is_expression(text))
            self._counts["unknown" if math.isnan(score) else "parsed" if score else "broken"] += 1
            scores.append(score)
        return scores

    def metrics(self) -> dict[str, float]:
        """Cases since the last call: ``parsed``, ``broken``, ``unknown`` (nan)."""
        counts = {name: float(self._counts[name]) for name in ("parsed", "broken", "unknown")}
        self._counts.clear()
        return counts

    def close(self) -> None:
        """End the sandbox's workers, if there are any."""
        if self.sandbox is not None:
            self.sandbox.close()

    def _compile(self, sources: Sequence[str]) -> dict[str, float]:
        """A run for each text, so that one that kills the compiler takes no other with it."""
        assert self.sandbox is not None
        scores = {source: 0.0 for source in sources if not source.strip() or len(source) > MAX_SOURCE}
        todo = [source for source in sources if source not in scores]
        results = self.sandbox.run_many([Program(_COMPILE, "parses", ([source],)) for source in todo])
        for source, result in zip(todo, results, strict=True):
            parsed = result.outcome == "pass" and result.values == (True,)
            scores[source] = math.nan if result.outcome == "infra" else float(parsed)
        return scores


def _is_json(text: str) -> bool:
    text = block(text, _JSON)
    if len(text) > MAX_SOURCE:
        return False
    try:
        # Numbers stay text: a long one costs nothing, and Python's limit on digits is not JSON's.
        json.loads(text, parse_constant=_refuse, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_expression(text: str) -> bool:
    for candidate in candidates(text):
        try:
            read(candidate)
        except Unreadable:
            continue
        return True
    return False
