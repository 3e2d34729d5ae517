"""The plugins that are installed: packages that offer a folder of configurations by an entry point.

They are found without importing any of their code: one that is slow or broken costs nothing to those who do not use it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

PLUGINS = "sparring.conf"
"""The entry-point group; each value is a package, ``sparring_brevity.conf``, whose folder holds ``verifier/``, ..."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point: its name, the package that it points to, and whose it is. ``folder`` is None where there is
    nothing to use; ``error`` then says why."""

    name: str
    package: str
    distribution: str
    version: str
    folder: Path | None
    error: str = ""

    @property
    def label(self) -> str:
        """``sparring-brevity 0.1.0``."""
        return f"{self.distribution} {self.version}".strip()


def find_plugins() -> list[Plugin]:
    """Every installed plugin, in order of name; the same one twice on the path counts once."""
    found: dict[tuple[str, str], Plugin] = {}
    for point in entry_points(group=PLUGINS):
        found.setdefault((point.name, point.value), _plugin(point))
    return [found[key] for key in sorted(found)]


def _plugin(point: EntryPoint) -> Plugin:
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("an unnamed package", "")
    folder = locate_folder(point.value)
    error = "" if folder else f"its entry point names {point.value}, and there is no such folder"
    return Plugin(point.name, point.value, distribution, version, folder, error)


def locate_folder(package: str) -> Path | None:
    """The folder of a dotted package, found on the path without importing it; None if there is none."""
    top, *rest = package.split(".")
    spec = find_top(top)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location, *rest)
        if folder.is_dir():
            return folder.resolve()
    return None


def locate_module(module: str) -> Path | None:
    """The source file of a dotted module, found in the same way; None if there is none (C extensions have none)."""
    top, *rest = module.split(".")
    spec = find_top(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for location in spec.submodule_search_locations or ():
        for file in (Path(location, *rest).with_suffix(".py"), Path(location, *rest, "__init__.py")):
            if file.is_file():
                return file
    return None


def find_top(package: str) -> ModuleSpec | None:
    """Where a top-level package would be imported from; None if nowhere."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
