"""What a policy-gradient learner maximises: a ratio of probabilities times an advantage, clipped or not.

Shape legend: B completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

RATIOS = ("sequence", "token", "geometric")
CLIPS = ("none", "ppo", "cispo")
_LARGEST = 20.0
"""Of a log-ratio: beyond it exp would overflow, and a product with zero would poison the gradient."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The ratio and its clip; a callable that gives the loss per completion.

    ``ratio``: ``token``, r_t = pi(token_t) / pi_old(token_t), one per token (GRPO, arXiv 2402.03300); ``sequence``,
    the product of them, one per completion (RLOO, arXiv 2402.14740; LSP, arXiv 2509.07414); ``geometric``, their
    geometric mean, one per completion (GSPO, arXiv 2507.18071).

    ``clip``: ``none``, r A; ``ppo``, min(r A, clip(r, 1 - eps_low, 1 + eps_high) A), and with ``dual_clip`` c no less
    than c A where A < 0 (arXiv 1912.09729); ``cispo``, sg(min(r, cispo_cap)) A log pi, where no token loses its
    gradient (arXiv 2506.13585). Raises ``ValueError`` for a key that cannot be followed.
    """

    ratio: str = "sequence"
    clip: str = "none"
    eps_low: float = 0.2
    eps_high: float = 0.2
    dual_clip: float | None = None
    cispo_cap: float = 5.0

    def __post_init__(self) -> None:
        for key, value, known in (("ratio", self.ratio, RATIOS), ("clip", self.clip, CLIPS)):
            if value not in known:
                close = get_close_matches(str(value), known, n=1)
                near = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"learner.{key}={value!r} is unknown{near}: use {', '.join(known)}")
        if not 0 <= self.eps_low <= 1 or self.eps_high < 0:
            raise ValueError(
                f"learner.eps_low={self.eps_low} and learner.eps_high={self.eps_high} bound a ratio to [1 - eps_low, "
                "1 + eps_high]: use 0 to 1 for the first, 0 or more for the second"
            )
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"learner.dual_clip={self.dual_clip} is a ratio above 1: use 3.0, or null")
        if self.cispo_cap < 1:
            raise ValueError(
                f"learner.cispo_cap={self.cispo_cap} is the largest weight itself, and not a distance from 1: below 1 "
                "it would shrink every token that the policy says; use 5.0"
            )

    def __call__(
        self,
        logp_BT: Tensor,
        old_BT: Tensor,
        mask_BT: Tensor,
        advantage_B: Tensor,
        importance_BT: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss (B,) of every completion, a sum over its tokens, and the share (B,) of its ratios that the clip
        acts on.

        ``old_BT`` are constants, log pi_old of the policy that the ratio compares with: the detached ``logp_BT`` where
        the step is strictly on-policy, and then every ratio is 1. A ratio of the whole sequence counts once; a
        geometric one counts once per token, so that a mean over tokens counts it once. ``importance_BT`` (constants)
        weighs the gradient of every token and leaves the ratios as they are.
        """
        if importance_BT is not None:
            logp_BT = logp_BT.detach() + importance_BT * (logp_BT - logp_BT.detach())
        tokens_B1 = mask_BT.sum(-1, keepdim=True)
        said_BT = (logp_BT - old_BT) * mask_BT
        if self.ratio == "token":
            log_ratio, count = said_BT, mask_BT
        elif self.ratio == "sequence":
            log_ratio, count = said_BT.sum(-1, keepdim=True), torch.ones_like(tokens_B1)
        else:
            log_ratio, count = said_BT.sum(-1, keepdim=True) / tokens_B1.clamp(min=1), tokens_B1
        ratio = torch.exp(log_ratio.clamp(max=_LARGEST))
        advantage_B1 = advantage_B[:, None]
        if self.clip == "cispo":
            weight = cispo_weight(ratio.detach(), self.cispo_cap)
            gain, acts, count = weight * advantage_B1 * logp_BT, ratio > self.cispo_cap, mask_BT
        else:
            gain, acts = self._bounded(ratio, advantage_B1)
        counted = mask_BT if acts.shape[1] > 1 else torch.ones_like(tokens_B1)
        share_B = (acts * counted).sum(-1) / counted.sum(-1).clamp(min=1)
        return -(gain * count).sum(-1), share_B

    def _bounded(self, ratio: Tensor, advantage_B1: Tensor) -> tuple[Tensor, Tensor]:
        free = ratio * advantage_B1
        if self.clip == "none":
            return free, torch.zeros_like(free, dtype=torch.bool)
        return ppo_clip(ratio, advantage_B1, self.eps_low, self.eps_high, self.dual_clip)


def ppo_clip(
    ratio: Tensor, advantage: Tensor, eps_low: float, eps_high: float, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) of shapes that broadcast, and where its gradient is dead
    (arXiv 1707.06347, eq. 7; two bounds: DAPO, arXiv 2503.14476; ``dual_clip``: arXiv 1912.09729)."""
    free = ratio * advantage
    gain = torch.minimum(free, ratio.clamp(1 - eps_low, 1 + eps_high) * advantage)
    dead = ((ratio > 1 + eps_high) & (advantage > 0)) | ((ratio < 1 - eps_low) & (advantage < 0))
    if dual_clip is not None:
        floor = dual_clip * advantage
        deep = (advantage < 0) & (gain < floor)
        gain, dead = torch.where(deep, floor.expand_as(gain), gain), dead | deep
    return gain, dead


def cispo_weight(ratio: Tensor, cap: float, floor: float = 0.0) -> Tensor:
    """clip(r, floor, cap): the weight of a token's log-probability, to be taken as a constant (CISPO, arXiv
    2506.13585, which leaves the lower side free)."""
    return ratio.clamp(floor, cap)
