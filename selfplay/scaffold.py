"""``mode=new``: a package of the user's own, ready to be chosen, tested and published.

The templates are the files under ``templates/<kind>``; ``{{name}}``, ``{{class}}``, ``{{package}}`` and ``{{project}}``
are filled in, in paths as well, and the ending ``.in`` falls away.
"""

from __future__ import annotations

import keyword
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from selfplay.catalog import KINDS, choices, search_path
from selfplay.compose import ConfigError, did_you_mean
from selfplay.plugins import find_plugins, find_top

TEMPLATES = Path(__file__).resolve().parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NOT_WORDS = ("null", "true", "false", "nan", "inf")
"""On the command line ``verifier=null`` means none at all."""

NEXT = {
    "verifier": """\
{folder} is a verifier of your own. Its rule is in {folder}/{package}/__init__.py

Use it at once:
  PYTHONPATH={folder} python main.py --config-dir {folder}/{package}/conf verifier={name}
Test it:
  python -m pytest {folder}
Install it, and it is a choice like the built-in ones:
  python -m pip install -e {folder}
  python main.py verifier={name}
""",
    "game": """\
{folder} is a game of your own. It is data, in {folder}/{package}/conf/env/{name}.yaml

Play it at once:
  python main.py --config-dir {folder}/{package}/conf env={name} verifier=sympy_solver
Test it:
  python -m pytest {folder}
Install it, and it is a choice like the built-in ones:
  python -m pip install -e {folder}
  python main.py env={name} verifier=sympy_solver
""",
}
"""What to type next, in a shell whose working directory is the one in which the package was made."""


def create(kind: str, name: object, into: str | None = None) -> Path:
    """Write the package and print what to do next; only inside a Hydra run, which knows the names that are taken.

    Returns its folder. Raises ``ConfigError``.
    """
    check_kind(kind)
    taken = {choice.name: choice.source for choice in choices(search_path(find_plugins()), kind)}
    folder = scaffold(kind, "" if name is None else str(name), Path(into or "."), taken)
    print(next_steps(kind, folder), end="")
    return folder


def check_kind(kind: str) -> None:
    """Raise ``ConfigError`` unless there are templates for the kind."""
    if kind not in NEXT:
        raise ConfigError(f"mode=new has no template for kind={kind}{did_you_mean(kind, NEXT)}: {', '.join(NEXT)}")


def scaffold(kind: str, name: str, into: Path, taken: Mapping[str, str]) -> Path:
    """Write ``<into>/sparring-<name>``, whole or not at all; ``taken`` maps the names in use to whose they are.

    Nothing is ever overwritten. Raises ``ConfigError``.
    """
    check_kind(kind)
    words = naming(kind, name, taken)
    folder = into / words["project"]
    if folder.exists():
        raise ConfigError(f"{folder} is there already, and nothing is overwritten: choose another name= or into=")
    top = TEMPLATES / kind
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sparring-new-", dir=into) as made:
            for template in sorted(top.rglob("*.in")):
                file = Path(made, "new", _fill(template.relative_to(top).as_posix().removesuffix(".in"), words))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(_fill(template.read_text(encoding="utf-8"), words), encoding="utf-8")
            Path(made, "new").rename(folder)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def naming(kind: str, name: str, taken: Mapping[str, str]) -> dict[str, str]:
    """What the templates ask for. Raises ``ConfigError`` for a name that cannot be one, or is in use."""
    if not name:
        raise ConfigError(f"mode=new needs a name: mode=new kind={kind} name=<what yours is called>")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if not NAME.fullmatch(name) or name in NOT_WORDS or keyword.iskeyword(class_name):
        better = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")
        usable = NAME.fullmatch(better) and better != name
        hint = f" (how about name={better}?)" if usable else ""
        raise ConfigError(f"name={name}: use small letters, digits and single underscores, and a letter first{hint}")
    if name in taken:
        raise ConfigError(f"name={name}: {KINDS[kind]}={name} is taken, by {taken[name]}; choose another name")
    package = f"sparring_{name}"
    there = find_top(package)
    if there is not None:
        raise ConfigError(f"name={name}: a package {package} is there already, {there.origin}; choose another name")
    return {"name": name, "class": class_name, "package": package, "project": package.replace("_", "-")}


def next_steps(kind: str, folder: Path) -> str:
    """The commands that work now, for a shell in the present working directory."""
    path = folder if folder.is_absolute() else Path("./") / folder
    shown = shlex.quote(str(path) if path.is_absolute() else f"./{path}")  # pip takes a bare word for a project's name
    name = folder.name.removeprefix("sparring-").replace("-", "_")
    return NEXT[kind].format(folder=shown, package=f"sparring_{name}", name=name)


def _fill(text: str, words: Mapping[str, str]) -> str:
    """Every ``{{word}}`` filled in; an unknown one is a mistake in a template and raises ``KeyError``."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], text)
