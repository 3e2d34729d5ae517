"""Who enters a tournament: players, checkpoints and personas, as a configuration names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from selfplay.compose import (
    ConfigError,
    build,
    did_you_mean,
    load_choice,
    merge_seats,
    others_seated,
    resolved,
    roles_by_name,
)
from selfplay.personas import persona_players
from selfplay.playing import role_of
from selfplay.types import VERIFIER, Agent


@dataclass(frozen=True)
class Entrant:
    """A name, who plays, and the persona that it plays as, a member of a cast, if it is one."""

    name: str
    agent: Agent
    persona: Mapping[str, Any] | None = None


def find_entrants(cfg: DictConfig, game: Any) -> list[Entrant]:
    """``tournament.players``, ``tournament.checkpoints``, and the members of the game's cast, in this order. Raises
    ``ConfigError`` for whoever cannot play, for a name that is taken, and for fewer than two."""
    nodes = {**_players(cfg), **_checkpoints(cfg)}
    personas = {str(member["name"]).strip(): member for member in members_of(cfg)}
    for name in personas:
        if name in nodes:
            raise ConfigError(f"tournament.players.{name} has the name of a persona: call one of the two otherwise")
    own = persona_players(cfg)
    for name in personas:
        seated = cfg.seats.get(name)
        if isinstance(seated, str):
            cfg.seats[name] = load_choice("agent", seated)
        nodes[name] = own.get(name) or resolved(cfg.seats[name] if seated else cfg.agent)
    for name in nodes:
        if name in (*roles_by_name(game), *game.roles, *game.possible_agents, VERIFIER):
            raise ConfigError(f"tournament.players.{name} has the name of a role of this game: call it otherwise")
    if len(nodes) < 2:
        who = f"{next(iter(nodes))!r} alone" if nodes else "nobody"
        raise ConfigError(
            f"a tournament needs two entrants, and {who} has entered: add tournament.players=[<agent>, ...], "
            "tournament.checkpoints=[<folder>, ...] or personas=<a set>"
        )
    return [Entrant(name, build(node, cfg.allow), personas.get(name)) for name, node in nodes.items()]


def members_of(cfg: DictConfig) -> list[Mapping[str, Any]]:
    """The members of the cast that the game's personas are; none where they are no cast. Raises ``ConfigError``."""
    told = resolved(cfg.env).get("personas")
    members: Any = cast("Mapping[str, Any]", told).get("members") if isinstance(told, Mapping) else None
    if members is None:
        return []
    if not isinstance(members, list):
        raise ConfigError("personas.members must be a list of personas")
    found, names = cast("list[Mapping[str, Any]]", members), list[str]()
    for number, member in enumerate(found):
        name: object = member.get("name") if isinstance(cast("object", member), Mapping) else None
        if not isinstance(name, str) or not name.strip() or name.strip() in names:
            raise ConfigError(f"personas.members[{number}] needs a name of its own, not {name!r}")
        names.append(name.strip())
    return found


def fixed_players(cfg: DictConfig, game: Any, competing: Iterable[str]) -> dict[str, Agent]:
    """Who plays the seats that nobody competes for, by role and seat, as ``seats`` and ``agent`` say."""
    taken = set(competing)
    nodes = merge_seats(cfg, roles_by_name(game), others_seated(game))
    idle = [seat for seat in game.possible_agents if seat not in taken]
    names = {*idle, *map(role_of, idle)}
    return {name: build(node, cfg.allow) for name, node in nodes.items() if name in names}


def _players(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The agents' nodes of ``tournament.players``: a list of names of agents, or name -> name or node."""
    settings = cfg.tournament
    if not isinstance(resolved(settings).get("players") or {}, Mapping):
        listed = cast("Sequence[Any]", resolved(settings)["players"])
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ConfigError(f"tournament.players={listed!r} is neither a list of agents nor {{<name>: <agent>}}")
        if repeated := next((name for name in listed if listed.count(name) > 1), None):
            raise ConfigError(f"tournament.players has {repeated!r} twice: give them names, {{one: {repeated}, ...}}")
        settings.players = {name: name for name in listed}
    nodes: dict[str, dict[str, Any]] = {}
    for name, told in (settings.players or {}).items():
        if isinstance(told, str):
            settings.players[name] = cfg.agent if told == _own_agent() else load_choice("agent", told)
        elif not isinstance(told, DictConfig):
            raise ConfigError(f"tournament.players.{name}={told!r} is no agent: name one (mode=list kind=agent)")
        node = resolved(settings.players[name])
        if "checkpoint" in node:
            node = _from_checkpoint(cfg, node, f"tournament.players.{name}")
        elif "_target_" not in node:
            raise ConfigError(f"tournament.players.{name} says neither _target_ nor checkpoint")
        nodes[str(name)] = node
    return nodes


def _own_agent() -> str | None:
    """The name of ``agent``: who enters by it plays with its settings, and not with those of the bare file."""
    return HydraConfig.get().runtime.choices["agent"] if HydraConfig.initialized() else None


def _checkpoints(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    told: Any = resolved(cfg.tournament).get("checkpoints") or []
    if not isinstance(told, list):
        raise ConfigError(f"tournament.checkpoints={told!r} is not a list of folders: [runs/x/checkpoints/100]")
    folders = [str(folder) for folder in cast("list[object]", told)]
    if repeated := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise ConfigError(f"tournament.checkpoints has {repeated} twice")
    names = short_names(folders)
    return {
        name: _from_checkpoint(cfg, {"checkpoint": folder}, "tournament.checkpoints")
        for name, folder in zip(names, folders, strict=True)
    }


def short_names(folders: Sequence[str]) -> list[str]:
    """What to call checkpoints: ``step 100``, or with as many folders above it as tell it from the others."""
    parts = [[part for part in Path(folder).parts if part != "checkpoints"] for folder in folders]
    names: list[str] = []
    for mine in parts:
        count = 1
        while count < len(mine) and sum(other[-count:] == mine[-count:] for other in parts) > 1:
            count += 1
        step = f"step {mine[-1]}" if mine[-1].isdigit() else mine[-1]
        names.append(" ".join([*mine[-count:-1], step]))
    return names


def _from_checkpoint(cfg: DictConfig, told: Mapping[str, Any], place: str) -> dict[str, Any]:
    """``agent`` with the model of a checkpoint's folder in it, and what else ``told`` says of it."""
    folder = Path(str(told["checkpoint"]))
    model, node = resolved(cfg.model), resolved(cfg.agent)
    if model.get("_target_") != "models.load" or "engine" not in node:
        raise ConfigError(f"{place}: a checkpoint is played by agent=llm, with a model that is loaded here (model=hf)")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        inside = sorted((folder / "checkpoints").glob("[0-9]*"), key=lambda one: int(one.name))
        hint = f": did you mean {inside[-1]}?" if inside else ""
        raise ConfigError(f"{place}: {folder} is not a checkpoint, for it holds no weights of a model{hint}")
    for key in told:
        if key != "checkpoint" and (key not in node or key in ("_target_", "engine")):
            raise ConfigError(f"{place}.{key} is no setting of {node['_target_']}{did_you_mean(key, node)}")
    settings = {key: value for key, value in told.items() if key != "checkpoint"}
    engine = {**model, "path": str(folder), "lora": None, "engine": "inprocess", "vllm": None}
    return {**node, "engine": engine, "trained": False, **settings}
