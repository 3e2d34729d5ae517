"""The sandbox: programs that a model wrote, run where they can do no harm, and values are all that comes back.

A ``Sandbox`` keeps a few workers (worker.py starts them, zygote.py is what they run, tree.py their world). For each
program a worker makes a process and shuts it in (jail.py, landlock.py, seccomp.py); python.py runs the program there,
and run.py in the trainer reads what it writes and believes none of it. pool.py keeps all workers busy; probing.py finds
out by attacks which back end holds. Expected answers never enter: whoever calls compares.
"""

from __future__ import annotations

from verifiers.sandbox.probing import Report, probe
from verifiers.sandbox.sandbox import Sandbox
from verifiers.sandbox.types import Limits, Program, Result, SandboxError, SandboxUnavailable

__all__ = ["Limits", "Program", "Report", "Result", "Sandbox", "SandboxError", "SandboxUnavailable", "probe"]
