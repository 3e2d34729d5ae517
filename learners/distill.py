"""Distillation: the engine learns to speak as a teacher does, from the teacher's words or from its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from learners.distributions import check_same_tokens, compare, token_logprobs
from learners.divergences import generalised_jsd
from learners.examples import nearest
from learners.importance import Gap, capped, check_cap
from learners.keys import OptimizerKeys
from learners.losses import importance
from learners.step import OptimizerStep
from learners.transfer_set import Lesson, TransferSet
from models.engine import Engine
from models.layout import drawn_mask
from selfplay.types import Completion, Episode

METHODS = ("sequence", "gkd", "on_policy")


class Distill:
    """Updates ``engine`` from the turns of ``role``; every token of a step weighs the same.

    - ``sequence``: cross-entropy on somebody else's words (arXiv 1606.07947, section 3.2; Alpaca): those of a teacher
      in the role's own seat, or, with ``text``, those in a slot of the case. Words are encoded anew, so that teacher
      and student may have different tokenizers.
    - ``gkd``: the generalised JSD with ``beta`` between whole distributions (arXiv 2306.13649), on the student's own
      words with probability ``lmbda``, drawn turn by turn, else on those in the slot ``text``. ``beta`` 1 and
      ``lmbda`` 1 are on-policy distillation without the variance of sampled tokens. ``temperature`` divides the logits
      of both.
    - ``on_policy``: the reverse KL by policy gradient: A_t = log pi_T(token_t) - log pi(token_t) on the student's own
      words, detached, without discount or baseline. ``importance_cap`` as in ``policy_gradient``.

    ``teacher`` is an engine with the student's tokenizer, needed by the last two. It is told what the student was
    told, or ``told``, a template over the case's slots; its logits are divided by ``teacher_temperature``. With
    ``threshold``, words whose verdict has less than that in ``part`` are left out. The other keys are
    ``OptimizerKeys``. Raises ``ValueError`` for keys that do not go together.
    """

    def __init__(
        self,
        engine: Engine,
        teacher: Engine | None = None,
        *,
        method: str = "sequence",
        role: str = "solver",
        text: str | None = None,
        part: str = "score",
        threshold: float | None = None,
        beta: float = 0.5,
        lmbda: float = 0.5,
        temperature: float = 1.0,
        teacher_temperature: float = 1.0,
        told: str | None = None,
        importance_cap: float | str | None = "auto",
        pipelined: bool = False,
        seed: int = 0,
        **keys: Unpack[OptimizerKeys],
    ) -> None:
        _check(method, text, beta, lmbda, temperature, teacher_temperature)
        _check_teacher(engine, teacher, method, told)
        self.engine, self.teacher, self.method = engine, teacher, method
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        own = {"sequence": 0.0, "gkd": lmbda, "on_policy": None}[method]
        self.transfer = TransferSet(engine, teacher, role, text, part, threshold, own, told, seed)
        self._measure = partial(generalised_jsd, beta=beta)
        self._cap, self._pipelined = check_cap(importance_cap), pipelined
        self.step = OptimizerStep.of(self, engine, keys)
        self.named, self.optimizer = self.step.named, self.step.optimizer
        self._teacher_passes = self.step.passes.alike(teacher) if teacher is not None else None

    @property
    def importance_cap(self) -> float | None:
        """The bound of a token's weight in ``on_policy``; None where the sampler is taken for the policy itself."""
        return capped(self._cap, self.engine, self._pipelined)

    def update(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """One optimizer step. ``loss`` is the mean per token, in nats: of the cross-entropy, the divergence, or the
        estimate of the reverse KL; ``distill/...`` tells whose words they were (``TransferSet``)."""
        lessons, metrics = self.transfer(episodes, self.step.taken)
        if not lessons:
            return metrics | {"steps_skipped": 1.0, "loss": 0.0, "grad_norm": 0.0}
        taken = self.step.take(lessons, _said, self._loss)
        if taken.refused:
            return metrics | {"steps_skipped": 1.0, "steps_refused": 1.0}
        metrics |= Gap.metrics([gap for gap in taken.notes if gap is not None])
        return metrics | {"steps_skipped": 0.0, "loss": taken.loss, "grad_norm": taken.norm}

    def save(self, folder: Path) -> None:
        self.step.save(folder)

    def load(self, folder: Path) -> None:
        self.step.load(folder)

    # -- the loss of a batch -----------------------------------------------------------------------------------------

    def _loss(self, batch: Sequence[Lesson]) -> tuple[Tensor, Gap | None]:
        said, gap = [lesson.said for lesson in batch], None
        if self.method == "gkd":
            assert self._teacher_passes is not None
            shown = [lesson.shown for lesson in batch]
            value_BT = compare(
                self.step.passes,
                self._teacher_passes,
                said,
                shown,
                self._measure,
                temperature=self.temperature,
                teacher_temperature=self.teacher_temperature,
            )
        elif self.method == "on_policy":
            value_BT, gap = self._reverse_kl(batch)
        else:
            value_BT = -self.step.logprobs(said)[0]
        return (value_BT.new_tensor([lesson.weight for lesson in batch]) * value_BT.sum(-1)).sum(), gap

    def _reverse_kl(self, batch: Sequence[Lesson]) -> tuple[Tensor, Gap]:
        """-rho_t (pi_t / sg(pi_t)) A_t per token, (B, T): its mean estimates KL(pi || pi_T), its gradient is -rho_t A_t
        grad log pi(token_t)."""
        assert self._teacher_passes is not None
        said = [lesson.said for lesson in batch]
        logp_BT, mask_BT = self.step.logprobs(said)
        teacher_BT = token_logprobs(
            self._teacher_passes, [lesson.shown for lesson in batch], temperature=self.teacher_temperature
        ).to(logp_BT.device)
        advantage_BT = teacher_BT - logp_BT.detach()
        sampler_BT = pad_sequence([logp_BT.new_tensor(c.logprobs) for c in said], batch_first=True)
        cap = self.importance_cap
        if cap:
            advantage_BT = importance(logp_BT, sampler_BT, cap) * advantage_BT
        mask_BT = drawn_mask(said, mask_BT)
        gap = Gap.measure(logp_BT[mask_BT], sampler_BT[mask_BT], cap)
        return -torch.exp(logp_BT - logp_BT.detach()) * advantage_BT, gap


def _said(lesson: Lesson) -> tuple[Completion]:
    return (lesson.said,)


def _check(method: str, text: str | None, beta: float, lmbda: float, *temperatures: float) -> None:
    if method not in METHODS:
        raise ValueError(f"learner.method={method!r} is unknown{nearest(method, METHODS)}")
    for key, share in (("beta", beta), ("lmbda", lmbda)):
        if not 0 <= share <= 1:
            raise ValueError(f"learner.{key}={share} is no share: use 0 to 1")
    for key, heat in zip(("temperature", "teacher_temperature"), temperatures, strict=True):
        if not heat > 0:
            raise ValueError(f"learner.{key}={heat} must be above 0: it divides logits")
    if method != "gkd" and temperatures[0] != 1:
        raise ValueError(
            "learner.temperature divides both models' logits in gkd alone: use learner.teacher_temperature"
        )
    if method == "on_policy" and text is not None:
        raise ValueError(f"learner.text={text!r} has no use with learner.method=on_policy: the words are the student's")


def _check_teacher(engine: Engine, teacher: Engine | None, method: str, told: str | None) -> None:
    if method == "sequence":
        if teacher is not None or told is not None:
            raise ValueError("learner.method=sequence reads a teacher's words, not its probabilities: seat the teacher")
        return
    if teacher is None:
        raise ValueError(f"learner.method={method} needs learner.teacher: an engine, as model=hf describes one")
    check_same_tokens(engine, teacher)
    if teacher.model is engine.model and told is None:
        raise ValueError(
            "learner.teacher is the student itself, which is 0 nats from itself: use a frozen copy (${reference}), "
            "another model, or tell the teacher more in learner.told"
        )
