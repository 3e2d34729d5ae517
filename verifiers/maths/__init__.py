"""Maths without ``eval``: text to a syntax tree under budgets, exact rationals in process, symbols in a worker.

Only ``symbolic`` and ``program`` import sympy and mpmath, and they run in the killable worker, never in the trainer.
"""
