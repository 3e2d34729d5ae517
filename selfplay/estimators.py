"""Advantage estimators by name: from the values of a batch's turns to one advantage per turn, which its tokens share.

All read the same values (``credit.values``, shapes included). They differ in whom a turn is compared with: its siblings
(lsp_mean, grpo_std, rloo, max_rl), its siblings or else its cousins (hierarchical) or all of its role (role_mean),
everybody in the batch (reinforce_pp), all who have its task and role (trr_pp), its role's past (rae_ema), or nobody,
where winning is all that counts (winner_only). turn_level pays a turn by what comes after it.

A turn with nobody to be compared with has advantage 0 and is counted; equal peers have exactly 0. The order of the
episodes changes nothing, except for rae_ema, which learns from one game after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from selfplay.compared import GrpoStd, Hierarchical, LspMean, MaxRL, Rloo, RoleMean
from selfplay.compose import did_you_mean
from selfplay.credit import Estimator, Shape
from selfplay.peers import Shaped
from selfplay.rae import RaeEma
from selfplay.shapes import make_shapes
from selfplay.teams import Teams
from selfplay.turnwise import TurnLevel
from selfplay.whitening import ReinforcePP, ReinforcePPBaseline, TrrPP
from selfplay.winners import WinnerOnly

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "GrpoStd",
    "Hierarchical",
    "LspMean",
    "MaxRL",
    "RaeEma",
    "ReinforcePP",
    "ReinforcePPBaseline",
    "Rloo",
    "RoleMean",
    "Teams",
    "TrrPP",
    "TurnLevel",
    "WinnerOnly",
    "make_estimator",
]

ESTIMATORS: dict[str, Callable[[Mapping[str, str | Shape] | None], Estimator]] = {
    "lsp_mean": LspMean,
    "grpo_std": GrpoStd,
    "rloo": Rloo,
    "rae_ema": RaeEma,
    "trr_pp": TrrPP,
    "reinforce_pp": ReinforcePP,
    "reinforce_pp_baseline": ReinforcePPBaseline,
    "hierarchical": Hierarchical,
    "max_rl": MaxRL,
    "winner_only": WinnerOnly,
    "role_mean": RoleMean,
    "turn_level": TurnLevel,
}
"""The estimators by name, each made of the roles' shapes; what else one takes is given to its class."""


def make_estimator(
    credit: str | Estimator = "lsp_mean",
    shape: Mapping[str, str | Shape] | None = None,
    teams: Mapping[str, Sequence[str]] | None = None,
) -> Estimator:
    """The estimator that ``credit`` names, or ``credit`` itself, with the shapes of the roles (``make_shapes``), and on
    what ``teams`` share (``Teams``) where there are any.

    Raises ``ValueError`` for an unknown name, or where an estimator that is given as an object cannot take the shapes.
    """
    if teams:
        return Teams(teams, make_estimator(credit, shape))
    if isinstance(credit, str):
        if credit not in ESTIMATORS:
            raise ValueError(
                f"credit={credit!r} is unknown{did_you_mean(credit, ESTIMATORS)}: use {', '.join(ESTIMATORS)}"
            )
        return ESTIMATORS[credit](shape)
    if not callable(credit):
        raise ValueError(f"credit={credit!r} is neither a name nor an estimator: use {', '.join(ESTIMATORS)}")
    if shape:
        if not isinstance(credit, Shaped):
            raise ValueError(f"{type(credit).__name__} takes no shapes, so leave the key shape out")
        if credit.shape:
            raise ValueError(f"{type(credit).__name__} has shapes of its own, so leave the key shape out")
        credit.shape = make_shapes(shape)
    return credit
