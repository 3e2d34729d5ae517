"""From a configuration to live objects, by one function that builds only what it may.

A configuration can come from a stranger, and ``_target_`` names any callable: so only our packages, registered
plugins, code of the user's own project and what ``allow=[...]`` names are ever called.
"""

from __future__ import annotations

import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from selfplay.playing import role_of
from selfplay.plugins import PLUGINS, find_plugins
from selfplay.types import VERIFIER

OURS = ("agents", "envs", "learners", "models", "selfplay", "verifiers")
ROOT = Path(__file__).resolve().parent.parent


class ConfigError(ValueError):
    """A configuration that cannot be built, in one sentence."""


def register_resolvers() -> None:
    """``${plugins:}`` lists the plugins' folders for Hydra's search path; ``${braces:text}`` doubles braces, so that
    a user's text can stand inside a told template; ``${checkout:path}`` is a file that Sparring ships."""
    OmegaConf.register_new_resolver("plugins", plugin_folders, replace=True)
    OmegaConf.register_new_resolver("braces", double_braces, replace=True)
    OmegaConf.register_new_resolver("checkout", in_checkout, replace=True)


def plugin_folders() -> list[str]:
    """``file://<folder>`` of every installed plugin that has one, in order of name. As a folder and not as a package,
    which Hydra would import: a plugin that is slow or broken costs nothing to those who do not use it."""
    return [f"file://{plugin.folder}" for plugin in find_plugins() if plugin.folder]


def in_checkout(path: str) -> str:
    """The absolute path of a file that Sparring ships, wherever it is run from."""
    return str(ROOT / path)


def double_braces(text: str) -> str:
    """The text as it must be written in a format string."""
    return str(text).replace("{", "{{").replace("}", "}}")


def resolved(node: Mapping[Any, Any]) -> dict[str, Any]:
    """A node as plain lists and dicts, all references filled in: no class of ours sees OmegaConf. Raises
    ``ConfigError``."""
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is not set, and there is no usual value: {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).split("\n")[0]) from error


def build(node: Mapping[Any, Any], allow: Iterable[str] = ()) -> Any:
    """The object that a node describes, all its targets checked first. Raises ``ConfigError``."""
    from hydra.errors import InstantiationException
    from hydra.utils import get_object, instantiate

    plain = resolved(node)
    for target in targets(plain):
        check_target(target, allow)
        # A path can walk through one of our modules into what it imports: what is found there must be allowed too.
        check_target(str(getattr(get_object(target), "__module__", "nowhere")), allow)
    try:
        return instantiate(OmegaConf.create(plain, flags={"allow_objects": True}), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (TypeError, ValueError, OSError, RuntimeError)):
            raise ConfigError(f"{plain.get('_target_', 'the configuration')}: {cause}") from error
        raise ConfigError(str(error).split("\n")[0]) from error


def targets(node: object) -> Iterator[str]:
    """Every ``_target_`` below a plain node."""
    if isinstance(node, dict):
        mapping = cast("dict[str, object]", node)
        if "_target_" in mapping:
            yield str(mapping["_target_"])
        yield from targets(list(mapping.values()))
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from targets(value)


def check_targets(cfg: DictConfig) -> None:
    """Refuse a stranger's target anywhere in the configuration, before anything is loaded or written."""
    for target in targets(OmegaConf.to_container(cfg, resolve=False)):
        if target != "???":
            check_target(target, cfg.allow)


def check_target(target: str, allow: Iterable[str] = ()) -> None:
    """Raise ``ConfigError`` unless the target's package may be called from a configuration."""
    package = target.split(".")[0]
    plugins = {point.value.split(".")[0] for point in entry_points(group=PLUGINS)}
    if package in OURS or package in plugins or package in set(allow) or _beside_the_user(package):
        return
    raise ConfigError(
        f"_target_={target!r} is neither ours, nor a plugin's, nor code beside you, so it is not called: "
        f"write allow=[{package}] if you trust it"
    )


def merge_seats(cfg: DictConfig, roles: Iterable[str], others: Iterable[str] = ()) -> dict[str, Any]:
    """The agent node of every role, and of those ``others`` (seats, personas) that ``seats`` has: the one that it names
    or spells out, else ``agent``. Raises ``ConfigError`` for anybody else in ``seats``."""
    roles, others = list(roles), list(others)
    for name in cfg.seats:
        if name not in roles and name not in others:
            known = [*roles, *others]
            meant = did_you_mean(str(name), known) or f", where {', '.join(roles)} play"
            raise ConfigError(f"seats.{name}: no such role in this game{meant}")
    nodes: dict[str, Any] = {}
    for name in [*roles, *(other for other in others if other in cfg.seats and other not in roles)]:
        seated = cfg.seats.get(name)
        if seated is None:
            nodes[name] = cfg.agent
        elif isinstance(seated, str):
            cfg.seats[name] = load_choice("agent", seated)
            nodes[name] = cfg.seats[name]
        elif "_target_" not in seated:
            key = next(iter(seated), "key")
            raise ConfigError(
                f"seats.{name} has the key {key}, but nobody to play: choose who by +agent@seats.{name}=<agent>, and "
                f"then seats.{name}.{key}={seated.get(key)}"
            )
        else:
            nodes[name] = seated
    return nodes


def roles_by_name(game: Any) -> list[str]:
    """The roles that the players' seats have by their names, in order."""
    return [role for role in dict.fromkeys(map(role_of, game.possible_agents)) if role != VERIFIER]


def others_seated(game: Any) -> list[str]:
    """Whom ``seats`` may name besides the roles that seats have by their names: roles that are dealt, single seats, and
    personas."""
    cast_of = getattr(game, "cast", None)
    seats = [seat for seat in game.possible_agents if role_of(seat) != VERIFIER]
    return [*game.roles, *seats, *(cast_of.names if cast_of else ())]


def load_choice(group: str, name: str) -> DictConfig:
    """``conf/<group>/<name>.yaml``, wherever on Hydra's search path it stands."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    choices = loader.get_group_options(group, config_name="config")  # its search path leads to the plugins, too
    if name not in choices:
        raise ConfigError(f"there is no {group} {name!r}{did_you_mean(name, choices)}: {', '.join(choices)}")
    word = f"{group}={name}"
    loaded = loader.load_configuration("config", overrides=[word], run_mode=RunMode.RUN, from_shell=False)
    return loaded[group]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` for the nearest known name, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_modules() -> None:
    """Our top folders have common names: say so if an installed package hides one of them."""
    for name in OURS:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or ROOT not in origin.parents:
            raise ConfigError(f"{name!r} is taken from {origin}, not from {ROOT}: run main.py from its checkout")


def _beside_the_user(package: str) -> bool:
    """Whether the package's code lies under the working directory or on a path that the user added, and not in an
    installation."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None or not spec.origin or spec.origin in ("built-in", "frozen"):
        return spec is None  # not found at all: let the import say so by its own name
    origin = Path(spec.origin).resolve()
    installed = [sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    if any(Path(folder).resolve() in origin.parents for folder in installed):
        return False
    return any(Path(folder or ".").resolve() in origin.parents for folder in (*sys.path, "."))
