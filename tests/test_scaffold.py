"""``mode=new``: from nothing to ``verifier=brevity`` in a training run, in a few lines of one's own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfplay.compose import ROOT, ConfigError
from selfplay.scaffold import NEXT, naming, next_steps, scaffold

QUICK = ("steps=2", "exam.path=null", "runtime.threads=1", "runtime.tensorboard=false")
FEW = ("branch.challenger=2", "branch.solver=2")

MY_RULE = '''
    def judge(self, query: str, answer: str, reference: str) -> float:
        """1 for an even number of at most ``limit`` characters, 0 for anything else."""
        digits = answer.isascii() and answer.isdigit() and len(answer) <= self.limit
        return float(digits and int(answer) % 2 == 0)
'''
"""All that the author of this plugin writes; it takes the place of the template's ``judge``."""


def run(*words: str, path: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


def install(folder: Path, site: Path) -> None:
    command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = run(*command, "--no-build-isolation", "--target", str(site), str(folder))
    assert done.returncode == 0, done.stderr


def verdicts(run_dir: Path) -> list[tuple[str, float]]:
    """(answer, score) of every episode that was judged, in two steps that were finished."""
    assert json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["finished"] is True
    lines = (run_dir / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    episodes = [json.loads(line) for line in lines]
    return [(each["case"]["answer"], each["verdict"]["score"]) for each in episodes if each["verdict"]]


def test_a_verifier_from_mode_new_to_a_training_run_in_under_15_lines(tmp_path: Path) -> None:
    """The page's promise: scaffold, replace one method, install, choose it by name. Nothing is written into ours."""
    done = run("main.py", "mode=new", "kind=verifier", "name=even_number", f"into={tmp_path}")
    assert done.returncode == 0, done.stderr
    package = tmp_path / "sparring-even-number"
    rule = package / "sparring_even_number" / "__init__.py"
    head, method, _ = rule.read_text(encoding="utf-8").partition("\n    def judge(")
    assert method
    rule.write_text(head + MY_RULE, encoding="utf-8")
    assert len(MY_RULE.strip().splitlines()) < 15

    site = tmp_path / "site"
    install(package, site)
    words = ("verifier=even_number", "verifier.limit=2", *QUICK, *FEW, f"run_dir={tmp_path / 'run'}")
    done = run("main.py", *words, path=str(site))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    judged = verdicts(tmp_path / "run")
    assert judged
    for answer, score in judged:
        text = answer.strip()
        assert score == float(text in {str(n) for n in range(0, 100, 2)} | {f"0{n}" for n in range(0, 10, 2)}), answer
    done = run("main.py", "mode=list", "kind=verifier", path=str(site))
    assert "(sparring-even-number 0.1.0)" in done.stdout
    assert not [file for name in ("conf", "envs", "verifiers") for file in (ROOT / name).rglob("*even_number*")]


def test_what_it_prints_is_what_works(tmp_path: Path) -> None:
    """The printed commands as they stand, from another folder: at once without installing, and the tests."""
    done = run(str(ROOT / "main.py"), "mode=new", "kind=verifier", "name=brevity", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    at_once, tests, install_it, by_name = (shlex.split(command) for command in commands)
    assert install_it == ["python", "-m", "pip", "install", "-e", "./sparring-brevity"]
    assert by_name == ["python", "main.py", "verifier=brevity"]

    assert at_once[:3] == ["PYTHONPATH=./sparring-brevity", "python", "main.py"]
    words = (*at_once[3:], *QUICK, *FEW, f"run_dir={tmp_path / 'run'}")
    done = run(str(ROOT / "main.py"), *words, path="./sparring-brevity", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    judged = verdicts(tmp_path / "run")
    assert judged and all(score == float(0 < len(answer.strip()) <= 200) for answer, score in judged)

    done = run(*tests[1:-1], str(tmp_path / tests[-1]), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout


def test_a_game_from_mode_new_is_played_and_passes_its_own_tests(tmp_path: Path) -> None:
    done = run("main.py", "mode=new", "kind=game", "name=two_minds", f"into={tmp_path}")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "sparring-two-minds"
    play = next(line for line in done.stdout.splitlines() if "--config-dir" in line)
    done = run(*shlex.split(play)[1:], *QUICK, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = (tmp_path / "run" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    roles = {tuple(turn["role"] for turn in json.loads(line)["turns"]) for line in lines}
    assert ("asker", "drafter", "improver", "verifier") in roles
    done = run("-m", "pytest", str(folder), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("kind", NEXT)
def test_the_package_is_complete_and_clean(kind: str, tmp_path: Path) -> None:
    """Nothing is left to fill in, the YAML says what the class says, and a linter has nothing to say."""
    folder = scaffold(kind, "word_count", tmp_path, {})
    assert folder == tmp_path / "sparring-word-count" and list(tmp_path.iterdir()) == [folder]
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    group = {"verifier": "verifier", "game": "env"}[kind]
    conf = f"sparring_word_count/conf/{group}/word_count.yaml"
    assert files == {
        "README.md", "pyproject.toml", "sparring_word_count/__init__.py", "sparring_word_count/conf/__init__.py", conf,
        "tests/test_word_count.py",
    }  # fmt: skip
    for file in files:
        text = (folder / file).read_text(encoding="utf-8")
        assert "{{" not in text and text.endswith("\n") and not text.endswith("\n\n"), file
    node = yaml.safe_load((folder / conf).read_text(encoding="utf-8"))
    if kind == "verifier":
        assert node == {"_target_": "sparring_word_count.WordCount", "limit": 200}
    for command in (("check",), ("format", "--check")):
        done = run("-m", "ruff", *command, "--isolated", "--line-length", "120", ".", cwd=folder)
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = scaffold("verifier", "brevity_here", tmp_path, {})
    mine = folder / "README.md"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already, and nothing is overwritten"):
        scaffold("verifier", "brevity_here", tmp_path, {})
    assert mine.read_text(encoding="utf-8") == "mine"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        scaffold("verifier", "brevity_here", tmp_path / "file", {})
    assert scaffold("verifier", "brevity_here", tmp_path / "new" / "folder", {}).is_dir()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "mode=new needs a name"),
        ("Brevity", r"how about name=brevity\?"),
        ("WordCount", r"how about name=word_count\?"),
        ("word-count", r"how about name=word_count\?"),
        ("2short", "a letter first$"),
        ("a__b", r"how about name=a_b\?"),
        ("none", "small letters"),  # class None
        ("null", "small letters"),  # verifier=null is no verifier
        ("a/../../b", "small letters"),
        ("a b\n", "small letters"),
        ("random", "verifier=random is taken, by sparring"),
    ],
)
def test_a_name_that_cannot_be_one(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        naming("verifier", name, {"random": "sparring"})


@given(st.text(max_size=12))
def test_any_name_is_usable_or_refused(name: str) -> None:
    """What is accepted is one path component, one identifier, and one word to Hydra."""
    try:
        words = naming("verifier", name, {})
    except ConfigError:
        return
    assert words["class"].isidentifier() and words["package"].isidentifier() and name.isascii() and name == name.lower()
    assert "/" not in words["project"] and words["project"] == f"sparring-{name}".replace("_", "-")


def test_a_package_of_that_name_is_not_shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sparring_elsewhere.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="a package sparring_elsewhere is there already"):
        naming("verifier", "elsewhere", {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kind=agent", "name=mine"), "mode=new has no template for kind=agent: verifier, game"),
        (("kind=gmae", "name=mine"), "(did you mean game?): verifier, game"),
        (("name=sympy_solver",), "verifier=sympy_solver is taken, by sparring"),
        (("kind=game", "name=lsp"), "env=lsp is taken, by sparring"),
        ((), "mode=new needs a name: mode=new kind=verifier name="),
    ],
)
def test_a_wrong_word_is_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run("main.py", "mode=new", f"into={tmp_path}", *words)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_path_with_a_space_is_quoted(tmp_path: Path) -> None:
    printed = next_steps("verifier", tmp_path / "my plugins" / "sparring-brevity")
    (tested,) = (line for line in printed.splitlines() if "-m pytest" in line)
    assert shlex.split(tested) == ["python", "-m", "pytest", str(tmp_path / "my plugins" / "sparring-brevity")]
