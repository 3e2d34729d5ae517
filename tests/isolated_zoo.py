"""Verifiers that misbehave, each in one way; tests/test_isolated.py names them in configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Cases = Sequence[Mapping[str, str]]


class Length:
    """The answer's length; ``metrics`` counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, cases: Cases) -> list[float]:
        self.calls += 1
        print("a plugin may print", file=sys.stdout)
        return [float(len(case["answer"])) for case in cases]

    def metrics(self) -> dict[str, float]:
        calls, self.calls = self.calls, 0
        return {"calls": calls, "pid": os.getpid()}


class Odd:
    """Gives what it is told to give."""

    def __init__(self, gives: Any = None) -> None:
        self.gives = gives

    def __call__(self, cases: Cases) -> Any:
        return self.gives


class Does:
    """Does what the first answer says: sleep, spin, eat, raise, exit, die, leave (die and leave a child behind), read
    (start a program that reads its input); else 1 for every case."""

    def __call__(self, cases: Cases) -> list[float]:
        what = cases[0]["answer"]
        if what == "sleep":
            time.sleep(1e6)
        if what == "spin":
            while True:
                pass
        if what == "eat":
            return [float(len(bytearray(8 << 30)))]
        if what == "raise":
            raise ZeroDivisionError("a user's bug")
        if what == "exit":
            sys.exit(0)
        if what == "die":
            os._exit(0)
        if what.startswith("leave "):
            child = os.fork()
            if not child:
                time.sleep(1e6)
            Path(what.removeprefix("leave ")).write_text(str(child), encoding="ascii")
            os._exit(0)
        if what == "read":
            return [float(len(subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout))] * len(cases)
        return [1.0] * len(cases)


class CannotBeBuilt:
    """Its model is missing."""

    def __init__(self) -> None:
        raise FileNotFoundError("weights.bin is missing")


class Counts:
    """How often an answer was seen before, over all calls; ``die`` and ``sleep`` as in ``Does``."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, cases: Cases) -> list[float]:
        scores = [float(self.seen.count(case["answer"])) for case in cases]
        self.seen += [case["answer"] for case in cases]
        Does()(cases)
        return scores

    def metrics(self) -> dict[str, float]:
        return {"seen": len(self.seen)}

    def save(self, folder: Path) -> None:
        (folder / "seen.json").write_text(json.dumps(self.seen), encoding="utf-8")

    def load(self, folder: Path) -> None:
        self.seen = json.loads((folder / "seen.json").read_text(encoding="utf-8"))


class Gives:
    """The first answer names what no list of scores is, though each could be gone through."""

    def __call__(self, cases: Cases) -> Any:
        numbers = [index / len(cases) for index in range(len(cases))]
        return {"mapping": dict.fromkeys(numbers, 1.0), "set": set(numbers), "bytes": bytes(len(cases))}[
            cases[0]["answer"]
        ]


class Metrics:
    """Its metrics never come."""

    def __call__(self, cases: Cases) -> list[float]:
        return [1.0] * len(cases)

    def metrics(self) -> dict[str, float]:
        time.sleep(1e6)
        return {}


class Prints:
    """Prints ``number`` bytes in each call."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, cases: Cases) -> list[float]:
        print("x" * (self.number - 1), flush=True)
        return [1.0] * len(cases)


class CannotSave(Counts):
    """Its state does not reach the disk."""

    def save(self, folder: Path) -> None:
        raise ValueError("what was seen cannot be written")


class Here:
    """Asks to be built in the trainer's own process."""

    runs_in = "main"

    def __call__(self, cases: Cases) -> list[float]:
        return [float(os.getpid())] * len(cases)
