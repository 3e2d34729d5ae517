"""Which models a learner trains: what a checkpoint has to hold beside the learner's own state."""

from __future__ import annotations

from typing import Any

ALONE = "learner"


def trained(learner: Any) -> dict[str, Any]:
    """The engines by name: a learner of others tells of theirs (``engines``), any other one has its ``engine``, which
    is called ``learner``; none for one that trains no model."""
    told = getattr(learner, "engines", None)
    if told is not None:
        return dict(told)
    engine = getattr(learner, "engine", None)
    return {} if engine is None else {ALONE: engine}
