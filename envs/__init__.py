"""The games: rules, views and payoffs; text only. Importing this registers them with PettingZoo."""

import pettingzoo

for _name in ("code", "critique", "document", "duel", "fragments", "lsp", "taboo", "triplets"):
    pettingzoo.register("aec", f"sparring/{_name}_v0", f"envs.{_name}:env")
    pettingzoo.register("parallel", f"sparring/{_name}_v0", f"envs.{_name}:parallel_env")
