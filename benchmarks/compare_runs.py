"""One figure of several runs: ``python -m benchmarks.compare_runs docs/figures/x.png lsp=runs/a,runs/b zero=runs/c``.

Each label takes one or more run folders (seeds): the line is their mean, the band their minimum and maximum.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from selfplay.curves import compare

KEYS = ("eval/heldout_accuracy", "eval/heldout_accuracy_greedy", "proposals/valid_share")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="label=folder,folder")
    parser.add_argument("--keys", nargs="+", default=list(KEYS))
    options = parser.parse_args()
    labelled = {
        label: [Path(f) for f in folders.split(",")] for label, _, folders in (r.partition("=") for r in options.runs)
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(compare(labelled, options.out, options.keys))


if __name__ == "__main__":
    main()
