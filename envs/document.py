"""Question and sealed answer from a document that the Solver does not see (SPICE, arXiv 2510.24684) as a game."""

from functools import partial

from envs import shipped

raw_env = partial(shipped.raw, "document")
env = partial(shipped.aec, "document")
parallel_env = partial(shipped.parallel, "document")
