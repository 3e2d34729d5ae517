"""The games: rules, views and payoffs; text only. Importing this registers them with PettingZoo."""

import pettingzoo

NAMES = (
    "classroom", "code", "critique", "debate", "document", "duel", "fragments", "kuhn_poker", "liars_dice", "lsp",
    "negotiation", "prisoners_dilemma", "red_team", "roundtable", "taboo", "tictactoe", "triplets", "twenty_questions",
    "werewolf",
)  # fmt: skip
"""The games that Sparring ships; each is ``conf/env/<name>.yaml``, and ``envs/<name>.py``."""

for _name in NAMES:
    pettingzoo.register("aec", f"sparring/{_name}_v0", f"envs.{_name}:env")
    pettingzoo.register("parallel", f"sparring/{_name}_v0", f"envs.{_name}:parallel_env")
