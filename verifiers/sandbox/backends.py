"""The back ends, strongest first: how a worker is started in each. Whether one holds here is for ``probe`` to find out.

Another back end is a row in ``BACKENDS`` whose ``prefix`` starts the worker's interpreter inside something (a
container, say) with the descriptor it is given left open; inside, the worker adds what it can (jail.py).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from verifiers.sandbox import tree
from verifiers.sandbox.types import SandboxUnavailable
from verifiers.sandbox.worker import INTERPRETER, ROOT


def _nothing() -> list[str]:
    return []


@dataclass(frozen=True)
class Backend:
    """``about`` in one line; ``prefix`` gives the words before the worker's own on its command line, or raises
    ``SandboxUnavailable``; ``demoted``: a worker of root's has to be another user's from the start."""

    name: str
    about: str
    prefix: Callable[[], list[str]] = _nothing
    demoted: bool = False

    def user(self) -> int | None:
        return tree.NOBODY if self.demoted and os.geteuid() == 0 else None


def _bwrap() -> list[str]:
    """Bubblewrap around the worker: for machines that let nobody else make namespaces."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable("bwrap is not installed")
    words = [program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--dev", "/dev", "--proc", "/proc"]
    library = os.path.join(sys.base_prefix, "lib")
    shown = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", library, tree.library(), os.path.realpath(INTERPRETER)]
    for path in dict.fromkeys([*shown, INTERPRETER, str(ROOT / "verifiers/sandbox")]):
        if os.path.islink(path) and path.startswith("/lib"):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", path, path]
    for path in tree.foreign():
        if any(path.startswith(one + "/") for one in (library, tree.library())):
            words += ["--tmpfs", path]
    return [*words, "--remount-ro", "/", "--chdir", "/", "--"]


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("linux-ns", "namespaces, a tree and a scratch file system of its own, Landlock, seccomp"),
        Backend("linux-landlock", "Landlock and seccomp: no scratch files, and other processes can be seen"),
        Backend("bwrap", "bubblewrap around each worker, with Landlock and seccomp inside", _bwrap, demoted=True),
        Backend("unsafe_local", "a process with limits and nothing else: it can do what you can"),
    )
}
SAFE = ("linux-ns", "linux-landlock", "bwrap")
"""What "auto" tries, in this order."""


def named(name: str) -> Backend:
    """Raises ``ValueError`` for a name that is not known."""
    try:
        return BACKENDS[name]
    except KeyError:
        raise ValueError(f"backend={name!r} is unknown: auto, {', '.join(BACKENDS)}") from None
