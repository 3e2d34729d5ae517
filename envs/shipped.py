"""The games that Sparring ships, built from their YAML files without Hydra."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from pettingzoo.utils.conversions import turn_based_aec_to_parallel
from pettingzoo.utils.env import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from envs.game import LanguageGame

FOLDER = Path(__file__).resolve().parent.parent / "conf" / "env"


def raw(name: str, wording: str = "full", max_chars: int = 16_384, **options: Any) -> LanguageGame:
    """The game of ``conf/env/<name>.yaml``; ``options`` replace the constructor's arguments."""
    OmegaConf.register_new_resolver("braces", _double_braces, replace=True)
    OmegaConf.register_new_resolver("checkout", _in_checkout, replace=True)
    facts = OmegaConf.create({"wording": wording, "max_chars": max_chars, "personas": None})
    node = OmegaConf.merge(facts, OmegaConf.load(FOLDER / f"{name}.yaml"))
    settings = cast("dict[str, Any]", OmegaConf.to_container(node.env, resolve=True))
    module, _, kind = str(settings.pop("_target_")).rpartition(".")
    return getattr(import_module(module), kind)(**{**settings, **options})


def _double_braces(text: object) -> str:
    """As a configuration writes them: a user's text inside a told template."""
    return str(text).replace("{", "{{").replace("}", "}}")


def _in_checkout(path: str) -> str:
    """As a configuration finds a file that Sparring ships."""
    return str(FOLDER.parent.parent / path)


def aec(name: str, **options: Any) -> AECEnv[str, Any, Any]:
    """The game in PettingZoo's usual wrapper, which catches a step before a reset."""
    return OrderEnforcingWrapper(raw(name, **options))


def parallel(name: str, **options: Any) -> ParallelEnv[str, Any, Any]:
    """The game under PettingZoo's parallel API: only the seat whose turn it is moves."""
    return turn_based_aec_to_parallel(raw(name, **options))
