"""Fragments of text that a small model writes on: continuation, question and answer, code; as a game."""

from functools import partial

from envs import shipped

raw_env = partial(shipped.raw, "fragments")
env = partial(shipped.aec, "fragments")
parallel_env = partial(shipped.parallel, "fragments")
