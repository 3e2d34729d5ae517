"""Landlock: what files a process may open, that it opens no TCP, and whom it may signal (uapi/linux/landlock.h).

It needs no privilege, and works where namespaces are refused. It knows no modes, times or names: stat(2) and chmod(2)
are not its business, so the seccomp list has to care for them.
"""

from __future__ import annotations

import os

from verifiers.sandbox.kernel import call

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK, _TRUNCATE, _IOCTL = 1 << 6, 1 << 9, 1 << 11, 1 << 14, 1 << 15
_VERSION, _PATH_BENEATH = 1, 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL

READ = _EXECUTE | _READ_FILE | _READ_DIR
LIST = _READ_DIR
WRITE = 0xFFFF & ~(_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK | _IOCTL)
SCRATCH = _READ_FILE | WRITE
"""Rights, to be combined."""


def abi() -> int:
    """The version of Landlock that this kernel has, 0 for none or one that is switched off."""
    try:
        return call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def ruleset(version: int) -> int:
    """A descriptor of a rule set that denies all that this version can deny."""
    files = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    words = [files] + [3] * (version >= 4) + [3] * (version >= 6)  # TCP bind and connect; abstract sockets, signals
    attributes = b"".join(word.to_bytes(8, "little") for word in words)
    return call("landlock_create_ruleset", attributes, len(attributes), 0)


def allow(rules: int, version: int, path: str, rights: int) -> None:
    """Allow ``rights`` at ``path`` and below it. A path that is not there needs no rule."""
    handled = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rights &= handled if os.path.isdir(path) else handled & _OF_FILES
        attributes = rights.to_bytes(8, "little") + place.to_bytes(4, "little")  # packed
        call("landlock_add_rule", rules, _PATH_BENEATH, attributes, 0)
    finally:
        os.close(place)


def restrict(rules: int) -> None:
    """Hold this process to the rules, for ever; it must have NO_NEW_PRIVS."""
    call("landlock_restrict_self", rules, 0)
    os.close(rules)
