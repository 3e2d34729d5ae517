"""Programming tasks with sealed tests as a PettingZoo environment: ``pettingzoo.make("aec", "sparring/code_v0")``."""

from functools import partial

from envs import shipped

raw_env = partial(shipped.raw, "code")
env = partial(shipped.aec, "code")
parallel_env = partial(shipped.parallel, "code")
