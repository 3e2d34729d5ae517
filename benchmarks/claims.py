"""The three claims of Language Self-Play (arXiv 2509.07414) in miniature, on the embedded model.

    python -m benchmarks.claims --seeds 0 1 2 --jobs 2 --figures docs/figures --write docs/papers.md
    python -m benchmarks.claims --only zero --seeds 0 --steps 300

- ``data``: self-play without data does as well as GRPO with data.
- ``zero``: without the quality reward the game degenerates, with it training can go on.
- ``after``: continued from a model that GRPO has trained, LSP adds to it and LSP-Zero does not.

LSP and LSP-Zero have equal settings wherever they are compared: those that docs/papers.md lists, with the KL at 0.04,
and once more with the Challenger's at 0.3, which experiment=lsp has, so that one sees what the quality reward does and
what the KL does. Nothing was chosen by its outcome.

One picture a claim comes into --figures, and ``--write`` puts the table between the marks of a page. A run is
``main.py`` itself, in a folder under --runs; what is done is not done again, what was broken off goes on. Three seeds
take about an hour and a half of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.claims_draw import Curves, draw, over_seeds
from benchmarks.pages import put
from benchmarks.paired import difference, half_width
from benchmarks.report import Report, parser
from benchmarks.runs import ROOT, checkpoint, complete, workers
from selfplay.curves import HELDOUT, series
from selfplay.record import read

EXAMS = 20
"""In a run, besides the one at its start. One costs as much as a step or two."""
VALID = "proposals/valid_share"
START = ("experiment=grpo",)
"""What the claim ``after`` goes on from."""
LSP, LSP_ZERO = "experiment=lsp", "experiment=lsp_zero"
EVEN, ANCHORED = "learner.beta=0.04", "learner.beta={challenger: 0.3, solver: 0.04}"
"""The KL of both roles, and that of experiment=lsp."""
TWO_BY_TWO = {
    "LSP": (LSP, EVEN),
    "LSP-Zero": (LSP_ZERO, EVEN),
    "LSP, KL 0.3": (LSP, ANCHORED),
    "LSP-Zero, KL 0.3": (LSP_ZERO, ANCHORED),
}


@dataclass(frozen=True)
class Claim:
    """What is run: ``lines`` are the words of main.py by their label, ``steps`` long, and all of them are compared
    with the line ``against``. ``panels`` are metrics and what their axis says."""

    title: str
    steps: int
    lines: dict[str, tuple[str, ...]]
    against: str
    panels: dict[str, str]
    continued: bool = False


CLAIMS = {
    "data": Claim(
        "Without data, and with",
        200,
        {"GRPO with data": ("experiment=grpo",), "LSP": (LSP, EVEN), "LSP, KL 0.3": (LSP, ANCHORED)},
        "GRPO with data",
        {HELDOUT: "held-out accuracy, sampled"},
    ),
    "zero": Claim(
        "With and without the quality reward",
        600,
        TWO_BY_TWO,
        "LSP-Zero",
        {VALID: "share of valid questions", HELDOUT: "held-out accuracy, sampled"},
    ),
    "after": Claim(
        "Continued from GRPO",
        200,
        {"GRPO, continued": ("experiment=grpo",), **TWO_BY_TWO},
        "GRPO, continued",
        {HELDOUT: "held-out accuracy, sampled"},
        continued=True,
    ),
}
COLUMNS = {
    "claim": ("claim", ""),
    "label": ("run", ""),
    "seeds": ("seeds", ""),
    "steps": ("steps", ".0f"),
    "start": ("start", ".3f"),
    "peak": ("peak", ".3f"),
    "end": ("end", ".3f"),
    "spread": ("+-", ".3f"),
    "gain": ("end - start", ""),
    "versus": ("against", ""),
    "gap": ("end - its end", ""),
    "valid": ("valid questions", ".2f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--only", nargs="+", choices=CLAIMS, default=list(CLAIMS), help="these claims, and no others")
    line.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    line.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    line.add_argument("--steps", type=int, help="of every run; without it 200, 600 and 200")
    line.add_argument("--start-steps", type=int, default=100, help="of GRPO, before the claim `after` begins")
    line.add_argument("--runs", type=Path, default=ROOT / "runs" / "claims")
    line.add_argument(
        "--figures", type=Path, default=ROOT / "benchmarks" / "results", help="claims_<claim>.png come here"
    )
    line.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of main.py")
    line.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this page")
    options = line.parse_args(words)
    report = Report("claims", "Three claims of Language Self-Play, on the embedded model", COLUMNS, options)
    options.figures.mkdir(parents=True, exist_ok=True)
    with workers(options.jobs) as pool:
        starts: dict[int, Future[Path]] = {}
        if any(CLAIMS[name].continued for name in options.only):
            starts = {seed: pool.submit(start, seed, options) for seed in options.seeds}
        # Those that wait for a start are asked for last: a thread that waits does not run.
        asked = {
            (name, label): [pool.submit(run, name, label, seed, starts.get(seed), options) for seed in options.seeds]
            for name in sorted(options.only, key=lambda name: CLAIMS[name].continued)
            for label in CLAIMS[name].lines
        }
        for name in options.only:
            found = {label: [future.result() for future in asked[name, label]] for label in CLAIMS[name].lines}
            for row in summed(name, found):
                report.add(**row)
            picture = draw(options.figures / f"claims_{name}.png", CLAIMS[name].title, CLAIMS[name].panels, found)
            report.note(f"drawn: {picture}")
    report.finish()
    if options.write:
        put(options.write, "claims", COLUMNS, report.rows)


def start(seed: int, options: Any) -> Path:
    """The folder of the GRPO run that the claim ``after`` goes on from."""
    folder = options.runs / f"start-{options.start_steps}-{seed}"
    complete(folder, [*START, *options.set, f"seed={seed}", f"steps={options.start_steps}", "exam.path=null"])
    return folder


def run(name: str, label: str, seed: int, begun: Future[Path] | None, options: Any) -> Curves:
    """One run's metrics at the steps of its exams. What is known of every step is averaged since the exam before."""
    claim = CLAIMS[name]
    steps = options.steps or claim.steps
    every = max(1, steps // EXAMS)
    place = f"{name}-{label.replace(', ', '_').replace(' ', '_')}-{steps}"
    words = [*claim.lines[label], *options.set, f"seed={seed}", f"steps={steps}", f"exam.every={every}"]
    if claim.continued:
        assert begun is not None
        words.append(f"model.path='{checkpoint(begun.result())}'")
        place += f"-after-{options.start_steps}"
    folder = options.runs / f"{place}-{seed}"
    complete(folder, words)
    rows = read(folder / "metrics.jsonl")
    exams = series(rows, HELDOUT)
    return {
        HELDOUT: exams,
        f"{HELDOUT}_low": series(rows, f"{HELDOUT}_low"),
        f"{HELDOUT}_high": series(rows, f"{HELDOUT}_high"),
        VALID: averaged(series(rows, VALID), exams[0]),
    }


def averaged(line: tuple[list[int], list[float]], at: Sequence[int]) -> tuple[list[int], list[float]]:
    """At each step of ``at`` the mean of the values after the step before it; steps without a value are left out."""
    found: list[tuple[int, float]] = []
    for low, high in pairwise(at):
        values = [value for step, value in zip(*line, strict=True) if low < step <= high]
        if values:
            found.append((high, fmean(values)))
    return [step for step, _ in found], [value for _, value in found]


def summed(name: str, found: dict[str, list[Curves]]) -> list[dict[str, Any]]:
    """A row for each line of a claim. ``peak`` is the highest mean over seeds; ``valid`` that of the last stretch."""
    claim, rows = CLAIMS[name], list[dict[str, Any]]()
    other = found[claim.against]
    for label, runs in found.items():
        steps, means, _ = over_seeds([curves[HELDOUT] for curves in runs])
        starts, ends = ([curves[HELDOUT][1][place] for curves in runs] for place in (0, -1))
        gap = None if label == claim.against else difference(ends, _ends(other), (_ci(runs[0], -1), _ci(other[0], -1)))
        valid = [curves[VALID][1][-1] for curves in runs if curves[VALID][1]]
        rows.append(
            {
                "claim": name,
                "label": label,
                "seeds": len(runs),
                "steps": steps[-1],
                "start": fmean(starts),
                "peak": max(means),
                "end": fmean(ends),
                "spread": half_width(ends),
                "gain": str(difference(ends, starts, (_ci(runs[0], -1), _ci(runs[0], 0)))),
                "versus": None if gap is None else claim.against,
                "gap": None if gap is None else str(gap),
                "valid": fmean(valid) if valid else None,
            }
        )
    return rows


def _ends(runs: Sequence[Curves]) -> list[float]:
    return [curves[HELDOUT][1][-1] for curves in runs]


def _ci(curves: Curves, place: int) -> tuple[float, float]:
    """The interval of one exam."""
    return curves[f"{HELDOUT}_low"][1][place], curves[f"{HELDOUT}_high"][1][place]


if __name__ == "__main__":
    sys.exit(main())
