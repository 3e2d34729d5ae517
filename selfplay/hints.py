"""What was probably meant: spellings that Hydra does not know, and the nearest name after it refused one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import yaml

from selfplay.compose import ConfigError

CONF = Path(__file__).resolve().parent.parent / "conf"


def alias(words: Sequence[str]) -> list[str]:
    """The words as Hydra wants them: ``verifier/score=x``, the part of a composed verifier, is spelled
    ``verifier@verifier.score=x``; ``verifier/parts=[x@score,y]`` puts parts into a panel, ``y`` under its own name, and
    ``verifier.score/parts=[...]`` into a panel inside it; ``seats.solver=x``, ``branch.solver=2`` and
    ``verifier.weights.score=2`` may name what the file leaves open; options stand before overrides."""
    parted = [part for word in words for part in _parts(word)]
    spelled = [re.sub(r"^verifier/(\w+)=", r"verifier@verifier.\1=", word) for word in parted]
    spelled = [re.sub(r"^(seats\.|branch\.|verifier\.(?:\w+\.)*weights\.)", r"++\1", word) for word in spelled]
    return sorted(spelled, key=lambda word: "=" in word and not word.startswith("-"))


def _parts(word: str) -> list[str]:
    """``verifier/parts=[x@score,y]`` as one word for each part; any other word as it is."""
    match = re.fullmatch(r"\+?verifier((?:\.\w+)*)/parts=\[(.*)\]", word)
    if match is None:
        return [word]
    pairs = [part.strip().partition("@") for part in match[2].split(",") if part.strip()]
    named = [(choice, name or choice) for choice, _, name in pairs]
    if not named:
        raise ConfigError(f"{word} names no verifier: verifier/parts=[sympy_solver@score]")
    settings: dict[str, object] = yaml.safe_load((CONF / "verifier" / "panel.yaml").read_text(encoding="utf-8"))
    names = [name for _, name in named]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{word}: two parts are called {name!r}; give one another name, as x@{name}_2")
        if name in settings or not name.isidentifier():
            raise ConfigError(f"{word}: a part cannot be called {name!r}; say which name it shall have, as x@score")
    return [f"+verifier@verifier{match[1]}.{name}={choice}" for choice, name in named]


def hint(words: Sequence[str], conf: Path = CONF) -> str | None:
    """A sentence that names the nearest right spelling of the first word that fits nothing, or None."""
    groups = {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in conf.iterdir() if folder.is_dir()
    }
    keys = sorted(set(_keys(conf)) | set(groups))
    for word in words:
        if word.startswith("-") or "=" not in word:
            continue
        key, _, value = word.lstrip("+~").partition("=")
        group = key.split("@")[0]
        if group in groups:
            wrong = [choice for choice in value.split(",") if choice and choice not in groups[group]]
            if wrong:
                close = get_close_matches(wrong[0], groups[group], n=1)
                said = re.sub(r"^(\w+)@\1\.(\w+)$", r"\1/\2", key)
                return f"{said}={close[0]} is the nearest choice to {wrong[0]!r}" if close else None
        elif not word.startswith("+") and key not in keys and not key.startswith(("hydra.", "seats.", "task.")):
            # A wrong last part (learner.betta) is nearest to keys of the same parent; a wrong parent to any key.
            parent = key.rpartition(".")[0]
            mates = [known for known in keys if known.rpartition(".")[0] == parent]
            close = get_close_matches(key, mates, n=1) or get_close_matches(key, keys, n=1)
            if close:
                return f"did you mean {close[0]}= instead of {key}=?"
    return None


def _keys(conf: Path) -> Iterator[str]:
    """Every dotted key of every file, from the root of the composed configuration."""
    for file in conf.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        node: object = yaml.safe_load(text)
        rooted = file.parent == conf or "@package _global_" in text.split("\n")[0]
        yield from _flatten(node, "" if rooted else file.parent.name)


def _flatten(node: object, prefix: str) -> Iterable[str]:
    if not isinstance(node, dict):
        return
    for key, value in cast("dict[str, object]", node).items():
        if key in ("defaults", "hydra"):
            continue
        dotted = f"{prefix}.{key}" if prefix else key
        yield dotted
        yield from _flatten(value, dotted)
