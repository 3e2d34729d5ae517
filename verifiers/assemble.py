"""From a node of the configuration to verifiers, each where its deadline can be kept.

| A verifier that | runs | and at its deadline |
|---|---|---|
| says nothing of itself: a user's plugin, a small rule | in a worker process of its own | the worker is killed |
| has ``runs_in = "thread"``: it keeps killable workers or network time-outs itself | in a thread | its own are ended |
| has ``runs_in = "main"``, or is given a live model | in the main thread | it is cancelled, or interrupted |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, cast

from selfplay.compose import ConfigError, targets
from selfplay.types import Verifier
from verifiers.isolated import isolate
from verifiers.slots import ours


def assemble(
    node: Mapping[str, Any],
    build: Callable[[Mapping[str, Any]], Verifier],
    *,
    allow: Sequence[str] = (),
    memory_mib: int = 4096,
) -> Verifier:
    """The verifier that a resolved ``node`` describes. A composite of ours (a panel, a spoiled verifier) has its
    members assembled one by one. ``build`` makes an object of a node; ``memory_mib`` bounds each worker. Raises
    ``ConfigError``."""
    target = str(node.get("_target_", ""))
    kind = ours(target)
    if getattr(kind, "composite", False):
        members = {
            key: assemble(cast("dict[str, Any]", value), build, allow=allow, memory_mib=memory_mib)
            for key, value in node.items()
            if isinstance(value, dict) and "_target_" in value
        }
        rest = {key: value for key, value in node.items() if key not in members}
        composite = cast("Callable[..., Verifier]", build({**rest, "_partial_": True}))  # OmegaConf holds no verifiers
        try:
            return composite(**members)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{target}: {error}") from error
    _refuse_parts(node, kind)
    live = any(name.startswith("models.") for name in targets(dict(node)))
    if live or (kind is not None and getattr(kind, "runs_in", "worker") != "worker"):
        return build(node)
    return isolate(node, allow, memory_mib) or build(node)


def _refuse_parts(node: Mapping[str, Any], kind: object | None) -> None:
    """A verifier of ours that is given others, which it does not take, was meant to sit beside them."""
    if not callable(kind):
        return
    known = signature(kind).parameters
    parts = [key for key, value in node.items() if isinstance(value, dict) and "_target_" in value and key not in known]
    if parts and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        name = str(node["_target_"]).split(".")[-2]
        raise ConfigError(
            f"verifier={name} is one verifier and takes no part {parts[0]!r}; several sit side by side in a panel: "
            f"verifier=panel verifier/parts=[{name},<another>@{parts[0]}]"
        )
