"""Language Self-Play (arXiv 2509.07414) as a PettingZoo environment: ``pettingzoo.make("aec", "sparring/lsp_v0")``."""

from functools import partial

from envs import shipped

raw_env = partial(shipped.raw, "lsp")
env = partial(shipped.aec, "lsp")
parallel_env = partial(shipped.parallel, "lsp")
