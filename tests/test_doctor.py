"""``mode=doctor``: facts turned into sentences, by hand-made facts; and the whole of it once, on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from selfplay import doctor
from selfplay.compose import ROOT, ConfigError
from selfplay.doctor import ADDS, GIB, Finding
from selfplay.machine import Machine, import_apart, look, look_at_torch, threads_asked
from selfplay.plugins import Plugin

LAPTOP = Machine(
    cores_seen=8, cores_usable=8, quota=None, load=0.5, memory=32 * GIB, memory_free=20 * GIB, disk_free=100 * GIB,
    flags=frozenset({"avx2", "avx512_bf16"}),
)  # fmt: skip
TORCH = {"version": "2.13.0", "seconds": 1.0, "devices": [], "mps": False, "cuda": None, "threads": 8}


@dataclass(frozen=True)
class Report:
    backend: str
    holds: bool
    reason: str
    attacks: tuple[str, ...]


def marks(found: Iterable[Finding]) -> dict[str, str]:
    """Subject -> its last mark."""
    return {finding.subject: finding.mark for finding in found}


def told(found: Iterable[Finding], mark: str) -> str:
    return "\n".join(finding.told for finding in found if finding.mark == mark)


def test_main_prints_what_holds_here() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "main.py", "mode=doctor"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in doctor.COLOURS for line in lines), done.stdout  # one line each, in a pipe as well
    subjects = {line.split()[1] for line in lines}
    assert subjects >= {"python", "dependencies", "cores", "memory", "disk", "torch", "sandbox", *ADDS}
    assert f"{look(ROOT).cores_usable} usable of {os.cpu_count()}" in done.stdout


# -- dependencies ----------------------------------------------------------------------------------------------------


def project(folder: Path, needed: list[str], pins: list[str], **extras: list[str]) -> Path:
    lists = "".join(f"{name} = {extras.get(name, [])}\n" for name in ("parquet", "verifiers"))
    text = f"[project]\ndependencies = {needed}\n[project.optional-dependencies]\n{lists}"
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    (folder / "constraints.txt").write_text("# tested\n" + "\n".join(pins), encoding="utf-8")
    return folder


def test_the_dependencies_of_this_checkout_are_installed() -> None:
    assert set(marks(doctor.of_dependencies(ROOT))) == {"dependencies"}
    assert not told(doctor.of_dependencies(ROOT), "FATAL")


def test_a_version_that_is_absent_too_old_or_untested(tmp_path: Path) -> None:
    from importlib.metadata import version

    rich = version("rich")
    root = project(tmp_path, ["rich>=1.0"], [f"rich=={rich}"])
    assert [finding.mark for finding in doctor.of_dependencies(root)] == ["ok"]
    root = project(tmp_path, ["rich>=1.0"], ["rich==1.0"])
    assert (
        told(doctor.of_dependencies(root), "note") == f"another version than the tested one: rich {rich} (tested: 1.0)"
    )
    root = project(tmp_path, ["rich>=999", "no-such-thing>=1"], [])
    fatal = told(doctor.of_dependencies(root), "FATAL")
    assert f"rich {rich} is not rich>=999: " in fatal and "no-such-thing not installed: run `make play`, or " in fatal
    assert "-m pip install -c constraints.txt 'rich>=999'" in fatal
    root = project(tmp_path, ["rich>=1,<2"], [])
    assert "is not rich>=1,<2" in told(doctor.of_dependencies(root), "FATAL")


@pytest.mark.parametrize(
    ("found", "requirement", "good"),
    [
        ("1.10.0", "x>=1.9", True),  # numbers, not text
        ("1.9", "x>=1.10", False),
        ("2.0", "x>=2.0.0", True),
        ("2.13.0+cu130", "x>=2.13", True),
        ("1.5", "x>=1.3,<1.5", False),
        ("1.4.9", "x[extra]>=1.3,<1.5", True),
        ("3.0rc1", "x>=2", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, requirement: str, good: bool) -> None:
    assert doctor._satisfies(found, requirement) is good


def test_every_optional_package_says_what_it_adds() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {doctor._name(line) for line in extras["parquet"] + extras["verifiers"]} == set(ADDS)


def test_what_is_lacking_comes_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path, [], [], verifiers=["no-such-thing[fast]>=1"])
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(doctor.of_extras(root))
    assert marks(found) == {"no-such-thing": "lacks", "cc": "lacks", "bwrap": "lacks"}
    assert "pip install -c constraints.txt 'no-such-thing[fast]>=1'" in found[0].told
    assert "apt-get install bubblewrap" in found[2].told
    (tmp_path / "cc").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "cc").chmod(0o755)
    assert marks(doctor.of_extras(root))["cc"] == "ok"


# -- the machine -----------------------------------------------------------------------------------------------------


def test_a_good_machine_is_ok_in_every_line() -> None:
    assert set(marks(doctor.of_machine(LAPTOP, 0)).values()) == {"ok"}


@pytest.mark.parametrize(
    ("change", "threads", "said"),
    [
        ({"cores_usable": 1}, 0, "with one core, verifiers that work beside the model wait for it"),
        ({}, 16, "16 threads on 8 cores get in each other's way: runtime.threads=8"),
        ({"quota": 1.5}, 0, "8 threads on 1.5 cores get in each other's way: runtime.threads=1"),
        ({"load": 20.0}, 0, "20.0 processes share 8 cores"),
        ({"memory_free": GIB}, 0, "1.0 GiB free of 32.0: every verifier's worker"),
        ({"disk_free": GIB}, 0, "1.0 GiB free where runs are written: a checkpoint"),
    ],
)
def test_what_would_be_slow_is_said(change: dict[str, Any], threads: int, said: str) -> None:
    assert said in told(doctor.of_machine(replace(LAPTOP, **change), threads), "slow")


def test_what_the_system_does_not_tell_is_not_guessed() -> None:
    found = list(doctor.of_machine(replace(LAPTOP, memory=None, memory_free=None, load=None), 0))
    assert marks(found)["memory"] == "note"


def test_accelerators() -> None:
    gpu = {"name": "A card", "bytes": 80 * GIB, "bf16": True}
    assert told(doctor.of_torch({**TORCH, "devices": [gpu]}, LAPTOP), "ok").endswith("A card, 80 GiB")
    old = list(doctor.of_torch({**TORCH, "devices": [{**gpu, "bf16": False}]}, LAPTOP))
    assert told(old, "slow") == "A card, 80 GiB, without bfloat16: model.dtype=float32"
    assert marks(doctor.of_torch({**TORCH, "mps": True}, LAPTOP))["accelerator"] == "ok"
    none = list(doctor.of_torch(TORCH, replace(LAPTOP, flags=frozenset({"avx2"}))))
    assert marks(none) == {"torch": "ok", "accelerator": "slow", "processor": "slow"}
    assert "processor" not in marks(doctor.of_torch(TORCH, LAPTOP))
    assert "processor" not in marks(doctor.of_torch(TORCH, replace(LAPTOP, flags=None)))  # not told, not guessed


def test_a_driver_that_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "was built without CUDA" in told(doctor.of_torch(TORCH, LAPTOP), "BROKEN")
    assert "cannot use it" in told(doctor.of_torch({**TORCH, "cuda": "13.0"}, LAPTOP), "BROKEN")


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    facts = look_at_torch()
    assert isinstance(facts, dict) and facts["version"] and facts["threads"] >= 1
    assert look_at_torch(0.01) == "importing torch took more than 0 s"
    assert told(doctor.of_torch("importing torch ended with status 1: no", LAPTOP), "FATAL").endswith("no")


def test_facts_are_read_where_linux_keeps_them(tmp_path: Path) -> None:
    """150000 of 100000 microseconds are 1.5 cores, in one file or in two; a limit near 2^63 is none."""
    proc, two, one = (tmp_path / name for name in ("proc", "two", "one"))
    for folder in (proc, two, one / "cpu", one / "memory"):
        folder.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\nHugePages_Total: 0\n")
    (proc / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu amx_bf16\n")
    (two / "cpu.max").write_text("150000 100000\n")
    (two / "memory.max").write_text("524288\n")
    (one / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    (one / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (one / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    machine = look(tmp_path / "not" / "there" / "yet", proc, two)
    assert (machine.quota, machine.memory, machine.memory_free) == (1.5, 524288, 524288)
    assert machine.flags == {"fpu", "amx_bf16"} and machine.disk_free > 0 and machine.cores <= 1.5
    machine = look(tmp_path, proc, one)
    assert (machine.quota, machine.memory, machine.memory_free) == (1.5, 2048 * 1024, 1024 * 1024)
    (two / "cpu.max").write_text("max 100000\n")
    (two / "memory.max").write_text("max\n")
    machine = look(tmp_path, tmp_path, two)
    assert (machine.quota, machine.memory, machine.memory_free, machine.flags) == (None, None, None, None)


# -- plugins and sandboxes -------------------------------------------------------------------------------------------


def test_plugins_are_imported_and_their_faults_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "doc_good" / "conf" / "verifier"
    conf.mkdir(parents=True)
    (tmp_path / "doc_good" / "__init__.py").touch()
    (tmp_path / "doc_bad.py").write_text("raise OSError('no licence')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    good = Plugin("good", "doc_good.conf", "doc-good", "1.0", conf.parent)
    bad = Plugin("bad", "doc_bad.conf", "doc-bad", "1.0", tmp_path)
    absent = Plugin("absent", "doc_absent.conf", "doc-absent", "1.0", None, "there is no such folder")
    assert marks(doctor.of_plugins([good])) == {"plugin": "ok"}
    broken = told(doctor.of_plugins([bad, absent]), "BROKEN")
    assert "doc-bad 1.0, doc_bad.conf: OSError: no licence" in broken and "there is no such folder" in broken
    (conf / "x.yaml").write_text("_target_: doc_good.part.X\n", encoding="utf-8")
    assert "No module named 'doc_good.part'" in told(doctor.of_plugins([good]), "BROKEN")
    assert "doc_good" not in sys.modules
    assert told(doctor.of_plugins([]), "ok").startswith("none installed")


def test_an_import_that_hangs_or_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "doc_hangs.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    (tmp_path / "doc_ends.py").write_text("import os; os._exit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_apart(["doc_hangs"], 0.5).startswith("importing doc_hangs took more than")
    assert import_apart(["doc_ends"]) == "the import ended with status 3"
    assert import_apart(["json"]) == ""


def test_sandboxes() -> None:
    strong = Report("linux-ns", True, "", ("write", "read", "connect"))
    weak = Report("bwrap", False, "bwrap is not installed", ())
    found = list(doctor.of_sandbox(lambda: [weak, strong]))
    assert [finding.mark for finding in found] == ["note", "ok"]
    assert "linux-ns holds against 3 attacks" in told(found, "ok")
    found = list(doctor.of_sandbox(lambda: [weak]))
    assert [finding.mark for finding in found] == ["note", "BROKEN"] and "bwrap is not installed" in found[0].told
    assert marks(doctor.of_sandbox(None)) == {"sandbox": "lacks"}


def test_what_keeps_sparring_from_running_is_its_exit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In an environment whose torch cannot be found the findings are all printed, and the end is an error."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho 'No module named torch' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConfigError, match=r"Sparring cannot run here: importing torch ended .* No module named torch"):
        doctor.examine(None, tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"^FATAL +torch", printed, re.MULTILINE) and "sandbox" in printed


@pytest.mark.parametrize(("asked", "threads"), [(None, 0), ("", 0), ("3", 3), ("4,2", 4), (" 2 ", 2), ("many", 0)])
def test_the_environment_may_ask_for_threads(monkeypatch: pytest.MonkeyPatch, asked: str | None, threads: int) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS") if asked is None else monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_asked() == threads
