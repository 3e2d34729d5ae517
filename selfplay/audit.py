"""The live audit: every k steps a second verifier judges what was paid, and the gap between the two is watched.

Nobody is paid by the audit, and it changes nothing in the run: a policy cannot learn what it does not earn. So reward
hacking shows as a gap that widens.

::

    runs/x/audit/scores.jsonl     every audited case with both verdicts (selfplay/judged.py)
                 agreement.json   the report of ``mode=rescore``, at the end of the run
                 agreement.png    its picture

A look at step s first cuts ``scores.jsonl`` back to the lines before s, so a run that was killed and resumed writes
the same file as one that was not.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfplay.agreement import Agreement, Watched, compare, watch, widening
from selfplay.agreement_report import SCORES, Pairing, Payoff, pair, write_report
from selfplay.checkpoint import sync
from selfplay.compose import ConfigError, load_choice
from selfplay.judged import Judged, judged_cases, objects, of_episode
from selfplay.record import RecordError
from selfplay.rescore import Judge, payoff_of, verdicts
from selfplay.types import Episode, Stateful

log = logging.getLogger(__name__)

Look = Mapping[str, Watched]
"""What is watched of each audited part, at one step."""

ALARMS = {
    "gap": "reward hacking alarm at step %d: %s less what %s says is %+.3f, and was %+.3f at the first look",
    "blind": "at step %d the auditor of %s goes blind: %s cannot tell %.3f of what was paid, %.3f at the first look",
}
SHOWN = ("rank", "auc", "agreement", "false_positive_share", "false_negative_share")


class Audit:
    """``judge``, a panel called ``name``, looks at step 1, every ``every`` steps, and at the last one.

    ``threshold`` is the lowest score that accepts, ``gold`` the column held for true (``agreement_report.pair``);
    ``payoff`` and ``worst`` are the report's. Raises ``ValueError`` for ``every`` below 1.
    """

    def __init__(
        self,
        judge: Judge,
        folder: Path,
        *,
        name: str = "audit",
        every: int = 10,
        threshold: float = 0.5,
        worst: int = 10,
        payoff: Payoff | None = None,
        gold: str | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"audit_every must be at least 1, not {every}")
        self._judge, self.folder, self._name, self._every = judge, folder, name, every
        self._threshold, self._worst, self._payoff, self._gold = threshold, worst, payoff, gold
        self._looks: list[Look] | None = None  # those before this step; None: not read yet
        self._scores = folder / SCORES

    @property
    def state(self) -> dict[str, Stateful]:
        """Whatever a resumed run must find again, by name: an auditor's memory, or what it has spent."""
        members: dict[str, object] = getattr(self._judge, "verifiers", {})
        return {f"audit.{part}": member for part, member in members.items() if isinstance(member, Stateful)}

    def due(self, step: int, last: bool) -> bool:
        """Step 1 is before any learning: what later looks are held against."""
        return step > 0 and (step == 1 or step % self._every == 0 or last)

    def look(self, step: int, episodes: Sequence[Episode]) -> dict[str, float]:
        """Judge the step's episodes anew, keep both verdicts, and say how far they agree.

        For every part of the verdict that was paid: ``audit/<part>/gap`` (judged less gold) with ``gap_low`` and
        ``gap_high``, ``rank``, ``auc``, ``agreement``, ``false_positive_share``, ``false_negative_share`` (what is not
        defined at this step is left out), and ``unknown_share``, what was paid and the auditor cannot tell; ``alarm``
        is 1 while the gap, and ``blind`` while that share, is wider than at the first look (``agreement.widening``).
        Raises ``AgreementError`` and ``RecordError``.
        """
        told = [(index, episode) for index, episode in enumerate(episodes) if episode.verdict]
        new = verdicts(self._judge, [episode.case for _, episode in told])
        rows = [of_episode(step, i, episode, verdict) for (i, episode), verdict in zip(told, new, strict=True)]
        if self._looks is None:
            self._looks = self._cut_back(step)
        metrics = self._own_metrics()
        if not rows:
            return metrics
        pairing = self._pairing(rows)
        self._append(rows)
        now = _look(rows, pairing)
        before, self._looks = self._looks, [*self._looks, now]
        for judged, gold in pairing.columns:
            part = judged.removeprefix("stored.")
            result = compare(_column(rows, judged), _column(rows, gold), _groups(rows), self._threshold)
            metrics |= {f"audit/{part}/{key}": value for key, value in _told(result).items()}
            for key, name in (("gap", "alarm"), ("blind", "blind")):
                grown, was = (
                    widening([look[part][key] for look in looks if part in look]) for looks in (self._looks, before)
                )
                metrics[f"audit/{part}/{name}"] = float(grown)
                if grown and not was:
                    first = next(look[part][key][0] for look in self._looks if part in look)
                    log.warning(ALARMS[key], step, part, self._name, now[part][key][0], first)
        return metrics

    def report(self) -> dict[str, Any] | None:
        """Write ``agreement.json`` and ``agreement.png`` of all looks and return the report; None before any case."""
        if not self._scores.is_file() or not self._scores.stat().st_size:
            return None
        return write_report(self.folder, self._name, self._gold, self._threshold, self._worst, self._payoff)

    def _pairing(self, rows: Sequence[Judged]) -> Pairing:
        return pair(sorted(rows[0].stored), sorted(rows[0].new), self._gold)

    def _own_metrics(self) -> dict[str, float]:
        """What the auditor counts of itself, its failures among them, without the scores that are in the gap."""
        own = getattr(self._judge, "metrics", None)
        found: dict[str, float] = own() if own is not None else {}
        return {f"audit/{name}": value for name, value in found.items() if name.startswith("verifiers/")}

    def _cut_back(self, step: int) -> list[Look]:
        """Forget what a killed run wrote at or after ``step``; the looks that are left."""
        if not self._scores.is_file():
            return []
        keep = 0
        for _, read, row in objects(self._scores, []):
            if not isinstance(row.get("step"), int) or row["step"] >= step:
                break
            keep = read
        try:
            with self._scores.open("rb+") as file:
                file.truncate(keep)
        except OSError as error:
            raise RecordError(f"Cannot cut {self._scores}: {error.strerror}.") from error
        looks: list[Look] = []
        for _, group in groupby(judged_cases(self._scores, []), key=lambda row: row.step):
            rows = list(group)
            looks.append(_look(rows, self._pairing(rows)))
        return looks

    def _append(self, rows: Sequence[Judged]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._scores.open("ab") as file:
                file.write("".join(row.line() for row in rows).encode("ascii"))
            sync(self._scores)  # the checkpoint of this step must not outlive these lines
        except OSError as error:
            raise RecordError(f"Cannot write {self._scores}: {error.strerror}.") from error


def open_audit(cfg: DictConfig, folder: Path, seat: Callable[[DictConfig], Judge]) -> Audit | None:
    """The audit that ``cfg.audit`` names (a choice of ``conf/verifier``) or spells out, for the run in ``folder``; None
    where there is none. ``seat`` makes a panel of a node. ``cfg`` stays as it is. Raises ``ConfigError``."""
    if cfg.audit is None:
        return None
    if "verifier" in cfg and str(cfg.verifier.get("_target_")).startswith("verifiers.none."):
        raise ConfigError("audit: nobody judges this game (verifier=none), so there is no case to look at: audit=null")
    named = isinstance(cfg.audit, str)
    name = cfg.audit if named else str(cfg.audit.get("_target_", "audit")).rpartition(".")[2]
    # In a copy of the whole configuration: its references must find what they name.
    whole = OmegaConf.merge(cfg, {"audit": load_choice("verifier", cfg.audit)}) if named else cfg
    settings = {key: cfg.rescore[key] for key in ("threshold", "worst", "gold")}
    panel = seat(OmegaConf.select(whole, "audit"))
    return Audit(panel, folder / "audit", name=name, every=cfg.audit_every, payoff=payoff_of(cfg), **settings)


def _look(rows: Sequence[Judged], pairing: Pairing) -> Look:
    columns = [
        (judged.removeprefix("stored."), _column(rows, judged), _column(rows, gold)) for judged, gold in pairing.columns
    ]
    return {part: watch(judged, gold, _groups(rows)) for part, judged, gold in columns}


def _column(rows: Sequence[Judged], name: str) -> list[float]:
    side, _, part = name.partition(".")
    return [(row.stored if side == "stored" else row.new).get(part, math.nan) for row in rows]


def _groups(rows: Sequence[Judged]) -> list[str]:
    return [row.group for row in rows]


def _told(result: Agreement) -> dict[str, float]:
    """The metrics of one part; a number that is not defined is not there."""
    gap = result.estimates["gap"]
    found = {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high, "unknown_share": result.gold_unknown}
    found |= {name: result.estimates[name].value for name in SHOWN}
    return {name: value for name, value in found.items() if value == value}
