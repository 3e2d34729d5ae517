"""``mode=list``: every choice is there with its line and its source, and nothing of a plugin runs to find it out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfplay.catalog import KINDS, Choice, Source, choices, describe, first_comment, read_target
from selfplay.compose import ROOT, ConfigError
from selfplay.plugins import find_plugins, locate_folder, locate_module

OURS = Source("sparring", ROOT / "conf")


def listed(*words: str, path: Path | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "COLUMNS": "100"}
    command = [sys.executable, str(ROOT / "main.py"), "mode=list", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def plugin(site: Path, name: str, code: str = "", folder: bool = True, **files: str) -> None:
    """An installed distribution: its metadata, its package, and ``conf/verifier/<file>.yaml``."""
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[sparring.conf]\n{name} = {name}.conf\n", encoding="utf-8")
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(code, encoding="utf-8")
    if folder:
        (site / name / "conf" / "verifier").mkdir(parents=True)
        (site / name / "conf" / "__init__.py").touch()
    for file, text in files.items():
        (site / name / "conf" / "verifier" / f"{file}.yaml").write_text(text, encoding="utf-8")


def test_everything_of_ours_is_listed_with_a_line_and_without_a_fault() -> None:
    found = choices([OURS])
    for kind, group in KINDS.items():
        names = [choice.name for choice in found if choice.kind == kind]
        assert names == sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml")) and names
    for choice in found:
        assert choice.line and not choice.error and not choice.hidden_by, choice
    assert Choice("verifier", "random", "Control: a reward without any signal.", "sparring") in found


def test_main_prints_one_line_for_each_and_does_not_wait_for_torch() -> None:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "main.py", "mode=list"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    lines = done.stdout.splitlines()
    assert "verifier=random  Control: a reward without any signal.  (sparring)" in lines
    assert sum("(sparring)" in line for line in lines) == len(choices([OURS]))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "rich.table" in loaded and not loaded & {"torch", "transformers", "pettingzoo", "sympy", "numpy"}
    assert seconds < 60  # below 1 s on an idle machine; this one may be shared


def test_a_plugin_is_listed_and_none_of_its_code_runs(tmp_path: Path) -> None:
    """One that would end the interpreter, one that names a class that is not there, one without a folder."""
    plugin(tmp_path, "grim", "raise SystemExit(9)\n\nclass Grim: ...", grim="# Never laughs.\n_target_: grim.Grim\n")
    plugin(tmp_path, "vain", "", vain="_target_: vain.Absent\n", broken="a: [", nowhere="_target_: not_there.X\n")
    plugin(tmp_path, "empty", folder=False)
    done = listed("kind=verifier", path=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "(grim" in line or "(vain" in line}
    assert lines["verifier=grim"] == "verifier=grim  Never laughs.  (grim 1.2)"
    assert "broken: _target_ vain.Absent: __init__.py defines no Absent" in lines["verifier=vain"]
    assert "broken: not readable as YAML" in lines["verifier=broken"]
    assert "broken: _target_ not_there.X: there is no package not_there" in lines["verifier=nowhere"]
    assert "plugin empty  [broken: its entry point names empty.conf, and there is no such folder]" in done.stdout
    assert "\nenv=" not in done.stdout and "Traceback" not in done.stderr


def test_a_name_of_ours_hides_a_plugins(tmp_path: Path) -> None:
    plugin(tmp_path, "rival", "class Rival: ...", random="# Mine.\n_target_: rival.Rival\n")
    done = listed("kind=verifier", path=tmp_path)
    mine, theirs = (line for line in done.stdout.splitlines() if line.startswith("verifier=random"))
    assert mine.endswith("(sparring)")
    assert theirs == "verifier=random  Mine.  (rival 1.2)  [hidden: sparring has this name, too, and comes first]"


def test_a_folder_of_ones_own_is_listed_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "my_conf" / "verifier").mkdir(parents=True)
    (tmp_path / "curt.py").write_text('class Curt:\n    """Likes it short. Really."""\n', encoding="utf-8")
    (tmp_path / "my_conf" / "verifier" / "curt.yaml").write_text("_target_: curt.Curt\n", encoding="utf-8")
    done = listed("kind=verifier", "--config-dir", "my_conf", cwd=tmp_path)
    assert "verifier=curt  Likes it short  (my_conf)" in done.stdout.splitlines(), done.stdout + done.stderr


def test_text_of_a_plugin_cannot_steer_the_terminal(tmp_path: Path) -> None:
    plugin(tmp_path, "loud", "class Loud: ...", loud="# A \u202ebell and [red]colour[/red].\n_target_: loud.Loud\n")
    done = listed("kind=verifier", path=tmp_path)
    (line,) = (line for line in done.stdout.splitlines() if "loud" in line)
    assert "\u202e" not in line and "\\u202e" in line and "[red]colour[/red]" in line


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"kind=verif is unknown \(did you mean verifier\?\): verifier, game"):
        choices([OURS], "verif")
    done = listed("kind=gaem")
    assert done.returncode == 2 and "did you mean game?" in done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# One line.\na: 1\n", "One line."),
        ("# @package _global_\n# A game.\n", "A game."),
        ("#\n# After an empty one\n", "After an empty one"),
        ("# It goes on,\n# here.\n", "It goes on, ..."),
        ("# It ends here.\n# More.\n", "It ends here."),
        ("a: 1\n# Too late.\n", ""),
        ("", ""),
    ],
)
def test_the_first_line_of_the_comment(text: str, line: str) -> None:
    assert first_comment(text) == line


def test_what_a_target_says_of_itself_is_read_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '''
raise RuntimeError("imported")
if True:
    class Inner:
        """In an if."""
class Judge:
    """Judges. And more.

    Much more.
    """
from elsewhere import Borrowed
made = Judge()
'''
    (tmp_path / "judges_here").mkdir()
    (tmp_path / "judges_here" / "__init__.py").write_text(source, encoding="utf-8")
    (tmp_path / "judges_here" / "torn.py").write_text("def (", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_target("judges_here.Judge") == ("Judges", "")
    assert read_target("judges_here.Inner") == ("In an if.", "")
    assert read_target("judges_here.Judge.method") == ("Judges", "")
    assert read_target("judges_here.Borrowed") == read_target("judges_here.made") == ("", "")
    assert "defines no Missing" in read_target("judges_here.Missing")[1]
    assert "torn.py cannot be read" in read_target("judges_here.torn.X")[1]
    assert "judges_here" not in sys.modules


def test_a_file_that_is_no_configuration_is_said_to_be_none(tmp_path: Path) -> None:
    for text, said in (("- 1\n", "holds no keys"), ("\tx", "not readable"), ("a: b: c", "not readable")):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        assert said in describe(tmp_path / "x.yaml", "verifier")[1]
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    assert "not readable" in describe(tmp_path / "x.yaml", "verifier")[1]


def test_packages_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, "quiet", "raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate_folder("quiet.conf") == (tmp_path / "quiet" / "conf").resolve()
    assert locate_folder("quiet.nothing") is None and locate_folder("no_such_package.conf") is None
    assert locate_module("quiet") == tmp_path / "quiet" / "__init__.py" and locate_module("quiet.x") is None
    (found,) = (each for each in find_plugins() if each.name == "quiet")
    assert (found.label, found.error, "quiet" in sys.modules) == ("quiet 1.2", "", False)


def test_a_mode_may_stand_alone() -> None:
    command = [sys.executable, str(ROOT / "main.py"), "list", "kind=learner"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.startswith("learner=distill"), done.stdout + done.stderr
