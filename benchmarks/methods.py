"""Every method on the embedded model, with the same budget of sampled tokens: held-out accuracy before and after.

    python -m benchmarks.methods --tokens 60000 --seeds 0 1 2 --jobs 2
    python -m benchmarks.methods --only grpo lsp rft --seeds 0

Each line of the table is an experiment (conf/experiment), the mean over the seeds, and how far they lie apart. A run
is ``main.py`` itself, in a folder under --runs; one that is done is not done again, one that was broken off goes on
where it stopped. How many steps the budget is comes from a run of two steps. ``--write docs/papers.md`` puts the table
there, between its marks.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.report import Report, parser
from selfplay.record import read

ROOT = Path(__file__).resolve().parent.parent
CONTROLS = {"control: a coin judges": ["experiment=grpo", "verifier=random"]}
"""What must not learn."""
AFTER = {"lsp_after_grpo": "grpo", "lsp_zero_after_grpo": "grpo"}
"""Experiments that begin where another one ended."""
WORDS = {"lsp_zero_after_grpo": ["experiment=lsp_zero"]}
STUDENT_T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 % quantiles by the number of seeds."""
COLUMNS = {
    "method": ("experiment", ""),
    "seeds": ("seeds", ""),
    "steps": ("steps", ".0f"),
    "tokens": ("tokens", ".0f"),
    "before": ("before", ".3f"),
    "after": ("after, sampled", ".3f"),
    "spread": ("+-", ".3f"),
    "least": ("least", ".3f"),
    "greedy": ("best guess", ".3f"),
    "seconds": ("s", ".0f"),
}
MARKS = ("<!-- methods -->\n", "<!-- /methods -->")


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="these experiments, and no others")
    line.add_argument("--tokens", type=int, default=60_000, help="sampled tokens of a run")
    line.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    line.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
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
    with ThreadPoolExecutor(options.jobs) as pool:
        for stage in (first, [name for name in methods if name in AFTER]):
            asked = {name: [pool.submit(run, name, seed, options) for seed in options.seeds] for name in stage}
            for name, seeds in asked.items():
                report.add(method=name, **summed([future.result() for future in seeds]))
    report.finish()
    if options.write:
        write(options.write, report.rows)


def run(method: str, seed: int, options: Any) -> dict[str, Any]:
    """One run, unless it is there; its summary, with the tokens that were learned from."""
    folder = options.runs / f"{method.replace(' ', '_').replace(':', '')}-{options.tokens}-{seed}"
    words = [*CONTROLS.get(method, WORDS.get(method, [f"experiment={method}"])), *options.set]
    if method in AFTER:
        before = options.runs / f"{AFTER[method]}-{options.tokens}-{seed}" / "checkpoints"
        words.append(f"model.path={max(before.iterdir(), key=lambda child: int(child.name))}")
    if not (folder / "summary.json").is_file():
        if (folder / "config.yaml").is_file():
            command(f"resume={folder}", "runtime.threads=1")
        else:
            steps = max(2, round(options.tokens / tokens_per_step(words, seed, options.runs / f".probe-{folder.name}")))
            command(*words, f"seed={seed}", f"steps={steps}", f"run_dir={folder}", "runtime.threads=1",
                    "exam.every=1000000", "runtime.episodes_every=1000000", "runtime.tensorboard=false")  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {**summary, "tokens": tokens(folder)}


def tokens_per_step(words: Sequence[str], seed: int, folder: Path) -> float:
    """From a run of two steps without an exam."""
    if not (folder / "summary.json").is_file():
        command(*words, f"seed={seed}", "steps=2", f"run_dir={folder}", "runtime.threads=1", "exam.path=null",
                "runtime.tensorboard=false")  # fmt: skip
    return max(1.0, tokens(folder) / 2)


def tokens(folder: Path) -> float:
    """Sampled tokens, or where the model learns another one's words, those."""
    rows = read(folder / "metrics.jsonl")
    return float(rows[-1].get("num_tokens") or 0) or sum(float(row.get("distill/tokens") or 0) for row in rows)


def command(*words: str) -> None:
    done = subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"main.py {' '.join(words)}\n{done.stdout[-500:]}{done.stderr[-2000:]}")


def summed(seeds: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The mean over the seeds; ``spread`` is half of its 95 % interval (Student's t), None for a single seed."""
    rows = list(seeds)
    scores = [row["heldout_accuracy"] for row in rows]
    after = [score["end"] for score in scores]
    quantile = STUDENT_T.get(len(rows), 2.0)
    return {
        "seeds": len(rows),
        "steps": fmean(row["steps"] for row in rows),
        "tokens": fmean(row["tokens"] for row in rows),
        "before": fmean(score["start"] for score in scores),
        "after": fmean(after),
        "spread": quantile * stdev(after) / math.sqrt(len(after)) if len(after) > 1 else None,
        "least": min(after),
        "greedy": fmean(score["greedy"]["end"] for score in scores),
        "seconds": fmean(row["seconds"] for row in rows),
    }


def write(page: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The table as Markdown, best first, between the page's marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    lines = ["| " + " | ".join(header for header, _ in COLUMNS.values()) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    for row in sorted(rows, key=lambda row: row["after"], reverse=True):
        cells = [format(row[key], form) if row[key] is not None else "-" for key, (_, form) in COLUMNS.items()]
        lines.append("| " + " | ".join(cells) + " |")
    stamp = time.strftime("%Y-%m-%d")
    table = "\n".join([f"Made by `python -m benchmarks.methods` on {stamp}.", "", *lines, ""])
    page.write_text(f"{before}{MARKS[0]}{table}{MARKS[1]}{rest.split(MARKS[1], 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
