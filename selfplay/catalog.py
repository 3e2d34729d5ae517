"""``mode=list``: everything that can be chosen, whose it is, and what it says of itself in one line.

Files are read and code is parsed, never imported: a plugin that is slow or broken is listed like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfplay.compose import ROOT, ConfigError, did_you_mean
from selfplay.plugins import Plugin, find_plugins, find_top, locate_module
from selfplay.screen import harmless

KINDS = {
    "verifier": "verifier",
    "game": "env",
    "agent": "agent",
    "learner": "learner",
    "model": "model",
    "experiment": "experiment",
    "personas": "personas",
}
"""What a thing is called -> the group in which it is chosen."""

OURS = "sparring"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of configurations, and whose it is."""

    label: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Choice:
    """One file of one group. ``hidden_by`` is the source whose file of the same name comes first, ``""`` if none;
    ``error`` says why it cannot be used, as far as that shows without running it."""

    kind: str
    name: str
    line: str
    source: str
    hidden_by: str = ""
    error: str = ""


def show(kind: str | None = None) -> None:
    """Print what can be chosen: a table on a terminal, a line for each choice elsewhere. Only inside a Hydra run, which
    knows the search path. Raises ``ConfigError``."""
    plugins = find_plugins()
    found = choices(search_path(plugins), kind)
    unusable = [plugin for plugin in plugins if plugin.folder is None]
    console = Console()
    if not console.is_terminal:
        for choice in found:
            state = f"  [{_state(choice)}]" if _state(choice) else ""
            print(harmless(f"{_word(choice)}  {choice.line}  ({choice.source}){state}", console, lines=True))
        for plugin in unusable:
            print(harmless(f"plugin {plugin.name}  [broken: {plugin.error}]  ({plugin.label})", console, lines=True))
        return
    for named in KINDS if kind is None else (kind,):
        console.print(_table(named, [choice for choice in found if choice.kind == named], console))
    for plugin in unusable:
        told = f"plugin {plugin.name} ({plugin.label}) is broken: {plugin.error}"
        console.print(Text(harmless(told, console), "red"))
    console.print(Text("Start your own: python main.py mode=new kind=verifier name=<its name>", "dim"))


def search_path(plugins: Sequence[Plugin]) -> list[Source]:
    """The folders in which this Hydra run looks, in its order: what comes first hides what comes later."""
    from hydra.core.hydra_config import HydraConfig

    labels = {plugin.folder: plugin.label for plugin in plugins}
    packages = {plugin.package: plugin.folder for plugin in plugins}
    found: list[Source] = []
    for source in cast("Any", HydraConfig.get()).runtime.config_sources:
        folder = packages.get(source.path) if source.schema == "pkg" else Path(source.path).resolve()
        if source.provider in ("hydra", "schema") or folder is None:
            continue
        label = OURS if folder == ROOT / "conf" else labels.get(folder, _short(folder))
        found.append(Source(label, folder))
    return found


def choices(sources: Sequence[Source], kind: str | None = None) -> list[Choice]:
    """Every file of the sources, by kind, then name, then source. Raises ``ConfigError`` for an unknown kind."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"kind={kind} is unknown{did_you_mean(kind, KINDS)}: {', '.join(KINDS)}")
    found: list[Choice] = []
    for named in KINDS if kind is None else (kind,):
        first: dict[str, str] = {}  # name -> the source that has it
        here: list[Choice] = []
        for source in sources:
            for file in sorted((source.folder / KINDS[named]).rglob("*.yaml")):
                name = file.relative_to(source.folder / KINDS[named]).with_suffix("").as_posix()
                line, error = describe(file, KINDS[named])
                here.append(Choice(named, name, line, source.label, first.get(name, ""), error))
                first.setdefault(name, source.label)
        found += sorted(here, key=lambda choice: choice.name)  # stable: the hidden one stands below
    return found


def describe(file: Path, group: str) -> tuple[str, str]:
    """What a file says of itself in one line, and what is wrong with it (``""`` if nothing shows)."""
    try:
        text = file.read_text(encoding="utf-8")
        content: object = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return "", f"not readable as YAML: {str(error).splitlines()[0]}"
    if not isinstance(content, dict):
        return first_comment(text), "holds no keys"
    settings = cast("dict[str, Any]", content)
    inside = settings.get(group)  # a file for the whole configuration keeps its node under the group's name
    node = cast("Mapping[str, Any]", inside) if isinstance(inside, dict) and "_target_" not in settings else settings
    target = str(node.get("_target_", "???"))
    if target == "???":  # given by its defaults list, or on the command line
        return first_comment(text), ""
    said, error = read_target(target)
    return first_comment(text) or said, error


def first_comment(text: str) -> str:
    """The first line of the comment at the head of a file, ``# @package`` aside; dots where its sentence goes on."""
    head = list(takewhile(lambda line: line.startswith("#") or not line.strip(), text.splitlines()))
    told = [line.lstrip("#").strip() for line in head]
    told = [line for line in told if line and not line.startswith("@package")]
    goes_on = len(told) > 1 and told[0][-1] not in ".:!?)"
    return f"{told[0]} ..." if goes_on else "".join(told[:1])


def read_target(target: str) -> tuple[str, str]:
    """The first sentence of the docstring of a class or function, and what is wrong (``""`` if nothing shows), from its
    source. What stands in a C extension, or is made when the module runs, is not looked into."""
    parts = target.split(".")
    if find_top(parts[0]) is None:
        return "", f"_target_ {target}: there is no package {parts[0]} on the path"
    for length in range(len(parts) - 1, 0, -1):
        file = locate_module(".".join(parts[:length]))
        if file is not None:
            return _read_name(file, parts[length], target)
    return "", ""


def _read_name(file: Path, name: str, target: str) -> tuple[str, str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        return "", f"_target_ {target}: {file.name} cannot be read: {error}"
    for node in _statements(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].strip(), ""
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
            (alias.asname or alias.name.split(".")[0]) in (name, "*") for alias in node.names
        ):
            return "", ""  # it comes from elsewhere
        bound = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        if name in bound or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__"):
            return "", ""
    return "", f"_target_ {target}: {file.name} defines no {name}"


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Those of the module itself, also within its if, try and with."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop(0)
        yield statement
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            waiting += [
                child for child in ast.walk(statement) if isinstance(child, ast.stmt) and child is not statement
            ]


def _table(kind: str, found: Sequence[Choice], console: Console) -> Table:
    table = Table(
        title=f"{kind} ({KINDS[kind]}=...)", title_justify="left", title_style="bold", box=None, padding=(0, 1)
    )
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    table.add_column("from", overflow="fold")
    for choice in found:
        state = _state(choice)
        style = "red" if choice.error else "dim" if choice.hidden_by else ""
        told = (choice.name, f"{choice.line} [{state}]".strip() if state else choice.line, choice.source)
        table.add_row(*(Text(harmless(cell, console), style) for cell in told))
    return table


def _state(choice: Choice) -> str:
    hidden = f"hidden: {choice.hidden_by} has this name, too, and comes first" if choice.hidden_by else ""
    return ", ".join(part for part in (f"broken: {choice.error}" if choice.error else "", hidden) if part)


def _word(choice: Choice) -> str:
    """What to type."""
    return f"{KINDS[choice.kind]}={choice.name}"


def _short(folder: Path) -> str:
    """A folder as its user would write it."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if here in folder.parents else str(folder)
