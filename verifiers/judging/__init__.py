"""What every judge shares: frames that a player cannot close, rules before the call, the rubric, strict readers,
canaries, and one way to ask a model."""
