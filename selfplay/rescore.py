"""``mode=rescore``: a stored run judged again by another verifier, and how far the two agree.

::

    runs/x/rescored/<verifier>/scores.jsonl     every judged case with both verdicts
                               agreement.json   the report
                               agreement.png    its picture

The cases of a step are judged in one call, in the order in which they were played, so that a verifier which compares
the cases of a call (a majority, novelty) sees what it would have seen in the run, and a verifier with a memory meets
them in the order of time. No model is loaded but the one that the verifier itself asks for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from selfplay.agreement_report import SCORES, AgreementError, Payoff, pair, write_report
from selfplay.agreement_show import show
from selfplay.compose import resolved
from selfplay.judged import Judged, judged_episodes
from selfplay.types import Action, Case

Verdict = Mapping[str, float]


class Judge(Protocol):
    """Whatever gives a verdict for every case, in the verifier's seat: a panel."""

    def act(self, observations: Sequence[Case], seeds: Sequence[int]) -> Sequence[Action]: ...


def judge_again(
    run: str | Path | None,
    judge: Judge,
    name: str,
    *,
    gold: str | None = None,
    threshold: float = 0.5,
    worst: int = 10,
    distinct: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Judge ``run/episodes.jsonl`` again with ``judge``, called ``name``; show the report, write it, and return it.

    ``gold``: see ``agreement_report.pair``; ``threshold``: the lowest score that accepts; ``worst``: how many
    disagreements are listed; ``distinct``: judge equal cases once in the whole run, for a judge that costs money and
    looks at one case at a time. Raises ``AgreementError`` and ``RecordError``.
    """
    if run is None:
        raise AgreementError("mode=rescore needs a run folder: run=runs/<name>/<time>-<seed>")
    episodes = Path(run) / "episodes.jsonl"
    if not episodes.is_file():
        raise AgreementError(f"run={run}: no episodes.jsonl there (runtime.episodes_every records it)")
    console = console or Console()
    folder = Path(run) / "rescored" / re.sub(r"[^\w.@-]", "_", name)
    notes: list[str] = []
    temp = folder / f".{SCORES}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temp.open("w", encoding="ascii") as out:
            for number, row in enumerate(_judged_anew(_watched(episodes, notes, console), judge, distinct)):
                if not number:
                    pair(sorted(row.stored), sorted(row.new), gold)  # says what is wrong before the work, not after it
                out.write(row.line())
        temp.replace(folder / SCORES)
    except OSError as error:
        raise AgreementError(f"cannot write {folder}: {error.strerror}") from error
    report = write_report(folder, name, gold, threshold, worst, payoff_of(_saved(Path(run))), notes)
    show(report, console)
    console.print(f"report: {folder}", markup=False, highlight=False, soft_wrap=True)
    return report


def payoff_of(cfg: Any) -> Payoff:
    """What a run's game pays for the verdict's parts; empty for a game without a payoff of ours."""
    node = OmegaConf.select(cfg, "env.payoff") if isinstance(cfg, DictConfig) else None
    return resolved(node) if isinstance(node, DictConfig) else {}


def _saved(run: Path) -> Any:
    path = run / "config.yaml"
    return OmegaConf.load(path) if path.is_file() else None


def _judged_anew(rows: Iterable[Judged], judge: Judge, distinct: bool) -> Iterator[Judged]:
    """The rows with their new verdicts, one call for each step."""
    known: dict[frozenset[tuple[str, str]], Verdict] = {}
    for _, group in groupby(rows, key=lambda row: row.step):
        batch = list(group)
        if distinct:
            keys = [frozenset(row.case.items()) for row in batch]
            fresh = {key: row.case for key, row in zip(keys, batch, strict=True) if key not in known}
            known |= zip(fresh, verdicts(judge, list(fresh.values())), strict=True)
            new = [known[key] for key in keys]
        else:
            new = verdicts(judge, [row.case for row in batch])
        yield from (replace(row, new=verdict) for row, verdict in zip(batch, new, strict=True))


def verdicts(judge: Judge, cases: Sequence[Case]) -> list[dict[str, float]]:
    """One verdict for each case, in one call. A panel draws no random numbers, so the seeds are all 0."""
    moves = [action.move for action in judge.act(cases, [0] * len(cases))] if cases else []
    return [{part: float(score) if score is not None else math.nan for part, score in move.items()} for move in moves]


def _watched(episodes: Path, notes: list[str], console: Console) -> Iterator[Judged]:
    """The run's cases, with a bar of the bytes read where somebody watches."""
    columns = (TextColumn("step {task.fields[step]}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    shown = console.is_terminal and not console.is_dumb_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=max(1, episodes.stat().st_size), step=0)
        for read, row in judged_episodes(episodes, notes):
            progress.update(task, completed=read, step=row.step)
            yield row
