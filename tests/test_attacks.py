"""Hostile programs against the sandbox: none gets anything, none is called right, and honest ones pass beside them.

``pytest -s tests/test_attacks.py`` prints the tables. The trainer under attack is a process of its own
(``tests/attacks/trial.py``), so that it may be killed without ending the test that wants to see it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import trial
from tests.attacks.gallery import FOLDER, HONEST, TESTS, gallery, read
from verifiers.sandbox import probe

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("linux-ns", "linux-landlock")
CLASSES = {
    "secrets": 12, "write": 9, "kill": 7, "network": 6, "kernel": 10, "bomb": 17, "time": 20, "output": 8, "process": 6,
    "crash": 8, "parser": 11, "value": 16, "forgery": 26, "tests": 12, "next": 7, HONEST: 22,
}  # fmt: skip
"""How many files of each class: one that is lost would not be missed otherwise."""

EXCEPTIONS: dict[str, dict[str, str]] = {
    "linux-ns": {},
    "linux-landlock": {"honest_files": "without a mount namespace there is no folder that could be given for a while"},
}
"""Back end -> file -> why it does not do there what it should. The same list is in docs/sandbox.md."""

NOBODY = 65_534
INTERPRETERS = (
    sys.executable,
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/usr/bin/python3.12",
    "/usr/bin/python3.13",
)


# -- the files ---------------------------------------------------------------------------------------------------------


def test_every_class_of_attack_is_there() -> None:
    assert Counter(attack.kind for attack in gallery()) == CLASSES
    assert sum(n for kind, n in CLASSES.items() if kind != HONEST) >= 70 and CLASSES[HONEST] >= 14


def test_every_token_is_known() -> None:
    names = "SECRET_FILE CANARY_DIR CANARY_FILE TRAINER NEIGHBOUR BREACH TCP4 TCP6 UDP UNIX ABSTRACT CHECKOUT STDLIB"
    places = dict.fromkeys(names.split(), "1")
    for attack in gallery():
        source, tests = attack.written(places)
        words = {word for text in (source, tests) for word in text.split("@")[1:-1:2] if word.isupper()}
        assert not words, f"{attack.name} has tokens that stand for nothing: {words}"
        assert (attack.mode == "tests") == (TESTS in attack.text), attack.name


def test_a_head_that_says_too_little_is_refused(tmp_path: Path) -> None:
    (tmp_path / "silent.py.txt").write_text("# class: time\nwhile True:\n    pass\n")
    with pytest.raises(ValueError, match="silent"):
        read(tmp_path / "silent.py.txt")


# -- the trials --------------------------------------------------------------------------------------------------------


@cache
def refused(backend: str) -> str:
    """Why a back end does not hold on this machine; "" where it does."""
    report = next(iter(probe([backend])))
    return "" if report.holds else f"{backend} does not hold here: {report.reason}"


def attempt(
    backend: str, folder: Path, *words: str, python: str = sys.executable, user: int | None = None
) -> dict[str, Any]:
    """The report of a trial; the trainer must live to write it."""
    folder.chmod(0o777)
    file = folder / "report.json"
    environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    other: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    command = [python, "-m", "tests.attacks.trial", backend, "--report", str(file), *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False, **other
    )
    assert file.is_file(), f"the trainer died with {done.returncode}: {done.stderr[-3000:]}"
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    print(f"\n{trial.table(report)}")
    return report


def judge(report: dict[str, Any], backend: str) -> None:
    """No file got through but the exceptions, those did (or else they are none), and nothing is left."""
    faults = {row["name"]: row["faults"] for row in report["rows"] if row["faults"]}
    allowed = EXCEPTIONS[backend]
    assert {name: told for name, told in faults.items() if name not in allowed} == {}
    assert allowed.keys() & {row["name"] for row in report["rows"]} <= faults.keys(), "an exception is none any more"
    assert [told for told in report["after"] if told.split()[0] not in allowed] == []
    assert report["backend"] == backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if reason := refused(request.param):
        pytest.skip(reason)
    return request.param


QUICK = "secrets,forgery,value,network,kill,honest_loop,honest_stdio,honest_tests,honest_threads"


def test_quickly(backend: str, tmp_path: Path) -> None:
    judge(attempt(backend, tmp_path, "--only", QUICK), backend)


@pytest.mark.slow
def test_all(backend: str, tmp_path: Path) -> None:
    """Every file, then all of them through the code executor in one call. What is killed for its CPU time has used at
    most 0.2 s more than it was given."""
    report = attempt(backend, tmp_path, "--batch")
    judge(report, backend)
    assert len(report["rows"]) == len(gallery())
    assert max(row["over"] for row in report["rows"] if row["name"] in trial.OVERSHOOT) <= 0.2


@pytest.mark.slow
def test_all_as_somebody_without_rights(backend: str, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("test_all was run without rights already")
    python = readable_interpreter()
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.getuid() and "pytest" in above.name:
            above.chmod(0o755)
    report = attempt(backend, tmp_path, python=python, user=NOBODY)
    assert report["uid"] == NOBODY
    judge(report, backend)


def readable_interpreter() -> str:
    """A Python >= 3.11 that a user without rights can run, and who can read this checkout; else the test is skipped."""
    code = f"import sys; open({str(FOLDER / 'time_spin.py.txt')!r}); sys.exit(sys.version_info < (3, 11))"
    for python in INTERPRETERS:
        if os.access(python, os.X_OK):
            try:
                done = subprocess.run([python, "-c", code], user=NOBODY, group=NOBODY, extra_groups=[], check=False)
            except PermissionError:
                continue
            if done.returncode == 0:
                return python
    pytest.skip("a user without rights cannot run any Python >= 3.11 here, or cannot read this checkout")


@pytest.mark.slow
def test_honest_programs_pass_on_a_loaded_machine(backend: str, tmp_path: Path) -> None:
    """Four busy processes for each core: CPU time counts and not the clock's."""
    busy = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    load = [subprocess.Popen(busy) for _ in range(4 * len(os.sched_getaffinity(0)))]
    try:
        report = attempt(backend, tmp_path, "--only", HONEST)
    finally:
        for process in load:
            process.kill()
            process.wait()
    judge(report, backend)
    assert len(report["rows"]) == CLASSES[HONEST]
