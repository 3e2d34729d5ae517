"""Run commands of ``main.py`` one after the other in this process: ``python -m tests.run_commands < commands.json``.

Standard input is a JSON list of lists of words; the last line of standard output is the list of exit codes. One process
loads torch and transformers once, and each command is composed, built and run as from the shell.
"""

from __future__ import annotations

import json
import runpy
import sys


def run(words: list[str]) -> int:
    """The exit code of ``python main.py <words>``."""
    print(f"$ python main.py {' '.join(words)}", flush=True)
    sys.argv = ["main.py", *words]
    try:
        runpy.run_path("main.py", run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


if __name__ == "__main__":
    codes = [run(words) for words in json.load(sys.stdin)]
    print("\n" + json.dumps(codes))
