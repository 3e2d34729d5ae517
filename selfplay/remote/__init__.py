"""Any OpenAI-compatible server, for judges and for players: one client, with its key, budget, cache and queue."""
