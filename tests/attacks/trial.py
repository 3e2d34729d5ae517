"""A trainer that lets every attack loose and writes down what happened: ``python -m tests.attacks.trial linux-ns``.

It is a process of its own, so that one that is killed, stopped or spoiled is seen for what it is, and so that it can be
run as another user by an interpreter that has nothing installed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.attacks.gallery import Attack, gallery
from tests.attacks.range import Range
from verifiers.code_cases import equal, equal_text
from verifiers.code_executor import CodeExecutor
from verifiers.sandbox import Limits, Program, Result, Sandbox

ADD = "def add(a, b):\n    return a + b\n"
OVERSHOOT = ("time_spin", "time_power", "time_regex", "time_sum", "time_spin_threads")


def passed(attack: Attack, result: Result, sealed: str) -> bool:
    """Whether the code executor would call this right."""
    if result.outcome != "pass":
        return False
    if attack.mode == "stdio":
        return equal_text(attack.right(sealed), result.stdout)
    return attack.mode == "tests" or equal(attack.right(sealed), list(result.values))


def program(attack: Attack, places: dict[str, str]) -> Program:
    source, tests = attack.written(places)
    limits = Limits(**attack.limits)
    if attack.mode == "stdio":
        return Program(source, inputs=(attack.inputs,), limits=limits)
    if attack.mode == "tests":
        return Program(source, attack.function, tests=tests, limits=limits)
    return Program(source, attack.function, tuple(attack.inputs), limits=limits)


def one(sandbox: Sandbox, target: Range, attack: Attack, settled: int) -> dict[str, Any]:
    """Let one program loose; the row says what is wrong, if anything."""
    faults: list[str] = []
    for _ in range(2 if attack.twice else 1):
        began = time.monotonic()
        result = sandbox.run_many([program(attack, target.places())])[0]
        elapsed = time.monotonic() - began
        faults += target.told(f"{result.values!r} {result.stdout} {result.detail}")
        if passed(attack, result, target.sealed) != attack.honest:
            faults.append("it does not pass" if attack.honest else "it passes")
        if result.outcome not in attack.outcomes:
            faults.append(
                f"its outcome is {result.outcome} ({result.detail[:200]}), not {' or '.join(attack.outcomes)}"
            )
        if len(result.detail) > 1000 or any(ord(char) < 32 for char in result.detail):
            faults.append("its detail is long or holds control characters")
    left = target.left_over(settled)
    faults += [f"left over: {left}"] if left else []
    faults += target.hits()
    after = sandbox.run(ADD, "add", [[1, 2]])
    if (after.outcome, after.values) != ("pass", (3,)):
        faults.append(f"the next honest program: {after.outcome} {after.values!r:.80} {after.detail[:200]}")
    return {
        "name": attack.name, "class": attack.kind, "outcome": result.outcome, "detail": result.detail[:120],
        "seconds": round(elapsed, 3), "cpu": round(result.cpu_s, 3),
        "over": round(result.cpu_s - Limits(**attack.limits).cpu_s, 3), "faults": faults,
    }  # fmt: skip


def batch(backend: str, target: Range, attacks: Sequence[Attack]) -> list[str]:
    """All but those that want a clock of their own, through the code executor in one call, beside one another."""
    some = [attack for attack in attacks if "wall_s" not in attack.limits]
    places = target.places()
    cases = [
        {"query": "", "answer": attack.written(places)[0], "reference": attack.reference(places, target.sealed)}
        for attack in some
    ]
    executor = CodeExecutor(backend, workers=2, cpu_s=1.0)
    try:
        scores = executor(cases)
    finally:
        executor.close()
    told = zip(some, scores, strict=True)
    return [f"{attack.name} scores {score}" for attack, score in told if not _fair(attack, score)]


def _fair(attack: Attack, score: float) -> bool:
    """1 for the honest and 0 for the others; hostile assertions may be found to be none, which is nobody's score."""
    return score == attack.honest or (math.isnan(score) and attack.name.startswith("tests_hostile"))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend")
    parser.add_argument("--only", default="", help="names or classes, separated by commas")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--batch", action="store_true", help="through the code executor as well")
    given = parser.parse_args(words)
    wanted = set(filter(None, given.only.split(",")))
    attacks = [attack for attack in gallery() if not wanted or wanted & {attack.name, attack.kind}]
    target = Range()
    sandbox = Sandbox(given.backend, workers=1)
    rows: list[dict[str, Any]] = []
    try:
        assert sandbox.run(ADD, "add", [[1, 2]]).values == (3,), "the sandbox cannot add"
        time.sleep(0.5)
        settled = len(target.processes())
        for attack in attacks:
            rows.append(one(sandbox, target, attack, settled))
            if rows[-1]["faults"]:
                print(f"{attack.name}: {rows[-1]['faults']}", file=sys.stderr, flush=True)
    finally:
        sandbox.close()
    after = [f"after close: {row}" for row in target.left_over(0)]
    after += batch(given.backend, target, attacks) if given.batch else []
    after += [f"after the batch: {row}" for row in target.hits() + target.left_over(0)]
    target.close()
    report = {"backend": sandbox.backend, "uid": os.getuid(), "rows": rows, "after": after}
    if given.report:
        given.report.write_text(json.dumps(report), encoding="utf-8")
    print(table(report))
    return 1 if after or any(row["faults"] for row in rows) else 0


def table(report: dict[str, Any]) -> str:
    """Class by class: how many, how many survived, what became of them."""
    lines = [f"{report['backend']} as user {report['uid']}", f"{'class':10} {'files':>5} {'held':>5}  outcomes"]
    for kind in sorted({row["class"] for row in report["rows"]}):
        rows = [row for row in report["rows"] if row["class"] == kind]
        outcomes = ", ".join(f"{name} {n}" for name, n in Counter(row["outcome"] for row in rows).most_common())
        lines.append(f"{kind:10} {len(rows):5} {sum(not row['faults'] for row in rows):5}  {outcomes}")
    over = [row["over"] for row in report["rows"] if row["name"] in OVERSHOOT]
    if over:
        lines.append(f"CPU seconds past the limit when killed: at most {max(over):.3f}")
    return "\n".join([*lines, *report["after"]])


if __name__ == "__main__":
    sys.exit(main())
