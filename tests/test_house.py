"""The rules of the house: who may import whom, how large a file may be, and that configurations agree with classes."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import hydra
import pytest
import yaml

from learners.keys import OptimizerKeys
from learners.step import OptimizerStep
from selfplay.compose import OURS, register_resolvers

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
FOLDERS = (*OURS, "benchmarks", "tests")
MAX_LINES = 300

MAY_IMPORT = {
    "selfplay": {"selfplay"},
    "envs": {"envs"},
    "agents": {"agents", "selfplay"},
    "verifiers": {"verifiers", "selfplay"},
    "models": {"models", "selfplay"},
    "learners": {"learners", "models", "selfplay"},
}
"""Folder -> what of ours it may import, inside functions too."""

OWNERS = {
    "torch": {"models", "learners", "verifiers"},
    "transformers": {"models", "learners", "verifiers"},
    "gymnasium": {"envs"},
    "pettingzoo": {"envs"},
    "sympy": {"verifiers"},
}
"""Third party -> the folders that may import it. The testing kit may borrow PettingZoo's own tests in a function."""

EVALUATES = {"eval", "exec", "__import__"}
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


class Import(NamedTuple):
    """One imported module, its first name, and whether it is imported when the file is."""

    module: str
    package: str
    at_once: bool


def sources(*folders: str) -> list[Path]:
    return [ROOT / "main.py"] * ("main.py" in folders) + sorted(
        file for folder in folders if folder != "main.py" for file in (ROOT / folder).rglob("*.py")
    )


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(node: ast.AST, at_once: bool = True) -> Iterator[Import]:
    """Every import below a node. ``if TYPE_CHECKING`` counts as not at once: it never runs."""
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        modules: list[str] = []
        if isinstance(child, ast.Import):
            modules = [name.name for name in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, f"line {child.lineno}: a relative import hides which folder it reaches into"
            modules = [child.module or ""]
        yield from (Import(module, module.split(".")[0], at_once) for module in modules)
        yield from imports(child, at_once and not later)


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# -- who imports whom ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", OURS)
def test_a_folder_imports_of_ours_only_what_it_may(folder: str) -> None:
    ours = {*OURS, "benchmarks", "tests", "main"}
    for file in sources(folder):
        for found in imports(parse(file)):
            assert found.package not in ours - MAY_IMPORT[folder], f"{label(file)} imports {found.module}"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    for folder in OURS:
        for file in sources(folder):
            borrowed = library == "pettingzoo" and label(file) == "selfplay/testing.py"
            for found in imports(parse(file)):
                if found.package == library and folder not in OWNERS[library]:
                    assert borrowed and not found.at_once, f"{label(file)} imports {found.module}"


def test_main_imports_only_the_configuration_at_once() -> None:
    at_once = {found.package for found in imports(parse(ROOT / "main.py")) if found.at_once}
    assert at_once - set(sys.stdlib_module_names) == {"hydra", "omegaconf", "selfplay"}


@pytest.mark.parametrize("words", [["--cfg", "job"], ["--help"]], ids=" ".join)
def test_a_look_at_the_configuration_does_not_wait_for_torch(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "main.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hydra" in loaded, "the list of imports was not read"
    assert not loaded & {"torch", "transformers", "pettingzoo", "sympy", "matplotlib"}
    assert "env" in done.stdout and "lsp" in done.stdout


@pytest.mark.parametrize("package", OURS)
def test_our_modules_are_those_of_this_checkout(package: str) -> None:
    """``agents`` and ``verifiers`` are names of unrelated packages on the index, too."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


# -- what a file looks like ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["main.py", *FOLDERS])
def test_files_are_short_and_say_what_they_are_for(folder: str) -> None:
    files = sources(folder)
    assert files, f"{folder} holds no Python file"
    for file in files:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= MAX_LINES, f"{label(file)} has {lines} lines: what is its second concept?"
        assert ast.get_docstring(parse(file)), f"{label(file)} has no docstring"


@pytest.mark.parametrize("folder", ["main.py", *FOLDERS])
def test_nothing_is_evaluated_or_unpickled(folder: str) -> None:
    for file in sources(folder):
        tree = parse(file)
        names = {found.package for found in imports(tree)}
        assert not names & UNPICKLES, f"{label(file)} imports {names & UNPICKLES}"
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in EVALUATES, f"{label(file)}, line {node.lineno}: {called}()"
            assert called != "torch.load", f"{label(file)}, line {node.lineno}: torch.load unpickles; use safetensors"


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    homes = "|".join(("home", "root", "Users", "work", "workspace", "mnt", "opt"))  # one string would find itself
    place = re.compile(rf"(?<![\w.}}/])/(?:{homes})/\w|[A-Z]:\\Users|file://+\w")
    kinds = {".py", ".yaml", ".yml", ".toml", ".md", ".cff", ".txt", ".json", ".jsonl", ".jinja", ""}
    tops = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    deeper = (path for folder in (*FOLDERS, "conf", "docs", ".ci") for path in (ROOT / folder).rglob("*"))
    files = [path for path in (*tops, *deeper) if path.is_file() and path.suffix in kinds]
    assert ROOT / "constraints.txt" in files and ROOT / ".ci/run" in files
    for path in files:
        if "results" not in path.parts:
            found = place.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{label(path)} names {found and found[0]!r}"


# -- what is declared ------------------------------------------------------------------------------------------------


def canonical(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return {canonical(line) for lines in lists for line in lines}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("main.py", *OURS), ("verifiers", "lora", "optimizers", "vllm")),
        (("tests",), ("dev",)),
        (("benchmarks",), ("bench",)),
    ],
    ids=["run", "tests", "benchmarks"],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    known, named = packages_distributions(), declared(*extras)
    ours = {*OURS, "benchmarks", "tests", "main", "sparring_brevity", *sys.stdlib_module_names}
    for file in sources(*folders):
        for found in imports(parse(file)):
            if found.package not in ours:
                owners = {canonical(owner) for owner in known.get(found.package, [found.package])}
                assert owners & named, f"{label(file)} imports {found.module}, which pyproject.toml does not name"


def test_what_is_declared_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert re.fullmatch(r"[\w.-]+==\d[\w.]*", pin), f"{pin!r} is not a public version"
    assert declared("dev", "bench", "parquet") <= {canonical(pin) for pin in pins}


# -- configurations --------------------------------------------------------------------------------------------------

GAMES_OWN = {"name", "turns", "payoff"}
"""What makes a game of LanguageGame: a file in conf/env is there to say it."""
MODELS_OWN = {
    "model/tiny.yaml": {"path", "dtype", "device", "batch_tokens"},
    "agent/remote.yaml": {"trained"},
    "model/vllm.yaml": {"engine", "vllm"},
}
"""The embedded model is fastest, and exact, in float32 on the CPU; a remote player's words have no tokens to train."""
READ_BY = {"OptimizerKeys": OptimizerStep}
"""Keys that classes pass on: by whom they are read, and get their defaults."""
NOT_WRITTEN = {"console", "render_mode", "verifier"}
"""Arguments that are objects, or PettingZoo's, or come in by the file's own defaults list."""

CHOICES = [file for file in sorted(CONF.rglob("*.yaml")) if file.parent != CONF]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every node with a target that stands in a file."""
    if isinstance(node, dict):
        if node.get("_target_", "???") != "???":
            yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def parameters(target: str) -> dict[str, inspect.Parameter]:
    """What a class takes. Keys that it passes on as they are (``**keys: Unpack[OptimizerKeys]``) are those of the class
    that reads them, with its defaults."""
    module, _, name = target.rpartition(".")
    called = getattr(importlib.import_module(module), name)
    found = dict(inspect.signature(called).parameters)
    for key, argument in list(found.items()):
        if argument.kind is argument.VAR_KEYWORD and "Unpack[" in str(argument.annotation):
            passed_on = get_args(get_type_hints(called.__init__)[key])[0]
            read = inspect.signature(READ_BY[passed_on.__name__]).parameters
            found = {name: one for name, one in found.items() if name != key}
            found |= {name: read[name] for name in get_type_hints(passed_on)}
    return found


def test_optimizer_keys_are_those_of_the_step_that_reads_them() -> None:
    """The same names and types, and every one with a default; only ``engine`` comes besides."""
    told, read = get_type_hints(OptimizerKeys), dict(inspect.signature(OptimizerStep).parameters)
    types = get_type_hints(OptimizerStep.__init__)
    assert {name: types[name] for name in read if name != "engine"} == told
    assert all(read[name].default is not inspect.Parameter.empty for name in told)


@pytest.mark.parametrize("file", [CONF / "config.yaml", *CHOICES], ids=lambda file: file.relative_to(CONF).as_posix())
def test_a_configuration_says_what_its_class_says(file: Path) -> None:
    """Keys are arguments, literal values are the defaults, and no argument is kept from the command line. An
    experiment is there to differ, in values only."""
    name = file.relative_to(CONF).as_posix()
    group = "" if file.parent == CONF else file.parent.name
    differs = GAMES_OWN if group == "env" else MODELS_OWN.get(name, set())
    for node in nodes(yaml.safe_load(file.read_text(encoding="utf-8"))):
        arguments = parameters(node["_target_"])
        known = {key for key, argument in arguments.items() if argument.kind is not argument.VAR_KEYWORD}
        written = {key: value for key, value in node.items() if key not in ("_target_", "defaults")}
        assert set(written) <= known, f"{node['_target_']} takes no {sorted(set(written) - known)}"
        for key, value in written.items():
            default = arguments[key].default
            open_ = isinstance(value, str) and ("${" in value or value == "???")
            if group != "experiment" and key not in differs and not open_ and default is not inspect.Parameter.empty:
                assert value == default, f"{key}: {value!r} in {name}, {default!r} in {node['_target_']}"
        if group not in ("", "experiment"):
            assert known - set(written) <= NOT_WRITTEN, f"{name} does not offer {sorted(known - set(written))}"


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_choice_composes(file: Path) -> None:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", overrides=[f"{file.parent.name}={file.stem}"])
    assert cfg.env._target_ and cfg.agent._target_ and cfg.learner._target_ and cfg.model._target_
