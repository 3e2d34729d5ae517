"""Every method on the embedded model, with the same budget of sampled tokens: held-out accuracy before and after.

    python -m benchmarks.methods --tokens 60000 --seeds 0 1 2 --jobs 2
    python -m benchmarks.methods --only grpo lsp rft --seeds 0

Each line of the table is an experiment (conf/experiment), the mean over the seeds, and how far they lie apart;
*changed* says whether after differs from before (``benchmarks/paired.py``). *Win rate* is that of the end against the
start of the same run, on the exam's questions, as the frozen embedded model judges it without knowing what is right: a
tie is half a win, and a run that learns nothing has 0.5. For methods whose reward is such a judge it is what they were
trained on, and above what their accuracy explains it is flattery.

A run is ``main.py`` itself, in a folder under --runs; one that is done is not done again, one that was broken off goes
on where it stopped. How many steps the budget is comes from a run of two steps. ``--write docs/papers.md`` puts the
table there, between its marks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.pages import put
from benchmarks.paired import difference, half_width
from benchmarks.report import Report, parser
from benchmarks.runs import ROOT, checkpoint, complete, tokens, workers
from selfplay.record import read

CONTROLS = {
    "control: a coin judges": ["experiment=grpo", "verifier=random"],
    "control: the corpus alone": ["experiment=nanogpt_selfplay", "learner.mu=0", "learner.mu_final=0"],
}
"""What a method is held against: grpo without a signal, nanogpt_selfplay without the model's own text."""
AFTER = {"lsp_after_grpo": "grpo", "lsp_zero_after_grpo": "grpo"}
"""Experiments that begin where another one ended."""
WORDS = {"lsp_zero_after_grpo": ["experiment=lsp_zero"]}
COLUMNS = {
    "method": ("experiment", ""),
    "seeds": ("seeds", ""),
    "steps": ("steps", ".0f"),
    "tokens": ("tokens", ".0f"),
    "before": ("before", ".3f"),
    "after": ("after, sampled", ".3f"),
    "spread": ("+-", ".3f"),
    "least": ("least", ".3f"),
    "changed": ("changed", ""),
    "greedy": ("best guess", ".3f"),
    "wins": ("win rate", ".3f"),
    "seconds": ("s", ".0f"),
}
EXAM = ROOT / "models" / "tiny" / "exam.jsonl"
JUDGE = "{_target_: models.load, path: 'PATH', dtype: float32, device: cpu}"


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="these experiments, and no others")
    line.add_argument("--tokens", type=int, default=60_000, help="sampled tokens of a run")
    line.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    line.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    line.add_argument("--duels", type=int, default=500, help="questions of the win rate, four answers each; 0: none")
    line.add_argument("--runs", type=Path, default=ROOT / "runs" / "methods")
    line.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of main.py")
    line.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this page")
    options = line.parse_args(words)
    known = [*sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")), *WORDS, *CONTROLS]
    for name in options.only or ():
        if name not in known:
            line.error(f"--only {name}: no such experiment; there are {', '.join(known)}")
    methods = options.only or known
    report = Report("methods", f"{options.tokens} sampled tokens on the embedded model", COLUMNS, options)
    first = [name for name in methods if name not in AFTER]
    with workers(options.jobs) as pool:
        for stage in (first, [name for name in methods if name in AFTER]):
            asked = {name: [pool.submit(run, name, seed, options) for seed in options.seeds] for name in stage}
            for name, seeds in asked.items():
                report.add(method=name, **summed([future.result() for future in seeds]))
    report.finish()
    if options.write:
        put(options.write, "methods", COLUMNS, sorted(report.rows, key=lambda row: row["after"], reverse=True))


def run(method: str, seed: int, options: Any) -> dict[str, Any]:
    """One run, unless it is there; its summary, with the tokens that were learned from, the exam before any learning
    and the win rate."""
    folder = options.runs / f"{method.replace(' ', '_').replace(':', '')}-{options.tokens}-{seed}"
    words = [*CONTROLS.get(method, WORDS.get(method, [f"experiment={method}"])), *options.set]
    start = "tiny"
    if method in AFTER:
        start = str(checkpoint(options.runs / f"{AFTER[method]}-{options.tokens}-{seed}"))
        words.append(f"model.path='{start}'")
    steps = max(2, round(options.tokens / tokens_per_step(words, seed, options.runs / f".probe-{folder.name}")))
    summary = complete(folder, [*words, f"seed={seed}", f"steps={steps}", "exam.every=1000000"])
    first = next(row for row in read(folder / "metrics.jsonl") if row.get("eval/heldout_accuracy") is not None)
    before = (first["eval/heldout_accuracy_low"], first["eval/heldout_accuracy_high"])
    wins = win_rate(folder, start, seed, options.duels) if options.duels else None
    return {**summary, "tokens": tokens(folder), "before_ci95": before, "wins": wins}


def tokens_per_step(words: Sequence[str], seed: int, folder: Path) -> float:
    """From a run of two steps without an exam."""
    complete(folder, [*words, f"seed={seed}", "steps=2", "exam.path=null"])
    return max(1.0, tokens(folder) / 2)


def win_rate(folder: Path, start: str, seed: int, questions: int) -> float:
    """Of the run's end against the model that it ``start``ed from, by the grades of the embedded model: duels on the
    exam's questions, in which nobody learns. A tie is half a win, and an answer that says nothing half a loss."""
    duel = folder.with_name(f"{folder.name}.duel")
    complete(
        duel,
        [
            "env=duel", "verifier=pairwise", "verifier.against=baseline", "learner=frozen", "steps=1", f"seed={seed}",
            f"model.path='{checkpoint(folder)}'", f"rival.engine={JUDGE.replace('PATH', start)}",
            f"verifier.engine={JUDGE.replace('PATH', 'tiny')}", f"branch.challenger={questions}", "exam.path=null",
            f"+seats.challenger={{_target_: agents.dataset.Dataset, path: '{EXAM}', says: '{{query}}', seed: {seed}, "
            "limit: null}",
        ],
    )  # fmt: skip
    last = read(duel / "metrics.jsonl")[-1]
    return 0.5 + (last["reward/candidate"] - last["reward/baseline"]) / 4


def summed(seeds: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The mean over the seeds; ``spread`` is half of its 95 % interval (Student's t), None for a single seed.
    ``changed`` compares after with before: paired over seeds, or for a single one by the intervals of its exams."""
    rows = list(seeds)
    scores = [row["heldout_accuracy"] for row in rows]
    before, after = [score["start"] for score in scores], [score["end"] for score in scores]
    wins = [row["wins"] for row in rows if row["wins"] is not None]
    return {
        "seeds": len(rows),
        "steps": fmean(row["steps"] for row in rows),
        "tokens": fmean(row["tokens"] for row in rows),
        "before": fmean(before),
        "after": fmean(after),
        "spread": half_width(after),
        "least": min(after),
        "changed": difference(after, before, (rows[0]["before_ci95"], scores[0]["ci95"])).word,
        "greedy": fmean(score["greedy"]["end"] for score in scores),
        "wins": fmean(wins) if wins else None,
        "seconds": fmean(row["seconds"] for row in rows),
    }


if __name__ == "__main__":
    sys.exit(main())
