"""Program, input and output: deduction, abduction and induction (Absolute Zero, arXiv 2505.03335) as a game."""

from functools import partial

from envs import shipped

raw_env = partial(shipped.raw, "triplets")
env = partial(shipped.aec, "triplets")
parallel_env = partial(shipped.parallel, "triplets")
