"""Run commands of ``main.py`` one after the other in this process: ``python -m tests.run_commands < commands.json``.

Standard input is a JSON list of lists of words; the last line of standard output is the list of exit codes. One process
loads torch and transformers once, and each command is composed, built and run as from the shell.
"""

from __future__ import annotations

import json
import sys

import main


def run(commands: list[list[str]]) -> list[int]:
    codes: list[int] = []
    for words in commands:
        print(f"$ python main.py {' '.join(words)}", flush=True)
        codes.append(main.cli(words))
    return codes


if __name__ == "__main__":
    print("\n" + json.dumps(run(json.load(sys.stdin))))
