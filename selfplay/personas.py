"""Personas that play by settings of their own: another way to sample, or an adapter on the model that all share.

A member of a cast may have ``sampling: {temperature, top_p, max_tokens}`` and ``adapter: <folder that peft wrote>``.
Such a persona has a player of its own, who sits wherever the persona does; all others are played by whoever plays the
role, in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig

from selfplay.compose import ConfigError, did_you_mean, resolved

SAMPLING = ("temperature", "top_p", "max_tokens")


def persona_players(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The agent node of every persona of the game that has sampling or an adapter, by its name: ``agent`` with these
    in place of its own. Raises ``ConfigError``.

    The adapter's engine is frozen, and shares what it can with the model where nobody trains that.
    """
    nodes: dict[str, dict[str, Any]] = {}
    told = resolved(cfg.env).get("personas")
    members: Any = cast("Mapping[str, Any]", told).get("members") if isinstance(told, Mapping) else None
    for number, member in enumerate(cast("list[dict[str, Any]]", members or [])):  # the game has read them already
        place = f"personas.members[{number}]"
        sampling, adapter = member.get("sampling"), member.get("adapter")
        if sampling is None and adapter is None:
            continue
        name = str(member["name"]).strip()  # as the game reads it
        if name in cfg.seats:
            raise ConfigError(f"{place} has a player of its own, and seats.{name} names another: drop one of the two")
        nodes[name] = _player(cfg, place, sampling or {}, adapter)
    return nodes


def _player(cfg: DictConfig, place: str, sampling: object, adapter: object) -> dict[str, Any]:
    node = resolved(cfg.agent)
    if not isinstance(sampling, Mapping):
        raise ConfigError(f"{place}.sampling={sampling!r} is not a mapping of {', '.join(SAMPLING)}")
    for key, value in cast("Mapping[str, Any]", sampling).items():
        if key not in SAMPLING:
            raise ConfigError(
                f"{place}.sampling has an unknown key {key!r}{did_you_mean(key, SAMPLING)}: {', '.join(SAMPLING)}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{place}.sampling.{key}={value!r} is not a number")
        if key not in node:
            raise ConfigError(f"{place}.sampling.{key}: agent={node['_target_']} does not sample by it; use agent=llm")
        node[key] = value
    if adapter is None:
        return node
    if not isinstance(adapter, str) or not adapter:
        raise ConfigError(f"{place}.adapter={adapter!r} is not a folder")
    if "engine" not in node:
        raise ConfigError(f"{place}.adapter: agent={node['_target_']} has no model to put it on; use agent=llm")
    untrained = cfg.mode != "train" or cfg.learner.get("_target_") == "learners.frozen.Frozen"
    engine = {"_target_": "models.adapted", "model": node["engine"], "adapter": adapter, "share": untrained}
    return {**node, "engine": engine, "trained": False}
