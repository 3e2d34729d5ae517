"""The command line around ``main``: usage when it is empty, short spellings, and the nearest word after a wrong one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from selfplay.compose import ConfigError, register_resolvers
from selfplay.hints import alias, hint

USAGE = """Sparring: self-play for language models, with verifiers you can swap. Type one of

  python main.py env=lsp verifier=selfjudge       train the embedded model against itself, on this machine
  python main.py env=lsp verifier=sympy_solver    the same game, judged by exact mathematics
  python main.py experiment=lsp                   a paper's method (also lsp_zero, grpo)
  python main.py mode=play seats.solver=human     take a seat yourself
  python main.py mode=list                        every game, verifier and learner that is found
  python main.py mode=doctor                      what holds on this machine
  python main.py --help                           all groups and keys
"""


def run(main: Callable[[], None], words: Sequence[str]) -> int:
    """Call Hydra's ``main`` with the words of the command line; returns the exit status."""
    if not words:
        print(USAGE, end="")
        return 0
    register_resolvers()
    sys.path.append(os.getcwd())  # so that a plugin beside the user is found
    try:
        sys.argv[1:] = alias(words)
        main()
    except ConfigError as error:  # Hydra has not seen the words yet
        print(f"sparring: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # a traceback of where it happened to be says nothing
        print("sparring: interrupted; a run that was on its way goes on with resume=<run folder>", file=sys.stderr)
        return 130
    except SystemExit as stop:
        nearest = hint(sys.argv[1:]) if stop.code == 1 else None
        if nearest:
            print(f"sparring: {nearest}", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else 1
    return 0
